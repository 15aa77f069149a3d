"""Protects btf/kernel_rules: each rule of the kernel's verifier, broken and kept, and since when.

The verdicts are the kernel's own: its selftests' tables (prog_tests/btf.c of 5.10, 6.1, 6.12, 7.2
and 7.3) and mutants that kernels 5.10, 6.1, 6.12 and 7.2 were given agree with these rules.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import btf
from btf.kernel_rules import rules
from btf.kernel_rules.rules import NEWEST, OLDEST, RULES, Rule
from support import btfwriter as b
from support.btfwriter import Writer, bitfield

Build = Callable[[Writer], Any]
INT = 1  # the id of ``int``, which each file begins with


def built(build: Build) -> bytes:
    """A file with ``int`` and what ``build`` adds to it; or what that gives back."""
    writer = Writer()
    writer.int("int", 4)
    made = build(writer)
    return made if isinstance(made, bytes) else writer.to_bytes()


def member(offset: int, target: int = INT, size: int = 8, kind_flag: int = 0) -> Build:
    return lambda w: w.struct("s", size, [("a", target, offset)], kind_flag)


def typedefs(count: int) -> Build:
    """That many typedefs, each of the one before it."""

    def build(w: Writer) -> None:
        for number in range(count):
            w.typedef(f"t{number}", number + 1)

    return build


def chain(count: int) -> Build:
    """That many typedefs, each of the next one."""

    def build(w: Writer) -> None:
        for number in range(count):
            w.typedef(f"t{number}", w.next_id + 1)
        w.int("last", 4)

    return build


def nested(count: int) -> Build:
    """That many structs, each in the one before it."""

    def build(w: Writer) -> None:
        for number in range(count - 1):
            w.struct(f"s{number}", 4, [("a", w.next_id + 1, 0)])
        w.struct("last", 4, [("a", INT, 0)])

    return build


def both(*builds: Build) -> Build:
    def build(w: Writer) -> None:
        for one in builds:
            one(w)

    return build


def sized(member_target: Callable[[Writer], int], offset: int, size: int, flag: int = 0) -> Build:
    """A struct of one member, whose type is made first."""
    return lambda w: w.struct("s", size, [("a", member_target(w), offset)], flag)


def var(target: int = INT) -> Build:
    return lambda w: w.var("v", target)


def section(size: int, *entries: tuple[int, int, int], name: Any = ".data") -> Build:
    return both(var(), lambda w: w.datasec(name, size, entries))


def proto(*params: tuple[Any, int], returns: int = INT, variadic: bool = False) -> Build:
    return lambda w: w.func_proto(returns, params, variadic)


def function(*params: tuple[Any, int]) -> Build:
    return lambda w: w.func("f", w.func_proto(INT, params))


def tagged(target: Build, component: int) -> Build:
    return both(target, lambda w: w.decl_tag("tag", w.next_id - 1, component))


def plain(
    kind: int, name: Any = 0, third: int = 0, *rest: int, vlen: int = 0, flag: int = 0
) -> Build:
    return lambda w: w.type(kind, name, third, rest, vlen, flag)


def file(**fields: Any) -> Build:
    return lambda w: w.to_bytes(**fields)


def long_file(**fields: Any) -> Build:
    """With a layout section."""
    return lambda w: w.to_bytes(32, layout=b.full_layout(), **fields)


def strings(text: bytes) -> Build:
    return lambda w: w.to_bytes(strings=text)


def swapped(w: Writer) -> bytes:
    """Strings before types, which a header of 24 bytes must not say."""
    types, text = w.type_section(), w.string_section() + b"\0" * 3
    return b.assemble(
        text, types, type_off=len(text), str_off=0, type_len=len(types), str_len=len(text)
    )


def enumerators(count: int) -> Build:
    return lambda w: w.enum("e", 4, [("a", 0)] * count)


def pointer_to_later_function(w: Writer) -> None:
    w.ptr(w.next_id + 1)
    w.func("f", w.next_id + 1)
    w.func_proto(0)


def bad_offset(word: int, build: Build) -> Build:
    """The last type's word ``word`` names a string beyond the end."""
    return both(build, lambda w: w.patch(w.next_id - 1, word, 1 << 20))


def int_data(data: int, size: int = 4) -> Build:
    return plain(b.INT, "odd", size, data)


def untouched(w: Writer) -> None:
    """The file as it is."""


_MEMBERS_AB = [("a", INT, 0), ("b", INT, 32)]

# For each rule: what breaks it, and what is as near to that as can be and keeps it.
CASES: dict[str, tuple[Build, Build]] = {
    "TOO_LARGE": (
        lambda w: b.assemble(w.type_section(), w.string_section().ljust((16 << 20) - 39, b"\0")),
        lambda w: b.assemble(w.type_section(), w.string_section().ljust((16 << 20) - 40, b"\0")),
    ),
    "HEADER_SHORT": (lambda w: w.to_bytes()[:7], untouched),
    "HEADER_CUT": (file(hdr_len=1 << 20), untouched),
    "HEADER_LONG": (
        lambda w: w.to_bytes(32, header_extra=b"\0\0\0\1"),
        lambda w: w.to_bytes(32, header_extra=b"\0\0\0\0"),
    ),
    "MAGIC": (file(magic=0xEB9E), untouched),
    "VERSION": (file(version=2), untouched),
    "FLAGS": (file(flags=1), untouched),
    "NO_DATA": (lambda w: b.assemble(b"", b""), untouched),
    "SECTION_OFFSET": (file(str_off=1 << 20), untouched),
    "SECTION_GAP": (file(gap=b"\0\0\0\0"), untouched),
    "SECTION_OVERLAP": (file(str_off=12), untouched),
    "SECTION_LENGTH": (file(str_len=100), untouched),
    "STRINGS_NOT_LAST": (swapped, untouched),
    "STRINGS_INVALID": (strings(b"\0int"), strings(b"\0int\0")),
    "LAYOUT_ALIGNMENT": (
        lambda w: b.assemble(
            w.type_section(),
            b"\0int\0" + bytes(80),
            header_bytes=32,
            str_len=5,
            layout_off=16 + 5,
            layout_len=80,
        ),
        long_file(),
    ),
    "LAYOUT_SMALL": (
        lambda w: b.assemble(
            w.type_section(),
            bytes(3) + b"\0int\0",
            header_bytes=32,
            str_off=19,
            str_len=5,
            layout_off=16,
            layout_len=3,
        ),
        long_file(),
    ),
    "LAYOUT_LENGTH": (
        lambda w: b.assemble(
            w.type_section(),
            bytes(5) + b"\0int\0",
            header_bytes=32,
            str_off=21,
            str_len=5,
            layout_off=16,
            layout_len=5,
        ),
        long_file(),
    ),
    "TYPES_ALIGNMENT": (
        lambda w: b.assemble(
            w.string_section(),
            w.type_section(),
            header_bytes=32,
            type_off=5,
            type_len=16,
            str_off=0,
            str_len=5,
        ),
        lambda w: b.assemble(
            w.string_section() + bytes(3),
            w.type_section(),
            header_bytes=32,
            type_off=8,
            type_len=16,
            str_off=0,
            str_len=8,
        ),
    ),
    "NO_TYPES": (lambda w: b.assemble(b"", b"\0"), untouched),
    "META_LEFT": (file(type_len=14, str_off=14, str_len=7), untouched),
    "INFO": (enumerators(1 << 16), enumerators((1 << 16) - 1)),
    "KIND": (plain(20), plain(b.ENUM64, 0, 8)),
    "NAME_OFFSET": (plain(b.PTR, 1 << 20), plain(b.PTR)),
    "INT_VLEN": (plain(b.INT, "a", 4, 32, vlen=1), plain(b.INT, "a", 4, 32)),
    "INT_KIND_FLAG": (plain(b.INT, "a", 4, 32, flag=1), plain(b.INT, "a", 4, 32)),
    "INT_DATA": (int_data(1 << 28 | 32), int_data(1 << 24 | 32)),
    "INT_BITS": (int_data(129, 32), int_data(128, 16)),
    "INT_SIZE": (int_data(33), int_data(8 << 16 | 24)),
    "INT_ENCODING": (int_data(3 << 24 | 32), int_data(4 << 24 | 32)),
    "REF_VLEN": (plain(b.CONST, vlen=1), plain(b.CONST)),
    "REF_KIND_FLAG": (plain(b.CONST, flag=1), plain(b.CONST)),
    "TYPE_TAG_KIND_FLAG": (plain(b.TYPE_TAG, "t", INT, flag=1), plain(b.TYPE_TAG, "t", INT)),
    "REF_TYPE": (plain(b.PTR, 0, 1 << 20), plain(b.PTR, 0, INT)),
    "TYPEDEF_NAME": (plain(b.TYPEDEF, "a-b", INT), plain(b.TYPEDEF, "a.b_9", INT)),
    "TYPE_TAG_NAME": (plain(b.TYPE_TAG, 0, INT), plain(b.TYPE_TAG, "a-b", INT)),
    "REF_NAME": (plain(b.PTR, "a"), plain(b.PTR)),
    "FWD_VLEN": (plain(b.FWD, "f", vlen=1), plain(b.FWD, "f", flag=1)),
    "FWD_TYPE": (plain(b.FWD, "f", INT), plain(b.FWD, "f")),
    "FWD_NAME": (plain(b.FWD), plain(b.FWD, "f")),
    "ARRAY_NAME": (plain(b.ARRAY, "a", 0, INT, INT, 2), plain(b.ARRAY, 0, 0, INT, INT, 2)),
    "ARRAY_VLEN": (plain(b.ARRAY, 0, 0, INT, INT, 2, vlen=1), plain(b.ARRAY, 0, 0, INT, INT, 0)),
    "ARRAY_KIND_FLAG": (
        plain(b.ARRAY, 0, 0, INT, INT, 2, flag=1),
        plain(b.ARRAY, 0, 0, INT, INT, 2),
    ),
    "ARRAY_SIZE": (plain(b.ARRAY, 0, 8, INT, INT, 2), plain(b.ARRAY, 0, 0, INT, INT, 2)),
    "ARRAY_ELEMENT": (plain(b.ARRAY, 0, 0, 0, INT, 2), plain(b.ARRAY, 0, 0, INT, INT, 2)),
    "ARRAY_INDEX": (plain(b.ARRAY, 0, 0, INT, 0, 2), plain(b.ARRAY, 0, 0, INT, INT, 2)),
    "STRUCT_NAME": (lambda w: w.struct("9", 4), lambda w: w.struct(0, 4)),
    "MEMBER_NAME_OFFSET": (bad_offset(3, member(0)), member(0)),
    "MEMBER_NAME": (
        lambda w: w.struct("s", 4, [("a b", INT, 0)]),
        lambda w: w.struct("s", 4, [(0, INT, 0)]),
    ),
    "MEMBER_TYPE": (member(0, 0), member(0)),
    "UNION_OFFSET": (
        lambda w: w.union("u", 8, [("a", INT, 32)]),
        lambda w: w.union("u", 8, [("a", INT, 0), ("b", INT, 0)]),
    ),
    "MEMBER_ORDER": (
        lambda w: w.struct("s", 8, _MEMBERS_AB[::-1]),
        lambda w: w.struct("s", 8, _MEMBERS_AB),
    ),
    "MEMBER_BEYOND": (
        member(72),
        lambda w: w.struct("s", 4, [("a", INT, 0), ("b", w.array(INT, INT, 0), 32)]),
    ),
    "ENUM_KIND_FLAG": (lambda w: w.enum("e", 4, signed=True), lambda w: w.enum("e", 4)),
    "ENUM_SIZE": (lambda w: w.enum("e", 3), lambda w: w.enum("e", 8)),
    "ENUM_NAME": (lambda w: w.enum("e!"), lambda w: w.enum(0)),
    "ENUMERATOR_NAME_OFFSET": (
        bad_offset(3, lambda w: w.enum64("e", 8, [("a", 1)])),
        lambda w: w.enum64("e", 8, [("a", 1)]),
    ),
    "ENUMERATOR_NAME": (lambda w: w.enum("e", 4, [(0, 1)]), lambda w: w.enum("e", 4, [("a", 1)])),
    "PROTO_NAME": (plain(b.FUNC_PROTO, "p"), plain(b.FUNC_PROTO)),
    "PROTO_KIND_FLAG": (plain(b.FUNC_PROTO, flag=1), plain(b.FUNC_PROTO)),
    "FUNC_NAME": (lambda w: w.func(0, w.func_proto(0)), lambda w: w.func("f", w.func_proto(0))),
    "FUNC_LINKAGE": (
        lambda w: w.func("f", w.func_proto(0), b.EXTERN),
        lambda w: w.func("f", w.func_proto(0), b.GLOBAL),
    ),
    "FUNC_KIND_FLAG": (
        lambda w: w.type(b.FUNC, "f", w.func_proto(0), kind_flag=1),
        lambda w: w.func("f", w.func_proto(0)),
    ),
    "VAR_VLEN": (plain(b.VAR, "v", INT, 0, vlen=1), var()),
    "VAR_KIND_FLAG": (plain(b.VAR, "v", INT, 0, flag=1), var()),
    "VAR_NAME": (plain(b.VAR, 0, INT, 0), var()),
    "VAR_TYPE": (plain(b.VAR, "v", 0, 0), var()),
    "VAR_LINKAGE": (plain(b.VAR, "v", INT, 2), plain(b.VAR, "v", INT, 1)),
    "SECTION_VLEN": (section(4), section(4, (2, 0, 4))),
    "SECTION_SIZE": (section(0), section(4, (2, 0, 4))),
    "SECTION_KIND_FLAG": (plain(b.DATASEC, ".data", 4, flag=1), section(4, (2, 0, 4))),
    "SECTION_NAME": (section(4, (2, 0, 4), name=b"a\tb"), section(4, (2, 0, 4), name="._9")),
    "VARIABLE_TYPE": (section(4, (0, 0, 4)), section(4, (2, 0, 4))),
    "VARIABLE_OFFSET": (section(8, (2, 0, 4), (2, 3, 4)), section(8, (2, 0, 4), (2, 4, 4))),
    "VARIABLE_SIZE": (section(8, (2, 0, 0)), section(8, (2, 0, 8))),
    "VARIABLE_END": (section(8, (2, 5, 4)), section(9, (2, 5, 4))),
    # Two entries whose ends are added in 32 bits: the sum is larger than the section all the same.
    "SECTION_SUM": (
        section(0xF0000000, (2, 0x80000000, 0xF0000000), (2, 0x70000000, 0x10000000)),
        section(0xF0000000, (2, 0, 0xF0000000)),
    ),
    "FLOAT_VLEN": (plain(b.FLOAT, "f", 4, vlen=1), plain(b.FLOAT, "f", 4)),
    "FLOAT_KIND_FLAG": (plain(b.FLOAT, "f", 4, flag=1), plain(b.FLOAT, "f", 4)),
    "FLOAT_SIZE": (plain(b.FLOAT, "f", 10), plain(b.FLOAT, "f", 12)),
    "DECL_TAG_VALUE": (
        lambda w: w.decl_tag(0, w.typedef("t", INT)),
        lambda w: w.decl_tag("a b", w.typedef("t", INT)),
    ),
    "DECL_TAG_VLEN": (
        both(var(), plain(b.DECL_TAG, "tag", 2, -1, vlen=1)),
        both(var(), plain(b.DECL_TAG, "tag", 2, -1)),
    ),
    "DECL_TAG_KIND_FLAG": (
        both(var(), plain(b.DECL_TAG, "tag", 2, -1, flag=1)),
        both(var(), plain(b.DECL_TAG, "tag", 2, -1)),
    ),
    "DECL_TAG_INDEX": (tagged(member(0), -2), tagged(member(0), -1)),
    "TOO_DEEP": (nested(33), nested(32)),
    "LOOP": (lambda w: w.typedef("t", w.next_id), typedefs(3)),
    "NO_SUCH_TARGET": (lambda w: w.ptr(99), lambda w: w.ptr(0)),
    "SIZELESS_TARGET": (
        pointer_to_later_function,
        lambda w: w.ptr(w.func_proto(0)),
    ),
    "VAR_TARGET": (lambda w: w.var("v", w.fwd("f")), lambda w: w.var("v", w.ptr(w.fwd("f")))),
    "INDEX_TARGET": (
        lambda w: w.array(INT, w.ptr(0), 2),
        lambda w: w.array(INT, w.typedef("t", INT), 2),
    ),
    "ELEMENT_TARGET": (lambda w: w.array(w.fwd("f"), INT, 2), lambda w: w.array(w.ptr(0), INT, 2)),
    "ELEMENT_INT": (
        lambda w: w.array(w.int("odd", 4, bits=7), INT, 2),
        lambda w: w.array(w.int("even", 1), INT, 2),
    ),
    "ARRAY_OVERFLOW": (
        lambda w: w.array(INT, INT, 0x40000000),
        lambda w: w.array(INT, INT, 0x3FFFFFFF),
    ),
    "MEMBER_TARGET": (sized(lambda w: w.fwd("f"), 0, 8), sized(lambda w: w.ptr(w.fwd("f")), 0, 8)),
    "SECTION_TARGET": (section(4, (INT, 0, 4)), section(4, (2, 0, 4))),
    "SECTION_ENTRY_SIZE": (section(4, (2, 0, 3)), section(5, (2, 0, 5))),
    "TAG_TARGET": (
        lambda w: w.decl_tag("tag", INT),
        lambda w: w.decl_tag("tag", w.typedef("t", INT)),
    ),
    "TAG_COMPONENT": (tagged(function(("a", INT)), 1), tagged(function(("a", INT)), 0)),
    "MEMBER_INT_OFFSET": (
        # An INT that begins at its bit 8, in a struct of half a gigabyte.
        sized(lambda w: w.int("i", 4, bits=24, offset=8), 0xFFFFFFF8, 1 << 29),
        sized(lambda w: w.int("i", 4, bits=16, offset=8), 0xFFFFFFF8 - 32, 1 << 29),
    ),
    "MEMBER_COPY_BITS": (
        sized(lambda w: w.int("i", 16), 4, 32),
        sized(lambda w: w.int("i", 16), 8, 32),
    ),
    "MEMBER_EXCEEDS": (member(8, size=4), member(0, size=4)),
    "MEMBER_UNALIGNED": (sized(lambda w: w.ptr(0), 4, 16), sized(lambda w: w.ptr(0), 8, 16)),
    "MEMBER_INT_UNALIGNED": (member(4, kind_flag=1), member(bitfield(3, 4), kind_flag=1)),
    "MEMBER_BASE_TYPE": (
        sized(lambda w: w.int("i", 4, bits=31), 0, 4, 1),
        sized(lambda w: w.int("i", 4, bits=31), 0, 4),
    ),
    "MEMBER_BITFIELD": (
        sized(lambda w: w.ptr(0), bitfield(64, 0), 8, 1),
        sized(lambda w: w.ptr(0), bitfield(0, 0), 8, 1),
    ),
    "MEMBER_FLOAT_ALIGNMENT": (
        sized(lambda w: w.float("f", 8), 32, 16),
        sized(lambda w: w.float("f", 4), 32, 16),
    ),
    "RETURN_TYPE": (lambda w: w.func_proto(w.fwd("f")), lambda w: w.func_proto(w.ptr(w.fwd("f")))),
    "RETURN_SOURCE": (both(var(), proto(returns=2)), proto(returns=0)),
    "PARAMETER": (proto(("a", 0), ("b", INT)), proto(("a", INT), variadic=True)),
    "FUNC_TARGET": (lambda w: w.func("f", INT), function()),
    "FUNC_PARAMETER": (function((0, INT)), function(("a", INT), (0, 0))),
    "TAG_ORDER": (
        lambda w: w.ptr(w.const(w.type_tag("t", INT))),
        lambda w: w.ptr(w.type_tag("t", w.const(INT))),
    ),
    # A program's would be found to be too deep, or to refer to nothing, before.
    "CHAIN": (chain(33), chain(32)),
    "CHAIN_END": (lambda w: w.typedef("t", 99), lambda w: w.typedef("t", INT)),
}
AS_VMLINUX = {"CHAIN", "CHAIN_END"}
# The kernel asks these too, of what others have made sure of before.
NEVER = {"RESOLVE_STATE", "SECTION_TYPE", "MEMBER_UNSUPPORTED"}
_LAST_MINOR = {5: 19, 6: 19}


def before(release: tuple[int, int]) -> tuple[int, int]:
    major, minor = release
    return (major, minor - 1) if minor else (major - 1, _LAST_MINOR[major - 1])


def check(case: str, build: Build, release: tuple[int, int]) -> btf.KernelRefusal | None:
    """What the kernel of a release would say; None if it would take it."""
    text = ".".join(map(str, release))
    way = "vmlinux" if case in AS_VMLINUX else "program"
    try:
        btf.check_kernel_rules(built(build), release=text, load_as=way, pointer_size=8)
    except btf.KernelRefusal as refusal:
        return refusal
    return None


def rule_of(case: str) -> Rule:
    rule = RULES[getattr(rules, case)]
    assert rule is not None
    return rule


def breaks(refusal: btf.KernelRefusal | None, rule: Rule) -> bool:
    if refusal is None:
        return False
    about = (refusal.source, refusal.words)
    return about == (rule.source, rule.words) and rule.what in refusal.message


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c == "TOO_LARGE" else c for c in CASES],
)
def test_what_breaks_a_rule_is_refused_by_it_and_what_just_keeps_it_is_not(case: str) -> None:
    rule = rule_of(case)
    release = before(rule.until) if rule.until else NEWEST
    broken, kept = CASES[case]
    refusal = check(case, broken, release)
    assert breaks(refusal, rule), refusal
    assert check(case, kept, release) is None


@pytest.mark.parametrize("case", [case for case in CASES if rule_of(case).since > OLDEST])
def test_rule_holds_from_its_release_on(case: str) -> None:
    rule, (broken, _) = rule_of(case), CASES[case]
    assert breaks(check(case, broken, rule.since), rule)
    assert not breaks(check(case, broken, before(rule.since)), rule)


@pytest.mark.parametrize("case", [case for case in CASES if rule_of(case).until])
def test_rule_is_gone_from_its_release_on(case: str) -> None:
    rule, (broken, _) = rule_of(case), CASES[case]
    assert rule.until is not None
    assert check(case, broken, rule.until) is None


def test_every_rule_has_a_case() -> None:
    """Here, in test_special_fields.py, or, of a module's file, in test_check_command.py."""
    elsewhere = {name for name in vars(rules) if name.startswith("FIELD_")} | {"NAME_UNMAPPED"}
    covered = {getattr(rules, name) for name in {*CASES, *NEVER, *elsewhere}}
    assert covered == set(range(1, len(RULES)))


@pytest.mark.parametrize(
    ("build", "first"),
    [
        (lambda w: w.float("f", 4), (5, 13)),
        (tagged(var(), -1), (5, 16)),
        (lambda w: w.type_tag("t", INT), (5, 17)),
        (lambda w: w.enum64("e", 8, [("a", 1)]), (6, 0)),
        (lambda w: w.struct("a" * 512, 4), (6, 1)),
        (section(4, (2, 0, 4), name="a b"), (6, 9)),
        (long_file(), (7, 1)),
        # A typedef of a function: since functions are resolved, what is behind one is a prototype.
        (lambda w: w.typedef("t", w.func("f", w.func_proto(0))), (5, 16)),
    ],
)
def test_what_a_release_learned_is_refused_before_it(build: Build, first: tuple[int, int]) -> None:
    assert check("", build, first) is None
    assert check("", build, before(first)) is not None
    assert check("", build, NEWEST) is None


def long_name(length: int) -> Build:
    return lambda w: w.struct("a" * length, 4)


def test_names_may_be_as_long_as_a_symbol_and_no_longer() -> None:
    for length, release in ((128, OLDEST), (512, NEWEST)):
        assert check("", long_name(length), release) is None
        assert check("", long_name(length + 1), release) is not None


@pytest.mark.parametrize(
    ("text", "good"), [(b"\xc3\x9f", False), (b"\xc3", True), (b"\xd7", False)]
)
def test_letters_are_those_of_the_kernels_ctype(text: bytes, good: bool) -> None:
    """Latin-1: UTF-8's second bytes are no letters."""
    assert (check("", lambda w: w.struct(text, 4), NEWEST) is None) == good


def test_the_refusal_says_where_what_and_what_the_kernel_says() -> None:
    data = built(lambda w: w.struct("s", 8, [("a", INT, 0), ("b c", INT, 32)]))
    with pytest.raises(btf.KernelRefusal) as raised:
        btf.check_kernel_rules(data, path="x.btf")
    error = raised.value
    assert (error.path, error.section, error.offset, error.type_id) == ("x.btf", "types", 40, 2)
    assert (error.source, error.words) == ("btf_struct_check_meta", "Invalid name")
    assert str(error).startswith("x.btf, types section, offset 40, type [2]: STRUCT s: a member's")
    assert str(error).endswith('says "Invalid name" (btf_struct_check_meta, since Linux 4.18)')
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error) and again.args == error.args
    assert error.at("y.btf").path == "x.btf" and isinstance(error.at(None), btf.KernelRefusal)
