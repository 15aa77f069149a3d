"""Protects: units in other languages than C get a number that pahole can leave out, C keeps its."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from btf.files.languages import renamed_languages
from support.writers.elfwriter import ET_EXEC, ET_REL, SHT_RELA, SHT_SYMTAB, elf, symbol_table

C17, CPP17, ZIG, OLD_RUST, FUTURE, ASSEMBLER = 0x2C, 0x2B, 0x27, 0x9000, 0x60, 0x8001
PRODUCER, LANGUAGE, NAME, LOW = 0x25, 0x13, 0x03, 0x11
STRING, STRP, DATA1, DATA2, UDATA, SDATA, IMPLICIT, ADDR = 8, 0x0E, 0x0B, 5, 0x0F, 0x0D, 0x21, 1
CPP = 4


def uleb(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@dataclass(frozen=True)
class Dwarf:
    """How the debug information is laid out; ``kind`` is that of a unit of version 5."""

    version: int = 5
    offset_bytes: int = 4
    order: str = "<"
    bits: int = 64
    kind: int = 1

    def number(self, value: int, size: int) -> bytes:
        return value.to_bytes(size, "little" if self.order == "<" else "big")

    def value(self, form: int, language: int) -> bytes:
        if form in (UDATA, SDATA):
            return uleb(language)
        return b"" if form == IMPLICIT else self.number(language, {DATA1: 1, DATA2: 2}[form])

    def abbreviations(self, form: int, language: int) -> bytes:
        """Of a member, then of a unit with what producers write before its language."""
        member = uleb(1) + uleb(0x0D) + b"\0" + bytes([0x3A, IMPLICIT, 0, NAME, STRING, 0, 0])
        told = bytes([PRODUCER, STRP, LOW, ADDR, NAME, STRING, LANGUAGE, form])
        told += uleb(language) if form == IMPLICIT else b""
        return member + uleb(200) + uleb(0x11) + b"\1" + told + bytes([0x3E, DATA1, 0, 0, 0])

    def unit(self, abbreviations: int, form: int, language: int) -> bytes:
        address = self.bits // 8
        entry = uleb(200) + bytes(self.offset_bytes + address) + b"a.cc\0"
        entry += self.value(form, language) + b"\x01" + bytes(3)
        told = self.number(abbreviations, self.offset_bytes)
        if self.version >= 5:
            more = {1: 0, 2: 8 + self.offset_bytes, 4: 8}[self.kind]
            head = bytes([self.kind, address]) + told + b"\xee" * more
        else:
            head = told + bytes([address])
        body = self.number(self.version, 2) + head + entry
        wide = self.offset_bytes == 8
        return (b"\xff" * 4 if wide else b"") + self.number(len(body), self.offset_bytes) + body


@pytest.mark.parametrize("form", [DATA1, DATA2, UDATA, SDATA, IMPLICIT])
@pytest.mark.parametrize(
    "dwarf",
    [
        *(Dwarf(version=version) for version in (2, 3, 4)),
        *(Dwarf(kind=kind, offset_bytes=size) for kind in (1, 2, 4) for size in (4, 8)),
        Dwarf(order=">", bits=32),
        Dwarf(version=4, offset_bytes=8, order=">"),
    ],
)
def test_every_layout(dwarf: Dwarf, form: int) -> None:
    """What is written is the language alone, in as many bytes; all else is as it was."""
    languages = [C17, CPP17, ZIG, CPP, 1, FUTURE]
    if form in (DATA2, UDATA):
        languages += [OLD_RUST, ASSEMBLER]
    expected = [CPP if each in (CPP17, ZIG, OLD_RUST) else each for each in languages]
    files = []
    for numbers, padded in ((languages, False), (expected, True)):
        abbreviations, units = b"", b""
        for language, before in zip(numbers, languages, strict=True):
            longer = padded and form == UDATA and language != before and before > 0x7F
            part = dwarf.abbreviations(form, language)
            unit = dwarf.unit(len(abbreviations), form, language if not longer else before)
            if longer:
                unit = unit.replace(uleb(before), b"\x84\x80\0")
            units += unit
            abbreviations += part
        sections = {".debug_info": units, ".debug_abbrev": abbreviations}
        files.append(elf(sections, bits=dwarf.bits, order=dwarf.order, file_kind=ET_EXEC))
    changed = bytearray(files[0])
    for at, new in renamed_languages(files[0]):
        changed[at : at + len(new)] = new
    assert bytes(changed) == files[1]


@pytest.mark.parametrize(("bits", "added"), [(64, True), (32, True), (32, False)])
def test_relocations_say_where_abbreviations_are(bits: int, added: bool) -> None:
    """Of a file that is not linked: a symbol's value, and what is added to it."""
    dwarf, order = Dwarf(bits=bits), "<"
    filler = bytes(40)
    abbreviations = filler + dwarf.abbreviations(DATA1, CPP17)
    info = dwarf.unit(0 if added else 30, DATA1, CPP17)
    symbols, texts = symbol_table([("a", 10, 0)], 1, bits=bits)
    if bits == 64:
        rows = struct.pack("<QQq", 8, 1 << 32 | 10, 30)
    else:
        rows = struct.pack("<IIi", 8, 1 << 8 | 1, 30)[: 12 if added else 8]
    relocations = ".rela.debug_info"
    sections = {
        ".debug_info": info, ".debug_abbrev": abbreviations, ".symtab": symbols, ".strtab": texts,
        relocations: rows,
    }  # fmt: skip
    kinds = {".symtab": SHT_SYMTAB, relocations: SHT_RELA if added else 9}
    links = {relocations: (".symtab", ".debug_info")}
    for file_kind in (ET_REL, ET_EXEC):
        file = elf(sections, bits=bits, order=order, kinds=kinds, links=links, file_kind=file_kind)
        found = renamed_languages(file)
        assert [new for _, new in found] == ([b"\4"] if file_kind == ET_REL else [])
        assert all(file[at] == CPP17 for at, _ in found)


@pytest.mark.parametrize("form", [DATA1, UDATA, IMPLICIT])
def test_what_is_damaged_is_passed_over(form: int) -> None:
    dwarf = Dwarf()
    abbreviations, info = dwarf.abbreviations(form, CPP17), dwarf.unit(0, form, CPP17)
    whole = {".debug_info": info, ".debug_abbrev": abbreviations}
    assert len(renamed_languages(elf(whole, file_kind=ET_EXEC))) == 1
    for name, content in whole.items():
        for size in range(len(content)):
            for last in (b"", b"\x80" * 99):  # a number without an end
                damaged = {**whole, name: content[:size] + last}
                renamed_languages(elf(damaged, file_kind=ET_EXEC))
    assert not renamed_languages(elf({".debug_info": info}))
    assert not renamed_languages(elf({}))


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btf.files.languages._MOST_STEPS", 100)
    dwarf = Dwarf()
    info = dwarf.unit(0, DATA1, CPP17) * 1000
    sections = {".debug_info": info, ".debug_abbrev": dwarf.abbreviations(DATA1, CPP17)}
    assert len(renamed_languages(elf(sections, file_kind=ET_EXEC))) <= 100


def test_many_units_that_look_through_many_abbreviations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once where they share them; else within a budget for all units."""
    dwarf, count = Dwarf(), 1000
    one = uleb(1) + uleb(0x0D) + b"\0" + bytes([NAME, STRING, 0, 0])
    abbreviations = one * count + dwarf.abbreviations(DATA1, CPP17)
    shared, distinct = (
        b"".join(dwarf.unit(len(one) * place, DATA1, CPP17) for place in places)
        for places in ([0] * count, range(count))
    )

    def renamed(units: bytes) -> int:
        sections = {".debug_info": units, ".debug_abbrev": abbreviations}
        return len(renamed_languages(elf(sections, file_kind=ET_EXEC)))

    monkeypatch.setattr("btf.files.languages._MOST_STEPS", 20_000)
    assert renamed(shared) == count
    assert 10 < renamed(distinct) < count // 4
