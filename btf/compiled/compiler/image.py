"""From an object file to an image: machine code that needs no loader but to be put into memory.

What LLVM makes of a compiled function refers only to itself, relative to its own address, and to a
few functions of the C library (``memset``). All but the latter is relocated here once, so that a
later process does without LLVM, whose library takes a tenth of a second to load. This is so on
x86-64; object files for other processors are kept as they are.
"""

from __future__ import annotations

import io
import struct

from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_x64
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Symbol, SymbolTableSection

_WRITTEN, _ALLOCATED = 1, 2  # SHF_WRITE, SHF_ALLOC
_RELATIVE = (ENUM_RELOC_TYPE_x64["R_X86_64_PC32"], ENUM_RELOC_TYPE_x64["R_X86_64_PLT32"])
_FRAMES = ".eh_frame"  # nothing unwinds through compiled functions
# jmp to the address in the eight bytes that follow; these are two bytes on.
_JUMP = bytes.fromhex("ff25020000000000")


class NoImageError(Exception):
    """An object file that cannot be an image; the message says why."""


def image_of(code: bytes, function: str) -> tuple[bytes, int, dict[str, int]]:
    """Turn an object file into an image.

    Returns (image, start, imports): position of ``function`` in the image, and for each function
    of the C library the position of the eight bytes that its address must be written to. Raises
    NoImageError.
    """
    file = ELFFile(io.BytesIO(code))
    if file["e_machine"] != "EM_X86_64":
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
            image.extend(bytes(-len(image) % 16) + _JUMP + bytes(8))
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
            if relocation["r_info_type"] not in _RELATIVE:
                raise NoImageError(f"relocation of type {relocation['r_info_type']}")
            at = places[section["sh_info"]] + relocation["r_offset"]
            target = place_of(symbols.get_symbol(relocation["r_info_sym"]))
            struct.pack_into("<i", image, at, target + relocation["r_addend"] - at)
    if start is None:
        raise NoImageError(f"no function {function}")
    return bytes(image), start, imports
