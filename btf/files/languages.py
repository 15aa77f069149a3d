"""Units of debug information in other languages than C, changed so that pahole can leave them out.

BTF knows C only, and pahole leaves units out by the names of their languages. It has no name for
any that is newer than C++14, so units in other languages are given the number of C++.

Read is what tells a unit's language: its header and its first entry (DWARF 5, 7.5), and the
abbreviation of that (7.5.3). Before a file is linked, relocations say where abbreviations are. What
cannot be read is passed over: the program that reads all of it says what is wrong.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from .readable import Part, Readable
from .sections import Table, read_headers, read_table

_C_PLUS_PLUS = 4
# DW_LANG_*: C89, C, C99, C11, C17 and C23; assembly, which has no types; and what has a name: C++
# until C++14, and Rust.
_LEFT = {0x01, 0x02, 0x0C, 0x1D, 0x2C, 0x3E, 0x31, _C_PLUS_PLUS, 0x19, 0x1A, 0x21, 0x1C}
_LAST_KNOWN = 0x48  # of DWARF's list in 2025; later ones may be C
_OLD_RUST = 0x9000  # before DWARF had a number for it

_ET_REL, _SHT_RELA, _SHT_REL = 1, 4, 9
_SYMBOL_BYTES = {8: 24, 4: 16}  # by bytes of a word; its value is the word that comes second
_TYPE_UNIT, _SKELETON_UNIT, _SPLIT_UNIT, _SPLIT_TYPE_UNIT = 2, 4, 5, 6
_LANGUAGE = 0x13  # DW_AT_language
_STRING, _IMPLICIT = 0x08, 0x21
# How many bytes values have, by form; of the others offsets and addresses, and numbers (LEB128).
_BYTES = {
    0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x19: 0,
    0x1C: 4, 0x1E: 16, 0x20: 8, _IMPLICIT: 0, 0x24: 8, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4,
}  # fmt: skip
_ADDRESS, _OFFSETS = 0x01, {0x0E, 0x10, 0x17, 0x1D, 0x1F, 0x1F20, 0x1F21}
_NUMBERS = {0x0D, 0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23, 0x1F01, 0x1F02}

_NUMBER = rb"[\x80-\xff]{0,9}[\0-\x7f]"  # LEB128 of up to 64 bits
_NUMBERED = re.compile(_NUMBER)
# An attribute: its number, its form, and the value where that is implicit.
_ATTRIBUTE = rb"(?!\0\0)(%b)(?:\x21(%b)|((?!\x21)%b))" % ((_NUMBER,) * 3)
_ATTRIBUTES = re.compile(_ATTRIBUTE)
_ABBREVIATION = re.compile(
    rb"(?!\0)(%b)%b[\0\1]((?:%b)*)\0\0"
    % (_NUMBER, _NUMBER, re.sub(rb"\((?!\?)", b"(?:", _ATTRIBUTE))
)
_ABBREVIATIONS_BYTES = 1 << 16  # that one unit's are looked for in
_MOST_ABBREVIATIONS = 64 << 20  # bytes, of all: Linux has 5 MB
_ENTRY_BYTES = 1 << 12  # of a first entry, in which its language is
# A unit takes _UNIT_STEPS, and one for each _STEP_BYTES of abbreviations that are looked through.
# Linux takes a quarter of what there may be.
_MOST_STEPS, _UNIT_STEPS, _STEP_BYTES = 1 << 20, 8, 16

_ERRORS = (IndexError, KeyError, ValueError, struct.error)


class _Unit(NamedTuple):
    """A unit: offsets in its section where that of its abbreviations is told, and of its first
    entry; bytes of its offsets and of addresses."""

    told: int
    entry: int
    offset_bytes: int
    address_bytes: int


def renamed_languages(data: Readable, path: str | None = None) -> list[tuple[int, bytes]]:
    """Return (offset, bytes) to be written into an ELF file, so that all units in other languages
    than C say that they are in C++.

    data   the file, whose debug sections are not compressed

    Raises BtfError if it is not sound ELF.
    """
    table = read_table(data, path)
    headers, names = read_headers(data, table, path)
    dwarf = _Dwarf(data, table, headers, names)
    patches: dict[int, bytes] = {}
    for number, name in enumerate(names):
        if name == b".debug_info":
            patches.update(dwarf.patches(number))
    return sorted(patches.items())


class _Dwarf:
    """Reads the debug sections of one file."""

    def __init__(
        self, data: Readable, table: Table, headers: list[tuple[int, ...]], names: list[bytes]
    ) -> None:
        self._data, self._headers = data, headers
        self._order: Literal["little", "big"] = "little" if table.order == "<" else "big"
        self._word = 8 if table.header.size == 64 else 4
        self._is_linked = self._number(data[16:18], 0, 2) != _ET_REL
        number = names.index(b".debug_abbrev") if b".debug_abbrev" in names else 0
        self._abbreviations_at = headers[number][4]
        self._abbreviations = bytes(self._section(number)[:_MOST_ABBREVIATIONS])
        self._steps = 0
        self._seen: dict[tuple[int, bytes], re.Match[bytes] | None] = {}

    def patches(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield what to change for the units of section ``number``."""
        info, start, units = self._section(number), self._headers[number][4], []
        relocated: dict[int, int] = {}
        with contextlib.suppress(*_ERRORS):
            for unit in self._units(info):
                units.append(unit)
        with contextlib.suppress(*_ERRORS):
            if not self._is_linked:
                relocated = self._relocated(info, number, units)
        for unit in units:
            if self._steps >= _MOST_STEPS:  # no compiler writes that
                return
            with contextlib.suppress(*_ERRORS):
                there = bytes(info[unit.told : unit.entry])
                at = relocated.get(unit.told, self._number(there, 0, unit.offset_bytes))
                entry = bytes(info[unit.entry : unit.entry + _ENTRY_BYTES])
                content, place, form, is_abbreviation = self._language(entry, at, unit)
                new = self._renamed(content, place, form)
                if new:
                    first = self._abbreviations_at if is_abbreviation else start + unit.entry
                    yield first + place, new

    def _section(self, number: int) -> Part:
        return Part(self._data, self._headers[number][4], self._headers[number][5])

    def _number(self, content: bytes | memoryview, at: int, size: int) -> int:
        if at + size > len(content):
            raise IndexError(at)
        return int.from_bytes(content[at : at + size], self._order)

    def _units(self, info: Part) -> Iterator[_Unit]:
        at = 0
        while at < len(info) and self._steps < _MOST_STEPS:
            self._steps += _UNIT_STEPS
            head = bytes(info[at : at + 24])
            size, told, offset_bytes = self._number(head, 0, 4), 6, 4
            if size == 0xFFFFFFFF:
                size, told, offset_bytes = self._number(head, 4, 8), 14, 8
            version, end = self._number(head, told - 2, 2), at + told - 2 + size
            if 2 <= version <= 4:
                entry, address_bytes = told + offset_bytes + 1, head[told + offset_bytes]
                yield _Unit(at + told, at + entry, offset_bytes, address_bytes)
            elif version == 5:
                kind, address_bytes = head[told], head[told + 1]
                entry = told + 2 + offset_bytes
                if kind in (_TYPE_UNIT, _SPLIT_TYPE_UNIT):
                    entry += 8 + offset_bytes
                elif kind in (_SKELETON_UNIT, _SPLIT_UNIT):
                    entry += 8
                yield _Unit(at + told + 2, at + entry, offset_bytes, address_bytes)
            at = end

    def _relocated(self, info: Part, number: int, units: list[_Unit]) -> dict[int, int]:
        """Where the abbreviations of units are, by where that is told, as relocations have it."""
        sizes = {unit.told: unit.offset_bytes for unit in units}
        word, found = f"{'<' if self._order == 'little' else '>'}u{self._word}", {}
        for which, header in enumerate(self._headers):
            if header[7] != number or header[1] not in (_SHT_RELA, _SHT_REL):
                continue
            fields = 3 if header[1] == _SHT_RELA else 2
            rows = np.frombuffer(self._section(which)[:], word).reshape(-1, fields)
            symbols = self._section(header[6])
            rows = rows[np.isin(rows[:, 0], np.array([*sizes], np.uint64))]
            for row in rows[np.unique(rows[:, 0], return_index=True)[1]].tolist():
                symbol = row[1] >> (32 if self._word == 8 else 8)
                start = symbol * _SYMBOL_BYTES[self._word] + self._word
                value = self._number(symbols[start : start + self._word], 0, self._word)
                there = info[row[0] : row[0] + sizes[row[0]]]
                value += row[2] if fields == 3 else self._number(there, 0, len(there))
                found[row[0]] = value % (1 << 8 * self._word)
        return found

    def _language(self, entry: bytes, at: int, unit: _Unit) -> tuple[bytes, int, int, bool]:
        """Find the language in a unit's first entry: in which bytes, where in them, its form, and
        whether these are the abbreviations, which begin ``at`` there. Raises ValueError if there
        is none."""
        abbreviations, wanted = self._abbreviations, _encoded(entry, 0)
        found = self._abbreviation(at, wanted)
        place = len(wanted)
        for attribute in _ATTRIBUTES.finditer(found[2]):
            form = _IMPLICIT if attribute[2] else _uleb(attribute[3])
            if _uleb(attribute[1]) == _LANGUAGE:
                if form == _IMPLICIT:
                    return abbreviations, found.start(2) + attribute.start(2), form, True
                return entry, place, form, False
            if form == _STRING:
                place = entry.index(0, place) + 1
            elif form in _NUMBERS:
                place += len(_encoded(entry, place))
            elif form == _ADDRESS:
                place += unit.address_bytes
            else:
                place += unit.offset_bytes if form in _OFFSETS else _BYTES[form]
        raise ValueError

    def _abbreviation(self, at: int, code: bytes) -> re.Match[bytes]:
        """Find the abbreviation with a code among those from a place on; units may share them.
        Raises ValueError if there is none."""
        if (at, code) not in self._seen:
            end = min(at + _ABBREVIATIONS_BYTES, len(self._abbreviations))
            found = _ABBREVIATION.match(self._abbreviations, at, end)
            while found and found[1] != code:
                found = _ABBREVIATION.match(self._abbreviations, found.end(), end)
            last = found.end() if found else end
            self._steps += max(0, last - at) // _STEP_BYTES
            self._seen[at, code] = found
        if (known := self._seen[at, code]) is None:
            raise ValueError
        return known

    def _renamed(self, content: bytes, place: int, form: int) -> bytes:
        """What to write in place of a language; nothing, if that is C."""
        if form == _IMPLICIT or form in _NUMBERS:
            told = _encoded(content, place)
            language, size = _uleb(told), len(told)
            new = bytes([*[_C_PLUS_PLUS | 0x80] * (size > 1), *[0x80] * (size - 2), 0])
            new = new if size > 1 else bytes([_C_PLUS_PLUS])
        else:
            language = self._number(content, place, _BYTES[form])
            new = _C_PLUS_PLUS.to_bytes(_BYTES[form], self._order)
        named = language in _LEFT or (language > _LAST_KNOWN and language != _OLD_RUST)
        return b"" if named or not language else new


def _encoded(content: bytes, at: int) -> bytes:
    """The number at a place, as it is written there. Raises ValueError if there is none."""
    found = _NUMBERED.match(content, at)
    if found is None:
        raise ValueError
    return found[0]


def _uleb(number: bytes) -> int:
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(number))
