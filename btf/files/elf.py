"""BTF and what identifies a module, out of an ELF file."""

from __future__ import annotations

import io
import mmap
import re
from dataclasses import dataclass
from typing import IO, cast

from ..errors import BtfError, DwarfOnlyError, NoBtfError
from .sections import Sections, read_sections

MAGIC = b"\x7fELF"
_WANTED = frozenset((".BTF", ".BTF.base", ".BTF.ext", ".modinfo", ".note.gnu.build-id", ".rodata"))
_DWARF = (b".debug_info", b".zdebug_info")
_BANNER = re.compile(rb"Linux version (\d+\.\S+) ")


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
    """

    btf: bytes | None
    btf_base: bytes | None
    btf_ext: bytes | None
    name: str | None
    depends: tuple[str, ...]
    release: str | None
    build_id: str | None
    has_dwarf: bool


def is_elf(data: bytes | memoryview | mmap.mmap) -> bool:
    return bytes(data[:4]) == MAGIC


def read_elf(data: bytes | mmap.mmap, path: str | None = None) -> ElfBtf:
    """Read the sections of an ELF file. Raises BtfError when it is not sound ELF.

    data   the file; mapped if it is large (a vmlinux with debug information)
    """
    sections = read_sections(data, _WANTED) or _read_any(data, path)
    found = sections.contents
    info = _modinfo(found.get(".modinfo", b""))
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
        has_dwarf=any(name.startswith(_DWARF) for name in sections.names),
    )


def _read_any(data: bytes | mmap.mmap, path: str | None) -> Sections:
    """Read any ELF file by pyelftools. Raises BtfError when it is not sound."""
    from elftools.common.exceptions import ELFError  # slow to import, and seldom needed
    from elftools.elf.elffile import ELFFile

    found: dict[str, bytes] = {}
    names = set()
    try:
        elf = ELFFile(cast(IO[bytes], data) if isinstance(data, mmap.mmap) else io.BytesIO(data))
        for section in elf.iter_sections():
            names.add(section.name.encode())
            if section.name not in _WANTED or section["sh_type"] == "SHT_NOBITS":
                continue
            start, size = section["sh_offset"], section["sh_size"]
            if start + size > len(data):
                raise BtfError(
                    f"section of {size} bytes at {start} ends beyond the file "
                    f"({len(data)} bytes): truncated?",
                    path,
                    section.name,
                    start,
                )
            found[section.name] = section.data()
        return Sections(found, frozenset(names), elf.little_endian)
    except BtfError:
        raise
    except (ELFError, ValueError, KeyError, IndexError, AssertionError, OverflowError) as error:
        raise BtfError(f"damaged ELF file: {error}", path, "ELF header") from error
    except Exception as error:  # pyelftools lets errors of its parser through on damaged input
        raise BtfError(f"damaged ELF file: {type(error).__name__}: {error}", path, "ELF") from error


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


def release_of_banner(content: bytes) -> str | None:
    """``6.1.0-50-amd64`` of ``Linux version 6.1.0-50-amd64 (...``, as every kernel holds it."""
    banner = _BANNER.search(content)
    return banner.group(1).decode("ascii", "replace") if banner else None


def _modinfo(section: bytes) -> dict[str, str]:
    """Return ``key=value`` strings of ``.modinfo``; of repeated keys the first."""
    info: dict[str, str] = {}
    for entry in section.split(b"\0"):
        key, separator, value = entry.partition(b"=")
        if separator:
            info.setdefault(key.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
    return info


def _build_id(note: bytes, little: bool) -> str | None:
    order = "little" if little else "big"
    if len(note) < 16 or note[12:16] != b"GNU\0":
        return None
    size = int.from_bytes(note[4:8], order)  # type: ignore[arg-type]
    return note[16 : 16 + size].hex() or None
