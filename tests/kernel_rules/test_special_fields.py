"""Protects btf/kernel_rules/special_fields: locks, lists, trees, reference counts, tagged pointers.

The verdicts are kernel 7.2.13's own, which was given such files and their mutants.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import btf
from btf.kernel_rules import rules
from btf.kernel_rules.rules import RULES
from support.btfwriter import Writer, bitfield

Build = Callable[["Special"], object]


class Special(Writer):
    """A file with the special types, by their names without ``bpf_``."""

    def __init__(self) -> None:
        super().__init__()
        self.number = self.int("int", 4)
        self.long = self.int("u64", 8)
        self.spin_lock = self._opaque("bpf_spin_lock", self.number, 1)
        self.res_spin_lock = self._opaque("bpf_res_spin_lock", self.number, 1)
        self.refcount = self._opaque("bpf_refcount", self.number, 1)
        self.list_head = self._opaque("bpf_list_head", self.long, 2)
        self.list_node = self._opaque("bpf_list_node", self.long, 3)
        self.rb_root = self._opaque("bpf_rb_root", self.long, 2)
        self.rb_node = self._opaque("bpf_rb_node", self.long, 4)
        self.node = self.struct("node", 24, [("n", self.list_node, 0)])

    def _opaque(self, name: str, of: int, count: int) -> int:
        size = count * (4 if of == self.number else 8)
        return self.struct(name, size, [("opaque", self.array(of, self.number, count), 0)])

    def list_of(self, name: str, tag: str, lock: bool = True, node: bool = False) -> int:
        """A struct with a list, which the tag says more of."""
        members = [("list", self.list_head, 64)]
        if lock:
            members.insert(0, ("lock", self.spin_lock, 0))
        if node:
            members.append(("node", self.list_node, 192))
        struct = self.struct(name, 48, members)
        self.decl_tag(tag, struct, int(lock))
        return struct

    def kptr(self, tag: str = "kptr", target: int | None = None) -> int:
        return self.ptr(self.type_tag(tag, self.node if target is None else target))

    def kptrs(self, count: int) -> int:
        """A struct of so many tagged pointers, all but one in an array."""
        one = self.kptr()
        others = self.array(one, self.number, count - 1)
        return self.struct("a", 8 * count, [("one", one, 0), ("others", others, 64)])

    def pair(self, one: int, other: int, apart: int = 32, size: int = 64) -> int:
        return self.struct("pair", size, [("one", one, 0), ("other", other, apart)])

    def owners(self, count: int) -> None:
        """Structs that own the next one each."""
        for number in range(count - 1):
            self.list_of(f"own{number}", f"contains:own{number + 1}:node", node=True)
        self.struct(f"own{count - 1}", 48, [("node", self.list_node, 0)])

    def nested(self, count: int) -> None:
        """That many structs around a lock."""
        inner = self.spin_lock
        for number in range(count):
            inner = self.struct(f"s{number}", 4, [("s", inner, 0)])
        self.pair(inner, self.refcount)


# For each rule: what breaks it, and what is as near to that as can be and keeps it.
CASES: dict[str, tuple[Build, Build]] = {
    "FIELD_NONE": (
        lambda w: w.struct("s", 8, [("lock", w.spin_lock, 8)]),
        lambda w: w.struct("s", 8, [("lock", w.spin_lock, 32)]),
    ),
    "FIELD_REPEATED": (
        lambda w: w.pair(w.spin_lock, w.struct("in", 4, [("l", w.spin_lock, 0)])),
        lambda w: w.pair(w.spin_lock, w.struct("in", 4, [("l", w.refcount, 0)])),
    ),
    "FIELD_COUNT": (lambda w: w.kptrs(12), lambda w: w.kptrs(11)),
    "FIELD_BIT": (
        lambda w: w.struct("s", 8, [("b", w.number, bitfield(3, 4)), ("l", w.spin_lock, 32)], 1),
        lambda w: w.struct("s", 8, [("b", w.number, bitfield(3, 8)), ("l", w.spin_lock, 32)], 1),
    ),
    "FIELD_DEPTH": (lambda w: w.nested(32), lambda w: w.nested(31)),
    "FIELD_KPTR": (
        lambda w: w.pair(w.kptr(), w.kptr("kptr", w.number), 64),
        lambda w: w.pair(w.kptr(), w.kptr("user", w.number), 64),
    ),
    "FIELD_ROOT": (
        lambda w: w.list_of("l", "contains:nobody:n"),
        lambda w: w.list_of("l", "contains:node:n"),
    ),
    "FIELD_NODE": (
        lambda w: w.list_of("l", "contains:node:m"),
        lambda w: w.list_of("l", "contains:node:n"),
    ),
    "FIELD_ORDER": (
        lambda w: w.pair(w.spin_lock, w.refcount, 0),
        lambda w: w.pair(w.spin_lock, w.refcount, 32),
    ),
    "FIELD_LOCK": (
        lambda w: w.list_of("l", "contains:node:n", lock=False),
        lambda w: w.list_of("l", "contains:node:n"),
    ),
    "FIELD_REFCOUNT": (
        lambda w: w.pair(w.list_node, w.rb_node, 192),
        lambda w: w.struct(
            "s", 64, [("a", w.list_node, 0), ("b", w.rb_node, 192), ("c", w.refcount, 448)]
        ),
    ),
    "FIELD_OWNERSHIP": (lambda w: w.owners(9), lambda w: w.owners(8)),
}
# What a list contains has its node, and so is a struct with a special field.
NEVER = {"FIELD_VALUE"}


def check(build: Build, release: str = "7.3") -> btf.KernelRefusal | None:
    writer = Special()
    build(writer)
    try:
        btf.check_kernel_rules(writer.to_bytes(), release=release)
    except btf.KernelRefusal as refusal:
        return refusal
    return None


@pytest.mark.parametrize("case", CASES)
def test_what_breaks_a_rule_is_refused_by_it_and_what_just_keeps_it_is_not(case: str) -> None:
    rule = RULES[getattr(rules, case)]
    assert rule is not None
    broken, kept = CASES[case]
    refusal = check(broken)
    assert refusal is not None and (refusal.source, refusal.words) == (rule.source, "")
    assert rule.what in refusal.message
    assert check(kept) is None
    assert check(broken, "6.11") is None


def test_every_rule_has_a_case() -> None:
    named = {name for name in vars(rules) if name.startswith("FIELD_")}
    assert named == {*CASES, *NEVER}


def test_a_lock_of_the_other_kind_since_6_15() -> None:
    def both(w: Special) -> None:
        w.pair(w.spin_lock, w.res_spin_lock)

    assert check(both, "6.14") is None and check(both, "6.15") is not None


def test_any_other_tag_before_7_2() -> None:
    """Before, a pointer in such a struct had one tag, of those that are known."""

    def tagged(w: Special) -> None:
        w.struct("s", 16, [("lock", w.spin_lock, 0), ("p", w.kptr("user"), 64)])

    assert check(tagged, "7.1") is not None and check(tagged, "7.2") is None


def test_many_structs_in_each_other_take_no_longer_than_there_are() -> None:
    """Each is in the one before it twice: two to the power of thirty ways lead to the last."""

    def build(w: Special) -> None:
        inner = w.struct("last", 0)
        for number in range(30):
            inner = w.struct(f"s{number}", 0, [("a", inner, 0), ("b", inner, 0)])
        w.pair(w.spin_lock, inner)

    assert check(build) is None
