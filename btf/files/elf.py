"""BTF and what identifies a module, out of an ELF file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import BtfError, DwarfOnlyError, NoBtfError
from .readable import Readable, readable
from .sections import read_sections

_WANTED = frozenset((".BTF", ".BTF.base", ".BTF.ext", ".modinfo", ".note.gnu.build-id", ".rodata"))
_BANNER = re.compile(rb"Linux version (\d+\.\S{1,128}) ")
_FACTS = re.compile(rb"(?:^|(?<=\0))(name|depends|vermagic)=([^\0]*)")
_MAX_FACT_BYTES = 64 << 10
_MAX_BUILD_ID_BYTES = 64


@dataclass(frozen=True)
class ElfBtf:
    """The BTF of one ELF file and what the file says of itself.

    btf             contents of ``.BTF``; None where there is no such section
    btf_base        of ``.BTF.base``, a distilled base
    btf_ext         of ``.BTF.ext``, what a BPF program's code refers to
    name, depends, release   from ``.modinfo``: module name, modules it needs, first word of
                             vermagic; for a vmlinux, release is that of its banner
    build_id        GNU build id in hex
    has_dwarf       whether there is ``.debug_info`` that BTF could be made from
    narrow          whether it is a file of 32 bit
    """

    btf: bytes | None
    btf_base: bytes | None
    btf_ext: bytes | None
    name: str | None
    depends: tuple[str, ...]
    release: str | None
    build_id: str | None
    has_dwarf: bool
    narrow: bool = field(default=False, compare=False)


def read_elf(data: Readable, path: str | None = None) -> ElfBtf:
    """Read the sections of an ELF file. Raises BtfError when it is not sound ELF.

    data   the file, of which only parts are asked for
    """
    sections = read_sections(readable(data), _WANTED, path)
    found = sections.contents
    info = _modinfo(found.get(".modinfo", b""), path)
    release = info.get("vermagic", "").split(" ")[0] or None
    if release is None and ".modinfo" not in found:
        release = release_of_banner(found.get(".rodata", b""))
    return ElfBtf(
        btf=found.get(".BTF"),
        btf_base=found.get(".BTF.base"),
        btf_ext=found.get(".BTF.ext"),
        name=info.get("name"),
        depends=tuple(name for name in info.get("depends", "").split(",") if name),
        release=release,
        build_id=_build_id(found.get(".note.gnu.build-id", b""), sections.little_endian),
        has_dwarf=sections.has_dwarf,
        narrow=sections.narrow,
    )


def btf_section(elf: ElfBtf, path: str | None) -> bytes:
    """Return the ``.BTF`` section. Raises DwarfOnlyError or NoBtfError, saying how to get one."""
    if elf.btf is not None:
        return elf.btf
    missing = "ELF file without a .BTF section"
    if elf.has_dwarf:
        fix = "it has DWARF: make BTF with `pahole -J` (Debian package dwarves)"
        raise DwarfOnlyError(f"{missing}; {fix}", path, ".BTF")
    fix = "and no DWARF to make it from: build the kernel with CONFIG_DEBUG_INFO_BTF"
    raise NoBtfError(f"{missing}; {fix}", path, ".BTF")


def release_of_banner(content: bytes | memoryview) -> str | None:
    """``6.1.0-50-amd64`` of ``Linux version 6.1.0-50-amd64 (...``, as every kernel holds it."""
    banner = _BANNER.search(content)
    return banner.group(1).decode("ascii", "replace") if banner else None


def _modinfo(section: bytes, path: str | None) -> dict[str, str]:
    """Return the ``key=value`` strings of ``.modinfo`` that are wanted; of repeated keys the first.

    Raises BtfError.
    """
    info: dict[str, str] = {}
    for entry in _FACTS.finditer(section):
        key, value = entry[1].decode(), entry[2]
        if len(value) > _MAX_FACT_BYTES:
            raise BtfError(f"{key} has {len(value)} bytes", path, ".modinfo", entry.start())
        info.setdefault(key, value.decode("utf-8", "replace"))
    return info


def _build_id(note: bytes, little: bool) -> str | None:
    order = "little" if little else "big"
    if len(note) < 16 or note[12:16] != b"GNU\0":
        return None
    size = int.from_bytes(note[4:8], order)  # type: ignore[arg-type]
    return note[16 : 16 + min(size, _MAX_BUILD_ID_BYTES)].hex() or None
