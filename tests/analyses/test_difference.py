"""Protects ``btf.difference``: which type is to blame, how one gets there, and what is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import btf
from btf.compare import reasons
from btf.compare.alike import Fingerprinted
from support.btfwriter import EXTERN, STATIC, Writer, bitfield
from support.misses import small_kernel
from support.paths import DEMO

Write = Callable[[Writer], int]
LABELS = ("old", "new")


def compared(first: Write, second: Write) -> btf.Difference | None:
    """The difference of what two functions write; each returns the id of the type that counts."""
    found = []
    for write in (first, second):
        writer = Writer()
        type_id = write(writer)
        found.append(btf.parse(writer.to_bytes())[type_id])
    return btf.difference(*found, labels=LABELS)


def said(first: Write, second: Write) -> tuple[str, str]:
    """(reason, whole sentence)."""
    difference = compared(first, second)
    assert difference is not None
    assert difference.reason in reasons.REASONS
    return difference.reason, str(difference)


def plain(size: int = 4, member: str = "x", at: int = 0) -> Write:
    return lambda w: w.struct("bar", size, [(member, w.int("int", 4), at)])


@pytest.mark.parametrize(
    ("second", "reason", "words"),
    [
        (plain(16), reasons.SIZE, "struct bar: 4 bytes in old, 16 in new"),
        (plain(4, "y"), reasons.MEMBERS,
         "struct bar: no member in common: another type of this name"),
        (plain(4, "x", 32), reasons.OFFSET, "struct bar: `x`: at byte 0 in old, at byte 4 in new"),
        (lambda w: w.struct("bar", 4), reasons.MEMBERS,
         "struct bar: members: 1 in old, 0 in new; `x` only in old"),
        (lambda w: w.struct("bar", 4, [("x", w.int("unsigned int", 4, 0), 0)]),
         reasons.MEMBER_TYPE, "struct bar: `x`: int in old, unsigned int in new"),
        (lambda w: w.union("bar", 4, [("x", w.int("int", 4), 0)]),
         reasons.KIND, "union bar: struct bar in old, union bar in new"),
        (lambda w: w.fwd("bar"), reasons.DECLARED,
         "struct bar: new has only a forward declaration, old the definition"),
        (lambda w: w.fwd("bar", union=True), reasons.KIND,
         "union bar: struct bar in old, forward-declared bar in new"),
        (lambda w: w.struct("foo", 4, [("x", w.int("int", 4), 0)]), reasons.NAME,
         "struct foo: struct bar in old, struct foo in new, of the same shape"),
        (lambda w: w.struct("bar", 4, [("x", w.int("int", 8), 0)]), reasons.SIZE,
         "bar.x → int: 4 bytes in old, 8 in new"),
    ],
)  # fmt: skip
def test_a_struct_itself(second: Write, reason: str, words: str) -> None:
    assert said(plain(), second) == (reason, words)
    assert compared(second, second) is None


def test_members_are_told_by_name() -> None:
    def members(*names: str) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            return w.struct("s", 40, [(name, i, 32 * at) for at, name in enumerate(names)])

        return write

    assert said(members("a", "b", "c"), members("a", "c", "d"))[1] == (
        "struct s: `b` only in old; `d` only in new"
    )
    assert said(members("a", "b", "c"), members("a", "c", "b"))[1] == (
        "struct s: members in another order from `b` on"
    )
    assert said(members("a"), members("a", "b", "c", "d", "e", "f"))[1] == (
        "struct s: members: 1 in old, 6 in new; `b`, `c`, `d` and 2 more only in new"
    )


def test_bit_fields() -> None:
    def fields(bits: int, at: int) -> Write:
        return lambda w: w.struct("s", 4, [("f", w.int("int", 4), bitfield(bits, at))], kind_flag=1)

    assert said(fields(3, 0), fields(5, 0)) == (
        reasons.BITFIELD,
        "struct s: `f`: 3 bits in old, 5 bits in new",
    )
    assert said(fields(3, 0), fields(3, 4)) == (
        reasons.BITFIELD,
        "struct s: `f`: at bit 0 in old, at bit 4 in new",
    )
    no_field = fields(0, 0)
    assert said(fields(3, 0), no_field)[1].endswith("`f`: 3 bits in old, no bit field in new")
    assert said(no_field, lambda w: w.struct("s", 4, [("f", w.int("int", 4), 0)])) == (
        reasons.ENCODING,
        "struct s: encoded to hold bit fields in old, no bit fields in new",
    )


def test_three_levels_down() -> None:
    """The innermost type is named, and the way there; what merely points to it is not blamed."""

    def chain(size: int) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            bar = w.struct("bar", size, [("x", i, 0)])
            ops = w.struct("ops", 8, [("open", w.ptr(w.func_proto(i, [("it", w.ptr(bar))])), 0)])
            table = w.array(w.const(ops), i, 4)
            return w.struct("dev", 48, [("id", i, 0), ("table", table, 128)])

        return write

    reason, words = said(chain(48), chain(16))
    assert reason == reasons.SIZE
    assert words == "dev.table[] → ops.open(it) → struct bar: 48 bytes in old, 16 in new"


def test_what_an_embedded_type_moves_is_not_blamed() -> None:
    """A struct that grows because a struct inside it has grown differs in that one."""

    def nested(size: int) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            names = ("x", "y", "z")[: size // 4]
            bar = w.struct("bar", size, [(name, i, 32 * at) for at, name in enumerate(names)])
            foo = w.struct("foo", 4 + size, [("bar", w.typedef("bar_t", bar), 0),
                                             ("after", i, 8 * size)])  # fmt: skip
            return w.struct("dev", 8 + size, [("foos", w.array(foo, i, 1), 0),
                                              ("last", i, 32 + 8 * size)])  # fmt: skip

        return write

    assert said(nested(4), nested(12)) == (
        reasons.MEMBERS,
        "dev.foos[] → foo.bar → bar_t → struct bar: 4 bytes in old, 12 in new; "
        "members: 1 in old, 3 in new; `y`, `z` only in new",
    )


def test_moved_without_a_cause_inside() -> None:
    """Offsets differ and a member's type has grown, but is otherwise told by its array length."""

    def array(count: int) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            return w.struct(
                "s", 4 * count + 4, [("a", w.array(i, i, count), 0), ("b", i, 32 * count)]
            )

        return write

    words = "struct s: `a`: int[2] in old, int[3] in new"
    assert said(array(2), array(3)) == (reasons.MEMBER_TYPE, words)


def test_anonymous_members_belong_to_their_struct() -> None:
    def nested(inner: str) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            union = w.union(0, 4, [("a", i, 0), (inner, i, 0)])
            outer = w.struct(0, 4, [("", union, 0)])
            return w.struct("s", 8, [("in", outer, 0)])

        return write

    difference = compared(nested("b"), nested("c"))
    assert difference is not None and difference.first.name == "s"
    assert (difference.reason, difference.accessor) == (reasons.MEMBERS, ".in")
    assert difference.words == "in the anonymous union `in`: `b` only in old; `c` only in new"

    def anonymous(w: Writer, inner: str) -> int:
        i = w.int("int", 4)
        return w.typedef("s_t", w.struct(0, 4, [(inner, i, 0)]))

    assert said(lambda w: anonymous(w, "b"), lambda w: anonymous(w, "c"))[1] == (
        "s_t: in an anonymous struct: no member in common"
    )


def test_enums() -> None:
    def values(*given: tuple[str, int], **options: Any) -> Write:
        return lambda w: w.enum("mode", values=given, **options)

    assert said(values(("A", 0), ("B", 1)), values(("A", 0), ("B", 2), ("C", 3))) == (
        reasons.VALUES,
        "enum mode: `C` only in new; `B` is 1 in old, 2 in new",
    )
    assert said(values(("A", 0)), values()) == (
        reasons.DECLARED,
        "enum mode: new has only a forward declaration, old the definition",
    )
    assert said(values(("A", 0)), lambda w: w.enum64("mode", 8, [("A", 0)])) == (
        reasons.KIND,
        "enum mode: enum mode in old, enum64 mode in new",
    )
    assert said(values(("A", 0)), values(("A", 0), signed=True))[0] == reasons.ENCODING
    assert said(values(("A", 0)), values(("A", 0), size=1))[0] == reasons.SIZE


def test_identical_shape_and_different_name() -> None:
    def holder(name: str) -> Write:
        def write(w: Writer) -> int:
            inner = w.struct(name, 4, [("x", w.int("int", 4), 0)])
            return w.struct("s", 8, [("p", w.ptr(inner), 0)])

        return write

    assert said(holder("foo"), holder("bar")) == (
        reasons.MEMBER_TYPE,
        "struct s: `p`: struct foo * in old, struct bar * in new, of the same shape",
    )


def test_functions() -> None:
    def function(*names: str, linkage: int = STATIC, returns: bool = True) -> Write:
        def write(w: Writer) -> int:
            i = w.int("int", 4)
            proto = w.func_proto(i if returns else 0, [(name, i) for name in names])
            return w.func("do_it", proto, linkage)

        return write

    assert said(function("a"), function("a", linkage=EXTERN)) == (
        reasons.LINKAGE,
        "do_it(): static in old, extern in new",
    )
    assert said(function("a"), function("b")) == (
        reasons.PROTOTYPE,
        "do_it(): parameter 1 is `a` in old, `b` in new",
    )
    assert said(function("a"), function("a", "b"))[1] == (
        "do_it(): int (int) in old, int (int, int) in new"
    )
    assert said(function("a"), function("a", returns=False))[1] == (
        "do_it(): `do_it()`: int in old, void in new"
    )


def test_circles_end() -> None:
    """Types that refer to each other and to themselves; typedefs and pointers in a circle."""

    def ring(size: int) -> Write:
        def write(w: Writer) -> int:
            a = w.next_id
            w.struct("a", 16, [("self", a + 1, 0), ("b", a + 3, 64)])
            w.ptr(a)
            w.struct("b", size, [("a", a + 1, 0)])
            w.ptr(a + 2)
            w.typedef("again", a + 5)
            w.ptr(a + 4)
            return a

        return write

    assert compared(ring(8), ring(8)) is None
    assert said(ring(8), ring(16))[1] == "a.b → struct b: 8 bytes in old, 16 in new"
    assert compared(lambda w: ring(8)(w) + 4, lambda w: ring(8)(w) + 4) is None


def test_pairs_known_to_be_equal_are_not_walked() -> None:
    def write(w: Writer) -> int:
        inner = w.struct("inner", w.next_id, [])
        return w.struct("s", 8, [("p", w.ptr(inner), 0)])

    def other(w: Writer) -> int:
        w.int("int", 4)
        return write(w)

    writers = [Writer(), Writer()]
    ids = [write(writers[0]), other(writers[1])]
    first, second = (
        btf.parse(w.to_bytes())[type_id] for w, type_id in zip(writers, ids, strict=True)
    )
    assert btf.difference(first, second) is not None
    asked = []

    def same(one: btf.Type, other: btf.Type) -> bool:
        asked.append((one.name, other.name))
        return one.name == "inner"

    assert btf.difference(first, second, same=same) is None
    assert ("inner", "inner") in asked


@pytest.mark.slow
def test_every_type_of_a_kernel_equals_itself() -> None:
    """Walked in full between two readings of one file; time is that of one walk."""
    from pipeline.files.read import read_input

    data = read_input(str(DEMO / "vmlinux.btf.zst"))
    one, other = btf.parse(data), btf.parse(data)
    for name in ("task_struct", "list_head"):
        assert btf.difference(one.find(name, btf.Struct), other.find(name, btf.Struct)) is None
    page, folio = one.find("page", btf.Struct), other.find("folio", btf.Struct)
    difference = btf.difference(page, folio)
    assert difference is not None and difference.reason == reasons.NAME


def test_many_pairs_at_once_give_the_same(demo_btf: Callable[[str], bytes]) -> None:
    """What was found out about two types holds for all that have their fingerprints."""
    base = btf.parse(demo_btf("vmlinux"))
    index, known = btf.BaseIndex.build(base), btf.BaseFingerprints.build(base)
    opened = {
        name: btf.dedup_split(btf.parse(demo_btf(name)), index).btf
        for name in ("libsas", "scsi_transport_iscsi", "scsi_mod")
    }
    values = {id(split): btf.fingerprints(split, known).tolist() for split in opened.values()}
    below = known.values.tolist()

    def key(owner: btf.BTF, type_id: int) -> tuple[int, ...]:
        if type_id < len(below):
            return tuple(below[type_id])
        return tuple(values[id(owner)][type_id - len(below)])

    labels = ("one", "other")
    fingerprinted = Fingerprinted(base, known)
    for split in opened.values():
        fingerprinted.add(split)
    differences = btf.Differences(labels, key)
    seen_through = btf.Differences(labels, fingerprinted.key, fingerprinted.ahead)
    found = 0
    for one in opened["scsi_mod"].own_types():
        if not isinstance(one, btf.Composite) or not one.name:
            continue
        for name in ("libsas", "scsi_transport_iscsi"):
            for other in opened[name].find_all(one.name, type(one)):
                expected = btf.difference(one, other, labels=labels)
                said = differences.between(one, other)
                assert str(said) == str(expected)
                assert str(seen_through.between(one, other)) == str(expected)
                found += said is not None
    assert found > 10


def key_of(*fingerprints: tuple[btf.BTF, list[list[int]]]) -> Callable[[btf.BTF, int], object]:
    """Types of plain BTFs by their fingerprints."""
    known = {id(owner): values for owner, values in fingerprints}
    return lambda owner, type_id: tuple(known[id(owner)][type_id])


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_what_was_asked_before(seed: int) -> None:
    """Of several differences as near as each other, it is always the same that is told."""
    files = [btf.parse(data) for data in small_kernel(seed, agreed=False)]
    key = key_of(*((file, btf.fingerprints(file).tolist()) for file in files))
    pairs = [
        (one, other)
        for one in files[0].own_types()
        if one.name
        for other in files[1].find_all(one.name, type(one))
    ]
    expected = {
        (one.id, other.id): str(btf.Differences(LABELS, key).between(one, other))
        for one, other in pairs
    }
    assert len(set(expected.values())) > 2
    for again in range(4):
        random.Random(again).shuffle(pairs)
        differences = btf.Differences(LABELS, key)
        for one, other in pairs:
            said = str(differences.between(one, other))
            assert (
                said == expected[one.id, other.id] == str(btf.difference(one, other, labels=LABELS))
            )


@pytest.mark.slow
def test_long_ways_to_a_difference() -> None:
    """From every type of a long chain: with a walk and a way for each, 12 million steps."""
    count = 5_000

    def chain(size: int) -> btf.BTF:
        w = Writer()
        w.struct("s", size)
        for number in range(count):
            w.typedef(f"t{number}", w.next_id - 1)
        return btf.parse(w.to_bytes())

    one, other = chain(4), chain(8)
    key = key_of(*((file, btf.fingerprints(file).tolist()) for file in (one, other)))
    differences = btf.Differences(LABELS, key)
    for number in random.Random(1).sample(range(2, count + 2), count):
        said = differences.between(one[number], other[number])
        assert said is not None and said.reason == reasons.SIZE
        assert len(said.steps) + said.left_out == number - 1
        assert len(said.path) < 400
    said = differences.between(one[32], other[32])
    assert said is not None
    assert said.path.startswith("t30 → t29 → ") and said.path.endswith(" → t1 → t0 → struct s")
    assert said.path.count("→") == 23 and " → t20 → … → t10 → " in said.path
