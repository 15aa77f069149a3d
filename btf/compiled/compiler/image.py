"""From an object file to an image: machine code that needs no loader but to be put into memory.

What LLVM makes of a compiled function refers only to itself, relative to its own address, and to a
few functions of the C library (``memset``). All but the latter is relocated here once, so that a
later process does without LLVM, whose library takes a tenth of a second to load. This is so on
x86-64 and AArch64; object files for other processors are kept as they are.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_x64 as X86
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Symbol, SymbolTableSection

_WRITTEN, _ALLOCATED = 1, 2  # SHF_WRITE, SHF_ALLOC
_Relocation = Callable[[int, int, int], int]
_FRAMES = ".eh_frame"  # nothing unwinds through compiled functions


class NoImageError(Exception):
    """An object file that cannot be an image; the message says why."""


def image_of(code: bytes, function: str) -> tuple[bytes, int, dict[str, int]]:
    """Turn an object file into an image.

    Returns (image, start, imports): position of ``function`` in the image, and for each function
    of the C library the position of the eight bytes that its address must be written to. Raises
    NoImageError.
    """
    file = ELFFile(io.BytesIO(code))
    processor = _PROCESSORS.get(file["e_machine"])
    if processor is None:
        raise NoImageError(f"for {file['e_machine']}")
    image = bytearray()
    places: dict[int, int] = {}  # of the sections, by number
    for number, section in enumerate(file.iter_sections()):
        if section["sh_flags"] & _ALLOCATED and section.name != _FRAMES:
            if section["sh_flags"] & _WRITTEN:
                raise NoImageError(f"{section.name} is to be written to")
            image += bytes(-len(image) % max(16, section["sh_addralign"]))
            places[number] = len(image)
            image += section.data()
    imports: dict[str, int] = {}

    def place_of(symbol: Symbol) -> int:
        if symbol["st_shndx"] in places:
            return places[symbol["st_shndx"]] + int(symbol["st_value"])
        if symbol["st_shndx"] != "SHN_UNDEF":
            raise NoImageError(f"{symbol.name} is in section {symbol['st_shndx']}")
        if symbol.name not in imports:
            image.extend(bytes(-len(image) % 16) + processor.jump + bytes(8))
            imports[symbol.name] = len(image) - 8
        return imports[symbol.name] - 8

    start = None
    for section in file.iter_sections():
        if isinstance(section, SymbolTableSection):
            found = section.get_symbol_by_name(function)
            start = place_of(found[0]) if found else start
        if not isinstance(section, RelocationSection) or section["sh_info"] not in places:
            continue
        symbols = file.get_section(section["sh_link"])
        for relocation in section.iter_relocations():
            apply = processor.relocations.get(relocation["r_info_type"])
            if apply is None:
                raise NoImageError(f"relocation of type {relocation['r_info_type']}")
            at = places[section["sh_info"]] + relocation["r_offset"]
            target = place_of(symbols.get_symbol(relocation["r_info_sym"]))
            (word,) = struct.unpack_from("<I", image, at)
            word = apply(word, target + relocation["r_addend"], at)
            struct.pack_into("<I", image, at, word & 0xFFFFFFFF)
    if start is None:
        raise NoImageError(f"no function {function}")
    return bytes(image), start, imports


# Relocations: what becomes of the word at position ``at`` that refers to position ``target``. The
# image begins at a page, so the pages of positions are as far apart as those of addresses.


def _distance(_: int, target: int, at: int) -> int:
    return target - at


def _branch(word: int, target: int, at: int) -> int:
    """B, BL: 26 bits, in words."""
    return word | (target - at) >> 2 & 0x3FFFFFF


def _page(word: int, target: int, at: int) -> int:
    """ADRP: the distance of the pages, its two lowest bits first."""
    pages = (target >> 12) - (at >> 12)
    return word | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5


def _within_page(size: int) -> _Relocation:
    """ADD, and LDR and STR of ``size`` bytes: 12 bits."""
    return lambda word, target, _: word | (target & 0xFFF) // size << 10


@dataclass(frozen=True, slots=True)
class _Processor:
    """jump: goes to the address in the eight bytes that follow; relocations: by type."""

    jump: bytes
    relocations: Mapping[int, _Relocation]


_PROCESSORS = {
    "EM_X86_64": _Processor(
        bytes.fromhex("ff25020000000000"),  # jmp *2(%rip)
        {X86["R_X86_64_PC32"]: _distance, X86["R_X86_64_PLT32"]: _distance},
    ),
    "EM_AARCH64": _Processor(
        bytes.fromhex("5000005800021fd6"),  # ldr x16, .+8; br x16
        {  # R_AARCH64_…, not all of which the library has names for
            283: _branch,  # CALL26
            282: _branch,  # JUMP26
            261: _distance,  # PREL32
            275: _page,  # ADR_PREL_PG_HI21
            277: _within_page(1),  # ADD_ABS_LO12_NC
            278: _within_page(1),  # LDST8_ABS_LO12_NC
            284: _within_page(2),  # LDST16_ABS_LO12_NC
            285: _within_page(4),  # LDST32_ABS_LO12_NC
            286: _within_page(8),  # LDST64_ABS_LO12_NC
            299: _within_page(16),  # LDST128_ABS_LO12_NC
        },
    ),
}
