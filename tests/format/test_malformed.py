"""Protects against bad bytes: each class of broken BTF is a BtfError that says where.

First one file per class, with what the error must name. Then thousands of random corruptions of
sound
files: each either parses or gives a BtfError; whatever parses is sound by naive.py's rules too, and
deduplicates to what naive.py gives, or is refused by both.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import struct
from collections.abc import Callable

import pytest

import btf
from support import btfwriter as bw
from support import handmade, vectors
from support.oracles import naive, naive_btf


def small(order: str = "<") -> bw.Writer:
    """[1] INT, [2] PTR, [3] STRUCT with two members, [4] FUNC_PROTO, [5] FUNC."""
    w = bw.Writer(order)
    i = w.int("int", 4)
    p = w.ptr(i)
    w.struct("pair", 16, [("first", i, 0), ("second", p, 64)])
    w.func("run", w.func_proto(i, [("arg", p)]))
    return w


def patched(type_id: int, word: int, value: int) -> Callable[[str], bytes]:
    def make(order: str) -> bytes:
        w = small(order)
        w.patch(type_id, word, value)
        return w.to_bytes()

    return make


def appended(*words: int) -> Callable[[str], bytes]:
    def make(order: str) -> bytes:
        w = small(order)
        w.raw(*words)
        return w.to_bytes()

    return make


def info(kind: int, vlen: int = 0) -> int:
    return kind << 24 | vlen


def offset_of(type_id: int, word: int = 0) -> int:
    return small().type_offset(type_id) + 4 * word


# class of fault: (file, section, offset in it, type id); None where the error need not say
BROKEN: dict[str, tuple[Callable[[str], bytes], str, int | None, int | None]] = {
    "empty file": (lambda o: b"", "header", None, None),
    "three bytes": (lambda o: b"\x9f\xeb\x01", "header", None, None),
    "header cut off": (lambda o: small(o).to_bytes()[:23], "header", None, None),
    "magic": (lambda o: small(o).to_bytes(magic=0x1234), "header", 0, None),
    "ELF instead of BTF": (lambda o: b"\x7fELF" + bytes(60), "header", 0, None),
    "version": (lambda o: small(o).to_bytes(version=2), "header", 2, None),
    "hdr_len too small": (lambda o: small(o).to_bytes(hdr_len=20), "header", 4, None),
    "hdr_len beyond the file": (lambda o: small(o).to_bytes(hdr_len=1 << 20), "header", 4, None),
    "hdr_len all ones": (lambda o: small(o).to_bytes(hdr_len=0xFFFFFFFF), "header", 4, None),
    "header bytes nobody knows": (
        lambda o: small(o).to_bytes(32, header_extra=b"\1\0\0\0"),
        "header",
        None,
        None,
    ),
    "type section beyond the file": (
        lambda o: small(o).to_bytes(type_len=1 << 16),
        "header",
        8,
        None,
    ),
    "type offset + length wraps": (
        lambda o: small(o).to_bytes(type_off=0xFFFFFFFC, type_len=8),
        "header",
        8,
        None,
    ),
    "type offset misaligned": (lambda o: small(o).to_bytes(type_off=2), "header", 8, None),
    "type length misaligned": (lambda o: small(o).to_bytes(type_len=14), "header", 12, None),
    "type section over strings": (lambda o: small(o).to_bytes(str_off=8), "header", 8, None),
    "string section beyond the file": (
        lambda o: small(o).to_bytes(str_len=999),
        "header",
        16,
        None,
    ),
    "string offset + length wraps": (
        lambda o: small(o).to_bytes(str_off=0xFFFFFFF0, str_len=32),
        "header",
        16,
        None,
    ),
    "strings cut off": (lambda o: small(o).to_bytes()[:-1], "header", 16, None),
    "no strings": (lambda o: small(o).to_bytes(strings=b""), "strings", 0, None),
    "last string not ended": (lambda o: small(o).to_bytes(strings=b"\0int"), "strings", 3, None),
    "first string not empty": (lambda o: small(o).to_bytes(strings=b"int\0"), "strings", 0, None),
    "layout misaligned": (
        lambda o: small(o).to_bytes(32, layout=bw.full_layout(), layout_len=77),
        "header",
        24,
        None,
    ),
    "layout over types": (
        lambda o: small(o).to_bytes(32, layout=bw.full_layout(), layout_off=4),
        "header",
        24,
        None,
    ),
    "layout beyond the file": (
        lambda o: small(o).to_bytes(32, layout=bw.full_layout(), layout_len=1 << 20),
        "header",
        24,
        None,
    ),
    "layout with odd sizes": (
        lambda o: small(o).to_bytes(32, layout=[*bw.full_layout(), (3, 0, 0)]),
        "layout",
        80,
        None,
    ),
    "kind 0": (appended(0, info(0), 0), "types", offset_of(6), 6),
    "kind 20 without layout": (appended(0, info(20), 0), "types", offset_of(6), 6),
    "kind 127": (appended(0, info(127), 0), "types", offset_of(6), 6),
    "record head cut off": (appended(0, info(bw.PTR)), "types", offset_of(6), 6),
    "INT cut off": (appended(1, info(bw.INT), 4), "types", offset_of(6), 6),
    "ARRAY cut off": (appended(0, info(bw.ARRAY), 0, 1, 1), "types", offset_of(6), 6),
    "VAR cut off": (appended(1, info(bw.VAR), 1), "types", offset_of(6), 6),
    "DECL_TAG cut off": (appended(1, info(bw.DECL_TAG), 1), "types", offset_of(6), 6),
    "more members than there are": (
        patched(3, 1, info(bw.STRUCT, 0xFFFFFF)),
        "types",
        offset_of(3),
        3,
    ),
    "more enumerators than there are": (
        appended(0, info(bw.ENUM, 2), 4, 1, 0),
        "types",
        offset_of(6),
        6,
    ),
    "more 64-bit enumerators": (appended(0, info(bw.ENUM64, 1), 8, 1, 0), "types", offset_of(6), 6),
    "more parameters": (appended(0, info(bw.FUNC_PROTO, 1), 0), "types", offset_of(6), 6),
    "more data": (appended(1, info(bw.DATASEC, 1), 8, 1, 0), "types", offset_of(6), 6),
    "name beyond the strings": (patched(1, 0, 999), "types", offset_of(1), 1),
    "name all ones": (patched(2, 0, 0xFFFFFFFF), "types", offset_of(2), 2),
    "member name beyond the strings": (patched(3, 6, 999), "types", offset_of(3, 6), 3),
    "parameter name beyond the strings": (patched(4, 3, 999), "types", offset_of(4, 3), 4),
    "enumerator name beyond the strings": (
        appended(0, info(bw.ENUM, 1), 4, 999, 0),
        "types",
        offset_of(6, 3),
        6,
    ),
    "64-bit enumerator name": (
        appended(0, info(bw.ENUM64, 1), 8, 999, 0, 0),
        "types",
        offset_of(6, 3),
        6,
    ),
    "pointer to no type": (patched(2, 2, 6), "types", offset_of(2, 2), 2),
    "pointer to id all ones": (patched(2, 2, 0xFFFFFFFF), "types", offset_of(2, 2), 2),
    "member of no type": (patched(3, 4, 6), "types", offset_of(3, 4), 3),
    "parameter of no type": (patched(4, 4, 6), "types", offset_of(4, 4), 4),
    "return type that is none": (patched(4, 2, 6), "types", offset_of(4, 2), 4),
    "array of no type": (appended(0, info(bw.ARRAY), 0, 99, 1, 2), "types", offset_of(6, 3), 6),
    "array indexed by no type": (
        appended(0, info(bw.ARRAY), 0, 1, 99, 2),
        "types",
        offset_of(6, 4),
        6,
    ),
    "variable of no type": (appended(1, info(bw.VAR), 99, 0), "types", offset_of(6, 2), 6),
    "tag of no type": (appended(1, info(bw.DECL_TAG), 99, 0), "types", offset_of(6, 2), 6),
    "data of no type": (appended(1, info(bw.DATASEC, 1), 8, 99, 0, 8), "types", offset_of(6, 3), 6),
    "FWD with a type that is none": (appended(1, info(bw.FWD), 99), "types", offset_of(6, 2), 6),
    "function that is no prototype": (patched(5, 2, 1), "types", offset_of(5), 5),
    "function of void": (patched(5, 2, 0), "types", offset_of(5), 5),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_file_is_an_error_that_says_where(fault: str, order: str) -> None:
    make, section, offset, type_id = BROKEN[fault]
    data = make(order)
    with pytest.raises(btf.BtfError) as caught:
        btf.parse(data, path="some.ko")
    error = caught.value
    assert error.path == "some.ko"
    assert error.section == section
    if offset is not None:
        assert error.offset == offset
    assert error.type_id == type_id
    assert len(error.message) > 10
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_split_errors_count_ids_from_the_base() -> None:
    base = small()
    w = bw.Writer(base=base)
    w.const(1)
    w.volatile(w.next_id + 1)
    parsed = btf.parse(base.to_bytes())
    with pytest.raises(btf.BtfError) as caught:
        btf.parse(w.to_bytes(), parsed)
    assert (caught.value.section, caught.value.type_id) == ("types", base.next_id + 1)

    w = bw.Writer(base=base)
    w.int(base.end_str, 4)  # no own strings: one beyond the base's
    with pytest.raises(btf.BtfError) as caught:
        btf.parse(w.to_bytes(), parsed)
    assert (caught.value.section, caught.value.type_id) == ("types", base.next_id)

    w = bw.Writer(base=base)
    w.func("f", 1)  # [1] of the base is an INT
    with pytest.raises(btf.BtfError) as caught:
        btf.parse(w.to_bytes(), parsed)
    assert caught.value.type_id == base.next_id


def test_split_file_without_its_base() -> None:
    w = bw.Writer(base=small())
    w.float("float", 4)
    with pytest.raises(btf.BtfError, match="base"):
        btf.parse(w.to_bytes())


# ------------------------------------------------------------------- sound but not deduplicable


def test_circle_of_pointers_is_refused() -> None:
    w = bw.Writer()
    w.ptr(3)
    w.const(1)
    w.volatile(2)
    parsed = btf.parse(w.to_bytes())
    with pytest.raises(btf.BtfError) as caught:
        btf.dedup(parsed)
    assert caught.value.type_id in (1, 2, 3)


def test_variable_inside_struct_is_refused() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    for _ in range(2):
        w.struct("odd", 4, [("v", w.next_id + 1, 0)])
        w.var("v", i)
    parsed = btf.parse(w.to_bytes())
    with pytest.raises(btf.BtfError) as caught:
        btf.dedup(parsed)
    assert caught.value.type_id is not None


def test_unknown_kind_is_read_but_not_deduplicated() -> None:
    """Kinds 20 … 22 came in September 2026; a layout section says how long their records are."""
    w = small()
    w.raw(1, info(20, 2), 0, 7, 8, 9, 10)
    w.const(1)
    data = w.to_bytes(32, layout=[*bw.full_layout(), (0, 8, 0)])
    parsed = btf.parse(data)
    assert parsed.type_count == 7
    assert parsed.to_bytes() == data
    with pytest.raises(btf.UnsupportedError) as caught:
        btf.dedup(parsed)
    assert caught.value.type_id == 6
    assert caught.value.message == (
        "kind 20 (proposed as LOC_PARAM): the layout section tells that it has 28 bytes here, but "
        "not what they mean, so that it can be read and written, but not deduplicated or compared; "
        "this kind is not final; pahole writes none without its feature `inline`"
    )
    with pytest.raises(btf.UnsupportedError, match="read and written, but not renumbered"):
        btf.sort_by_name(parsed)


def test_other_byte_order_than_the_base() -> None:
    index = btf.BaseIndex.build(btf.parse(vectors.build("all-kinds-known").base))
    module = btf.parse(vectors.build("all-kinds-known-be").module)
    with pytest.raises(btf.BtfError):
        btf.dedup_split(module, index)


def test_identity_walk_ends() -> None:
    """Two copies of 15 structs, each with 8 pointers to the next: libbpf takes 8 ** 15 steps."""
    w = bw.Writer()
    depth, width, i = 15, 8, w.int("int", 4)

    def copy() -> int:
        head = w.next_id
        for level in range(depth):
            here = w.next_id
            after = here + width + 1 if level < depth - 1 else i
            members = [(f"m{at}", here + 1 + at, 64 * at) for at in range(width)]
            w.struct(f"level_{level}", 8 * width, members)
            for _ in range(width):
                w.ptr(after)
        return head

    for twice in (False, True):
        root = w.struct("root", 16, [("x", w.next_id + 1, 0), ("y", 0, 64)])
        first = copy()
        w.patch(root, 7, copy() if twice else first)
    expected = naive.plain_dedup(w.to_bytes())
    result = btf.dedup(btf.parse(w.to_bytes())).btf
    assert (result.type_section(), result.string_section()) == (expected.types, expected.strings)


# ------------------------------------------------------------------------- random corruption


def corrupted(data: bytes, roll: random.Random) -> bytes:
    """One to a few faults of a random sort."""
    out = bytearray(data)
    for _ in range(roll.choice([1, 1, 1, 2, 5])):
        if len(out) < 28:
            break
        at = roll.randrange(len(out))
        word = min(at // 4 * 4, len(out) - 4)
        sort = roll.randrange(7)
        if sort == 0:
            out[at] ^= 1 << roll.randrange(8)
        elif sort == 1:
            odd = roll.choice([0, 1, 2, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, roll.randrange(400)])
            struct.pack_into("<I", out, word, odd)
        elif sort == 2:  # a field of the header
            field = 4 * roll.randrange(1, 6)
            value = struct.unpack_from("<I", out, field)[0] + roll.choice([-12, -4, -1, 1, 4, 12])
            struct.pack_into("<I", out, field, value & bw.U32)
        elif sort == 3:
            del out[at:]
        elif sort == 4:
            out[at:at] = bytes(roll.randrange(256) for _ in range(roll.choice([1, 4, 12])))
        elif sort == 5:  # a small number: ids and names that exist, but are wrong
            struct.pack_into("<I", out, word, roll.randrange(30))
        else:
            del out[at : at + roll.choice([1, 4, 12])]
    return bytes(out)


def victims() -> list[tuple[bytes, bytes]]:
    return [handmade.CASES[name]()[:2] for name in ("all-kinds-new", "all-kinds-known", "tags")] + [
        (case.base, case.module) for case in map(vectors.generate, (2, 11))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_random_corruption_never_crashes(part: int) -> None:
    roll = random.Random(part)
    files = victims()
    indexes = [btf.BaseIndex.build(btf.parse(base)) for base, _ in files]
    parsed_ones = refused = 0
    for round_ in range(1000):
        which = roll.randrange(len(files))
        data = corrupted(files[which][1], roll)
        try:
            parsed = btf.parse(data)
        except btf.BtfError as error:
            assert error.section in ("header", "types", "strings", "layout")
            refused += 1
            continue
        parsed_ones += 1
        if parsed.has_unknown_kinds:
            continue
        reference = naive_btf.parse(data)  # must not find fault with what the library let through
        dedup_like_naive(reference, parsed)
        if round_ % 4 == 0:
            split_like_naive(files[which][0], reference, parsed, indexes[which])
    assert parsed_ones > 100
    assert refused > 100


def dedup_like_naive(reference: naive_btf.Btf, parsed: btf.BTF) -> None:
    try:
        expected = naive.plain_dedup(reference)
    except naive.OddMember:
        with contextlib.suppress(btf.BtfError):
            btf.dedup(parsed)
        return
    except naive.DedupError:
        with pytest.raises(btf.BtfError):
            btf.dedup(parsed)
        return
    result = btf.dedup(parsed).btf
    assert (result.type_section(), result.string_section()) == (expected.types, expected.strings)


def split_like_naive(
    base: bytes, reference: naive_btf.Btf, parsed: btf.BTF, index: btf.BaseIndex
) -> None:
    try:
        expected = naive.split_dedup(base, reference)
    except naive.OddMember:
        with contextlib.suppress(btf.BtfError):
            btf.dedup_split(parsed, index)
        return
    except naive.DedupError:
        with pytest.raises(btf.BtfError):
            btf.dedup_split(parsed, index)
        return
    result = btf.dedup_split(parsed, index).btf
    assert (result.type_section(), result.string_section()) == (expected.types, expected.strings)
