"""A kernel module's ELF file: what it says about itself, and giving it another BTF.

`.BTF` of a module is not loaded (no SHF_ALLOC): the kernel finds it by name in the file and copies
it. So the smallest possible change gives a module another BTF: the new bytes go to the end of the
file and the section's header points there. Nothing else moves, no relocation is touched.

Debian signs its modules. The signature stands behind the ELF file and covers all of it, so a
changed module cannot keep it. Debian's kernel loads unsigned modules unless Secure Boot locks it
down; it says so once in its log and sets a taint flag. That is no complaint about BTF.

`.BTF_ids` holds type ids that C code asks for by name (kfuncs that the module registers, types that
a verifier callback compares with). The kernel build resolves them against the BTF of that build
(tools/bpf/resolve_btfids). With another BTF they would name other types, so they are resolved
again, in the same way and from the same symbols: `__BTF_ID__KIND__NAME__NUMBER` says which name
each word stands for. In Debian 6.1 these are nf_conntrack, nf_nat, tcp_bbr and tcp_dctcp.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kernel_proof.kernel_package import CannotRun

SIGNATURE_MAGIC = b"~Module signature appended~\n"
# struct module_signature (Linux include/linux/module_signature.h): its last word is the length of
# the signature before it, big-endian.
SIGNATURE_INFO_BYTES = 12

SECTION_OFFSET_FIELD = 0x18  # sh_offset in Elf64_Shdr; sh_size follows

BTF_ID_SYMBOL = re.compile(r"__BTF_ID__(struct|union|typedef|func)__(.+)__\d+")
BTF_SET_SYMBOL = re.compile(r"__BTF_ID__(set8?)__.+")

TypeIds = Mapping[tuple[str, str], int]
"""(kind, name) -> the first type id of that kind and name, base included."""


class ModuleFile:
    """A module as its package has it, without its signature."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stem = path.stem
        self.data = without_signature(path.read_bytes())
        self.elf = ELFFile(io.BytesIO(self.data))
        words = dict(
            entry.split("=", 1)
            for entry in self.section(".modinfo").decode(errors="replace").split("\0")
            if "=" in entry
        )
        self.name = words["name"]
        self.depends = [kernel_name(name) for name in words["depends"].split(",") if name]
        self.btf = self.section(".BTF")
        self.btf_ids = self.section(".BTF_ids")

    def section(self, name: str) -> bytes:
        """The bytes of a section, none if the module does not have it."""
        section = self.elf.get_section_by_name(name)
        return section.data() if section else b""

    def resolved_btf_ids(self, built: TypeIds, wanted: TypeIds) -> bytes:
        """`.BTF_ids` for another BTF than the one that the module was built with.

        Symbols say which names a set has, but not which of its words is which: resolve_btfids has
        sorted each set by id, flags and all. So every word is translated from the id that its name
        had in the build to the id that it has now, and the sets are sorted again. A name that the
        BTF lacks has id 0. Raises CannotRun for an id that is none of the names'.
        """
        index = self.elf.get_section_index(".BTF_ids")
        symbols = self.elf.get_section_by_name(".symtab")
        if not isinstance(symbols, SymbolTableSection):
            raise CannotRun(f"{self.stem}: .BTF_ids cannot be resolved without a symbol table")
        ids = bytearray(self.btf_ids)
        places, sets, translation = [], [], {0: 0}
        for symbol in symbols.iter_symbols():
            if symbol["st_shndx"] != index:
                continue
            if match := BTF_ID_SYMBOL.fullmatch(symbol.name):
                kind, name = match.groups()
                places.append(symbol["st_value"])
                translation[built.get((kind, name), 0)] = wanted.get((kind, name), 0)
            elif match := BTF_SET_SYMBOL.fullmatch(symbol.name):
                sets.append((match[1], symbol["st_value"], symbol["st_size"]))
        for place in places:
            (built_id,) = struct.unpack_from("<I", ids, place)
            if built_id not in translation:
                raise CannotRun(f"{self.stem}: .BTF_ids has {built_id}, which no symbol explains")
            struct.pack_into("<I", ids, place, translation[built_id])
        # The kernel looks a set's ids up by bisection. A set is a count and its ids; a set8 is a
        # count and a word of flags, then pairs of id and flags.
        for kind, start, size in sets:
            step = 8 if kind == "set8" else 4
            entries = [bytes(ids[at : at + step]) for at in range(start + step, start + size, step)]
            entries.sort(key=lambda entry: int.from_bytes(entry[:4], "little"))
            ids[start + step : start + size] = b"".join(entries)
        return bytes(ids)

    def with_btf(self, btf: bytes, btf_ids: bytes) -> bytes:
        """The module's file with these bytes as its .BTF and .BTF_ids sections."""
        data = bytearray(self.data)
        if btf_ids:
            start, size = struct.unpack_from("<QQ", data, self.place_at(".BTF_ids"))
            if size != len(btf_ids):
                raise CannotRun(f"{self.stem}: .BTF_ids must keep its size of {size} bytes")
            data[start : start + size] = btf_ids
        data += bytes(-len(data) % 8)
        struct.pack_into("<QQ", data, self.place_at(".BTF"), len(data), len(btf))
        return bytes(data + btf)

    def place_at(self, name: str) -> int:
        """Where in the file a section's header says its place: sh_offset, then sh_size."""
        index = self.elf.get_section_index(name)
        if index is None:
            raise CannotRun(f"{self.path} has no section {name}")
        headers, header_bytes = int(self.elf["e_shoff"]), int(self.elf["e_shentsize"])
        return headers + header_bytes * index + SECTION_OFFSET_FIELD


def kernel_name(name: str) -> str:
    """A module's name as the kernel has it: file names and dependencies may have hyphens."""
    return name.replace("-", "_")


def without_signature(data: bytes) -> bytes:
    if not data.endswith(SIGNATURE_MAGIC):
        return data
    end = len(data) - len(SIGNATURE_MAGIC) - SIGNATURE_INFO_BYTES
    (length,) = struct.unpack_from(">I", data, end + SIGNATURE_INFO_BYTES - 4)
    return data[: end - length]
