"""Protects .BTF.ext: read whole, and taken along by whatever gives types new ids."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import pytest

import btf
from support import marks, vectors
from support.btfwriter import Writer
from support.modes import reference
from support.oracles import naive_btf, oracle_libbpf
from support.paths import DATA
from support.writers import extwriter

OBJECTS = DATA / "objects"
ORDERS = {"el": "<", "eb": ">"}


@functools.cache
def program(name: str) -> tuple[btf.BTF, btf.BtfExt]:
    """What clang wrote into one of the objects."""
    file = btf.elf.read_elf((OBJECTS / f"watch.bpf{name}.o").read_bytes())
    assert file.btf is not None and file.btf_ext is not None
    types = btf.parse(file.btf)
    return types, btf.parse_ext(file.btf_ext, types)


@pytest.mark.parametrize("name", ORDERS)
def test_what_clang_wrote(name: str) -> None:
    types, ext = program(name)
    source = (OBJECTS / "watch.bpf.c").read_text().splitlines()
    sections = ["kprobe/do_exit", ".text", "raw_tp/sched_switch"]
    for part in (ext.func_info, ext.line_info, ext.core_relos):
        assert sorted(s.name for s in part) == sorted(sections)
    functions = {s.name: [(r.insn_off, r.type.name) for r in s.records] for s in ext.func_info}
    assert functions == {
        "kprobe/do_exit": [(0, "on_exit")],
        ".text": [(0, "remember")],
        "raw_tp/sched_switch": [(0, "on_switch")],
    }
    lines = [record for section in ext.line_info for record in section.records]
    assert len(lines) > 20 and sum(record.line > 0 for record in lines) > 20
    for record in lines:
        assert record.file == "./watch.bpf.c"
        if record.line:
            assert record.text == source[record.line - 1] and record.column <= len(record.text) + 1
    relos = {s.name: [(r.type.name, r.access, r.kind) for r in s.records] for s in ext.core_relos}
    offset = btf.CoreReloKind.FIELD_BYTE_OFFSET
    assert relos[".text"] == [
        ("task_struct", "0:0", offset),
        ("task_struct", "0:5", offset),
        ("task_struct", "0:3", offset),
        ("task_struct", "0:4", offset),
        ("namespace_link", "0:1:1:0", offset),
    ]
    assert relos["raw_tp/sched_switch"] == [
        ("namespace_link", "0", btf.CoreReloKind.TYPE_EXISTS),
        ("namespace_link", "0", btf.CoreReloKind.TYPE_SIZE),
        ("watch_state", "1", btf.CoreReloKind.ENUMVAL_VALUE),
    ]
    assert repr(ext) == "<BtfExt 38 records, 700 bytes>"
    assert ext.to_bytes() == btf.parse_ext(ext.to_bytes(), types).to_bytes()


def test_both_byte_orders_say_the_same() -> None:
    (little, _), (big, _) = (program(name) for name in ORDERS)
    assert little.byteorder == "little" and big.byteorder == "big"
    facts = [
        [[(s.name, s.records) for s in part] for part in (ext.line_info,)]
        for ext in (program(name)[1] for name in ORDERS)
    ]
    assert facts[0] == facts[1]


# ------------------------------------------------------------------------------------------ taking


def facts_of(ext: btf.BtfExt) -> list[object]:
    """Everything that an ext says, with types by name and kind: what must survive."""
    return [
        [
            (s.name, [(r.insn_off, r.type.kind, r.type.name) for r in s.records])
            for s in ext.func_info
        ],
        [(s.name, s.records) for s in ext.line_info],
        [
            (s.name, [(r.insn_off, r.type.kind, r.type.name, r.access, r.kind) for r in s.records])
            for s in ext.core_relos
        ],
    ]


@pytest.mark.parametrize("name", ORDERS)
def test_nothing_is_lost_on_the_way(name: str) -> None:
    types, ext = program(name)
    before = facts_of(ext)
    single = btf.dedup(types, ext=ext)
    assert single.ext is not None and single.ext.btf is single.btf
    assert facts_of(single.ext) == before

    by_name = btf.sort_by_name(types, ext=ext)
    assert by_name.ext is not None and facts_of(by_name.ext) == before
    assert by_name.ext.to_bytes() != ext.to_bytes()
    assert by_name.btf.string_section() == types.string_section()

    merged = btf.merge([types, by_name.btf, types], exts=[ext, by_name.ext, None])
    first, second, nothing = merged.exts
    assert first is not None and second is not None and nothing is None
    assert first.btf is second.btf is merged.btf
    assert facts_of(first) == facts_of(second) == before
    assert first.to_bytes() == second.to_bytes(), "the same program twice is one"
    again = btf.parse_ext(first.to_bytes(), btf.parse(merged.btf.to_bytes()))
    assert facts_of(again) == before


@pytest.mark.parametrize("name", ORDERS)
def test_onto_a_base(name: str) -> None:
    types, ext = program(name)
    w = Writer(ORDERS[name])
    w.int("int", 4)
    w.string("kprobe/do_exit")
    base = btf.parse(w.to_bytes())
    result = btf.dedup_split(types, btf.BaseIndex.build(base), ext=ext)
    assert result.ext is not None and result.btf.base is not None
    assert facts_of(result.ext) == facts_of(ext)
    assert b"kprobe/do_exit" not in result.btf.string_section()
    split = btf.parse(result.btf.to_bytes(), base)
    again = btf.dedup(split, ext=btf.parse_ext(result.ext.to_bytes(), split))
    assert again.ext is not None and facts_of(again.ext) == facts_of(ext)


def random_ext(
    dice: vectors.Dice, order: str, ids: range, strings: list[int], head: int, extra: int
) -> Callable[..., bytes]:
    """Some records on those types and strings; the function writes them, mapped or not."""

    def section(record: Callable[[], list[int]]) -> tuple[int, list[list[int]]]:
        return dice.pick(strings), [record() for _ in range(1 + dice.below(4))]

    count = 1 + dice.below(3)
    some = [*ids, 0]
    func = [section(lambda: [dice.below(99), dice.pick(some)]) for _ in range(count)]
    line = [
        section(
            lambda: [dice.below(99), dice.pick(strings), dice.pick(strings), dice.below(1 << 31)]
        )
        for _ in range(count)
    ]
    core = [
        section(lambda: [dice.below(99), dice.pick(some), dice.pick(strings), dice.below(13)])
        for _ in range(count)
    ]

    def write(type_id: Callable[[int], int], string: Callable[[int], int]) -> bytes:
        """Strings are asked for in libbpf's order."""
        parts = [
            [(string(name), [[r[0], type_id(r[1])] for r in records]) for name, records in func],
            [
                (string(name), [[r[0], string(r[1]), string(r[2]), r[3]] for r in records])
                for name, records in line
            ],
            [
                (string(name), [[r[0], type_id(r[1]), string(r[2]), r[3]] for r in records])
                for name, records in (core if head >= 32 else [])
            ],
        ]
        sizes = (8 + extra, 16 + extra, 16 + extra)
        return extwriter.write(
            order, parts[0], parts[1], parts[2], record_bytes=sizes, header_bytes=head
        )

    return write


def same(value: int) -> int:
    return value


@pytest.mark.parametrize("mode", ["plain", "split", "resplit"])
@pytest.mark.parametrize("name", marks.vector_names())
def test_as_the_reference_has_it(name: str, mode: str) -> None:
    """Ids by the reference's map; new strings behind those of the types, in order of use."""
    case = vectors.build(name)
    files = case.inputs(mode)
    base = naive_btf.parse(files[0]) if mode != "plain" else None
    source = naive_btf.parse(files[-1], base if mode == "resplit" else None)
    dice = vectors.Dice(len(name) * 1000 + sum(name.encode()))
    starts = [at for text, at in source.string_index().items() if text or at == 0]
    head, extra = dice.pick([24, 32, 40]), dice.pick([0, 4, 12])
    ids = range(source.start_id, source.end_id)
    write = random_ext(dice, source.order, ids, starts, head, extra)
    data = write(same, same)

    expected = reference(mode, files)
    below = base if mode != "plain" else None
    out = naive_btf.Btf(expected.order, [], expected.strings, below)
    index = out.string_index()

    def string(offset: int) -> int:
        if offset == 0 or (mode == "resplit" and offset < source.start_str):
            return offset
        text = source.text(offset)
        if text not in index:
            index[text] = out.end_str
            out.strings += text + b"\0"
        return index[text]

    wanted = write(lambda old: expected.id_map.get(old, old), string)
    if mode == "resplit":
        assert base is not None
        on = btf.parse(files[0])
        given = btf.parse(files[1], on)
        result = btf.dedup(given, ext=btf.parse_ext(data, given))
    elif mode == "split":
        given = btf.parse(files[1])
        built = btf.BaseIndex.build(btf.parse(files[0]))
        result = btf.dedup_split(given, built, ext=btf.parse_ext(data, given))
    else:
        given = btf.parse(files[0])
        result = btf.dedup(given, ext=btf.parse_ext(data, given))
    assert result.ext is not None
    assert result.ext.to_bytes() == wanted
    assert result.btf.string_section() == out.strings
    assert result.btf.type_section() == expected.types


def test_bytes_are_libbpf_s() -> None:
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("NOT RUN: libbpf was not asked; needs gcc and libbpf-dev")
    types, ext = program("el")
    twice = btf.Builder()
    twice.add_btf(types)
    for t in types.own_types():
        twice.add_type(t, {old: old + types.type_count for old in range(1, types.type_end)})
    doubled = btf.parse(twice.build().to_bytes())
    later = ext.moved(doubled, [0, *range(types.type_end, doubled.type_end)])
    for given in (ext, later):
        out, more = oracle.run_two("ext", [given.btf.to_bytes(), given.to_bytes()])
        theirs = oracle_libbpf.sections(out)
        ours = btf.dedup(given.btf, ext=given)
        assert ours.ext is not None and ours.ext.to_bytes() == more
        assert ours.btf.type_section() == theirs.types
        assert ours.btf.string_section() == theirs.strings
    assert ours.btf.type_count == types.type_count + 2  # variables and sections are never merged


# ------------------------------------------------------------------------------------------- faults


def small() -> btf.BTF:
    w = Writer()
    w.int("int", 4)
    w.type(13, 0, 1)
    w.type(12, "main", 2)
    return btf.parse(w.to_bytes())


GOOD: dict[str, Any] = {
    "func": [(1, [[0, 3]])],
    "line": [(1, [[0, 1, 5, 7 << 10 | 2]])],
    "core": [(1, [[8, 1, 5, 0]])],
}


def test_a_sound_one() -> None:
    types = small()
    ext = btf.parse_ext(extwriter.write(**GOOD), types)
    (line,) = ext.line_info[0].records
    assert (line.file, line.text, line.line, line.column) == ("int", "main", 7, 2)
    (relo,) = ext.core_relos[0].records
    assert relo.kind is btf.CoreReloKind.FIELD_BYTE_OFFSET and relo.type == types[1]
    unknown = btf.parse_ext(extwriter.write(core=[(1, [[8, 1, 5, 99]])]), types)
    assert unknown.core_relos[0].records[0].kind == 99
    assert (
        btf.parse_ext(extwriter.write(header_bytes=24, func=GOOD["func"]), types).core_relos == ()
    )
    assert btf.parse_ext(extwriter.write(), types).func_info == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic is missing"),
        (b"\x7fELF" + bytes(60), "magic is 7f45, expected eb9f"),
        (extwriter.write(">", **GOOD), "big-endian, but the BTF beside it is little-endian"),
        (extwriter.write(**GOOD)[:20], "truncated: 20 bytes"),
        (extwriter.write(version=2, **GOOD), "version 2 and flags 0x0"),
        (extwriter.write(flags=1, **GOOD), "version 1 and flags 0x1"),
        (extwriter.write(hdr_len=16, **GOOD), "hdr_len is 16"),
        (extwriter.write(hdr_len=30, **GOOD), "hdr_len is 30"),
        (extwriter.write(hdr_len=4096, **GOOD), "hdr_len is 4096; the section has"),
        (extwriter.write(func_off=2, **GOOD), r"offset 8: func_info \(20 bytes at 2\) is misal"),
        (extwriter.write(line_len=4000, **GOOD), "offset 16: line_info .* ends beyond"),
        (extwriter.write(core_off=400, **GOOD), "offset 24: core_relo .* ends beyond"),
        (extwriter.write(line_off=48, line_len=28, **GOOD), "two of its parts overlap"),
        (extwriter.write(func_len=2, **GOOD), "func_info has 2 bytes, too few"),
        (extwriter.write(func_len=8, **GOOD), "func_info ends in the middle of a section's head"),
        (extwriter.write(func_len=16, **GOOD), "1 records of 8 bytes do not fit into the 4 bytes"),
        (extwriter.write(record_bytes=(4, 16, 16), **GOOD), "records of 4 bytes; expected 8"),
        (extwriter.write(func=[(1, [[0, 4]])]), r"offset 48: refers to type \[4\], the last one"),
        (extwriter.write(core=[(1, [[0, 4, 0, 0]])]), r"refers to type \[4\]"),
        (extwriter.write(func=[(10, [[0, 1]])]), "offset 36: a string is at offset 10, string"),
        (extwriter.write(line=[(1, [[0, 99, 1, 0]])]), "a string is at offset 99"),
        (extwriter.write(line=[(1, [[0, 1, 99, 0]])]), "a string is at offset 99"),
        (extwriter.write(core=[(1, [[0, 1, 99, 0]])]), "a string is at offset 99"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(data: bytes, message: str) -> None:
    with pytest.raises(btf.BtfError, match=message) as caught:
        btf.parse_ext(data, small(), path="x.o")
    assert (caught.value.path, caught.value.section) == ("x.o", ".BTF.ext")


@pytest.mark.parametrize("name", ORDERS)
def test_any_damage_is_an_error_or_sound(name: str) -> None:
    types, ext = program(name)
    dice = vectors.Dice(len(name))
    refused = 0
    for _ in range(400):
        data = bytearray(ext.to_bytes())
        for _ in range(1 + dice.below(3)):
            data[dice.below(len(data))] = dice.below(256)
        try:
            damaged = btf.parse_ext(bytes(data), types)
        except btf.BtfError:
            refused += 1
            continue
        result = btf.dedup(types, ext=damaged)
        assert result.ext is not None and facts_of(result.ext) == facts_of(damaged)
    assert 50 < refused < 350


def test_record_counts_that_overflow() -> None:
    data = bytearray(extwriter.write(func=[(1, [[0, 3]])]))
    struct.pack_into("<I", data, 40, 0xFFFFFFFF)
    with pytest.raises(btf.BtfError, match="4294967295 records of 8 bytes do not fit"):
        btf.parse_ext(bytes(data), small())


def test_a_section_of_another_btf() -> None:
    types, other = small(), small()
    ext = btf.parse_ext(extwriter.write(**GOOD), other)
    with pytest.raises(ValueError, match="belongs to another BTF"):
        btf.dedup(types, ext=ext)
    with pytest.raises(ValueError, match="belongs to another BTF"):
        btf.sort_by_name(types, ext=ext)
    with pytest.raises(ValueError, match=r"1 \.BTF\.ext given for 2 BTF"):
        btf.merge([types, other], exts=[ext])
