"""What `splitbtf slim` may change in a kernel module, and what not, from the files alone.

pyelftools reads the file, `naive_btf` the BTF: nothing here is the library's.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, SymbolTableSection

from support.oracles import naive_btf

SIGNATURE_MAGIC = b"~Module signature appended~\n"
MAY_CHANGE = (".BTF", ".BTF_ids", ".BTF.ext")
_KINDS = {"func": "FUNC", "struct": "STRUCT", "union": "UNION", "typedef": "TYPEDEF"}
_ID = re.compile(r"__BTF_ID__(func|struct|union|typedef)__.+__\d+")
_SET = re.compile(r"__BTF_ID__(set8?)__.+")


def unsigned(data: bytes) -> bytes:
    """A module's file without its signature (struct module_signature, at most one)."""
    if not data.endswith(SIGNATURE_MAGIC):
        return data
    end = len(data) - len(SIGNATURE_MAGIC)
    (length,) = struct.unpack(">I", data[end - 4 : end])
    return data[: end - 12 - length]


def content(data: bytes, name: str) -> bytes | None:
    """A section's content."""
    section = ELFFile(io.BytesIO(data)).get_section_by_name(name)
    return section.data() if section else None


def differences(before: bytes, after: bytes, base: naive_btf.Btf) -> Iterator[str]:
    """What is wrong with `after`, made of the module `before`: a line each."""
    old, new = (ELFFile(io.BytesIO(data)) for data in (unsigned(before), after))
    if after.endswith(SIGNATURE_MAGIC):
        yield "it has a signature"
    for field, value in old.header.items():
        if field != "e_shoff" and new.header[field] != value:
            yield f"{field} is {new.header[field]}, not {value}"
    sections = list(zip(old.iter_sections(), new.iter_sections(), strict=True))
    for was, now in sections:
        yield from _section(was, now)
    yield from _places(new, len(after))
    yield from _ids(old, new, base)


def _section(was: Section, now: Section) -> Iterator[str]:
    free = {"sh_offset"} | ({"sh_size"} if was.name == ".BTF" else set())
    for field, value in was.header.items():
        if field not in free and now.header[field] != value:
            yield f"{was.name}: {field} is {now.header[field]}, not {value}"
    if was.name != now.name:
        yield f"{was.name} is now {now.name}"
    alignment = max(was["sh_addralign"], 1)
    if was["sh_type"] == "SHT_NOBITS" or was.name == ".BTF":
        return
    if was["sh_offset"] % alignment == 0 and now["sh_offset"] % alignment:
        yield f"{was.name}: at {now['sh_offset']}, not aligned to {alignment}"
    if was.name not in MAY_CHANGE and was.data() != now.data():
        yield f"{was.name}: other content"


def _places(new: ELFFile, size: int) -> Iterator[str]:
    """Sections, headers and the table of sections lie in the file, none on another."""
    parts = [
        (s["sh_offset"], s["sh_offset"] + s["sh_size"], s.name)
        for s in new.iter_sections()
        if s["sh_type"] not in ("SHT_NOBITS", "SHT_NULL") and s["sh_size"]
    ]
    table = new["e_shoff"]
    parts += [(0, new["e_ehsize"], "ELF header"), (table, table + 64 * new["e_shnum"], "headers")]
    parts.sort()
    for (_, end, name), (start, _, other) in pairwise(parts):
        if end > start:
            yield f"{name} and {other} overlap"
    if max(end for _, end, _ in parts) != size:
        yield f"the file has {size} bytes, its parts end at {max(end for _, end, _ in parts)}"


def _ids(old: ELFFile, new: ELFFile, base: naive_btf.Btf) -> Iterator[str]:
    """Every id of `.BTF_ids` names what it named, with the same flags, and sets are sorted."""
    if old.get_section_by_name(".BTF_ids") is None:
        return
    types = [naive_btf.parse(_data(elf, ".BTF"), base) for elf in (old, new)]
    words = [
        struct.unpack(f"<{len(data) // 4}I", data)
        for data in (_data(elf, ".BTF_ids") for elf in (old, new))
    ]
    index = old.get_section_index(".BTF_ids")
    table = old.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = [
        (s.name, s["st_value"] // 4, s["st_size"] // 4)
        for s in table.iter_symbols()
        if s["st_shndx"] == index
    ]
    places = {at for name, at, _ in symbols if _ID.fullmatch(name)}
    wanted = sorted(name.split("__")[2] for name, _, _ in symbols if _ID.fullmatch(name))

    def named(which: int, at: int) -> tuple[str, bytes]:
        return name_of(types[which], words[which][at])

    found = sorted({v: k for k, v in _KINDS.items()}.get(named(1, at)[0], "?") for at in places)
    if found != wanted:
        yield f".BTF_ids: of kinds {found}, not {wanted}"
    in_sets: set[int] = set()
    for name, at, size in symbols:
        kind = _SET.fullmatch(name)
        if kind is None:
            continue
        step = 2 if kind[1] == "set8" else 1
        members = range(at + step, at + size, step)
        in_sets |= set(members)
        rows = [
            [(*named(which, m), words[which][m + 1 : m + step]) for m in members]
            for which in (0, 1)
        ]
        if sorted(rows[0]) != sorted(rows[1]):
            yield f"{name}: {rows[1]}, not {rows[0]}"
        ids = [words[1][m] for m in members]
        if ids != sorted(ids):
            yield f"{name}: not sorted: {ids}"
    flags = {m + 1 for m in in_sets}
    for at in range(len(words[0])):
        if at in places - in_sets and named(0, at) != named(1, at):
            yield f".BTF_ids: word {at} names {named(1, at)}, not {named(0, at)}"
        if at not in places and at not in flags and words[0][at] != words[1][at]:
            yield f".BTF_ids: word {at} is {words[1][at]}, not {words[0][at]}"


def _data(elf: ELFFile, name: str) -> bytes:
    section = elf.get_section_by_name(name)
    assert section is not None
    return bytes(section.data())


def name_of(types: naive_btf.Btf, type_id: int) -> tuple[str, bytes]:
    """Kind and name of a type."""
    base = types.base
    if base is not None and type_id < base.end_id:
        return name_of(base, type_id)
    if type_id == 0:
        return "VOID", b""
    found = types.types[type_id - types.start_id]
    return naive_btf.KIND_NAMES[naive_btf.kind_of(found)], types.text(found[0])
