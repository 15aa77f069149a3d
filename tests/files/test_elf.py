"""Protects: sections of ELF files are what pyelftools says; what a file says of itself is checked,
and costs no more than the file is large."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections.abc import Set
from pathlib import Path

import pytest
import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

import btf
from btf import elf as elf_file
from btf.files import decompress
from btf.files.debug_sections import decompress_debug_sections
from btf.files.elf import ElfBtf, read_elf
from btf.files.readable import Readable
from btf.files.sections import Sections, is_elf
from support.writers.elfwriter import SHT_NOBITS, elf, modinfo

SECTIONS = {
    ".text": b"\x90" * 33,
    ".modinfo": modinfo(name="foo", depends="bar,baz", vermagic="6.1.0-1 SMP mod_unload"),
    ".note.gnu.build-id": struct.pack("<III4s", 4, 3, 3, b"GNU") + b"\xab\xcd\xef",
    ".BTF": b"\x9f\xeb\x01\0" + bytes(range(200)),
    ".BTF.base": b"base",
    ".BTF.ext": b"ext",
    ".debug_info": b"dwarf",
}
SHAPES = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]


def sections_by_pyelftools(data: Readable, wanted: Set[str], path: str | None = None) -> Sections:
    found = {}
    elf = ELFFile(io.BytesIO(data[:]))
    sections = list(elf.iter_sections())
    for section in sections:
        if section.name in wanted and section["sh_type"] != "SHT_NOBITS":
            if section["sh_offset"] + section["sh_size"] > len(data):
                raise ELFError("truncated")
            found[section.name] = section.data()
    dwarf = any(section.name.startswith((".debug_info", ".zdebug_info")) for section in sections)
    return Sections(found, dwarf, elf.little_endian)


def by_pyelftools(data: bytes) -> ElfBtf:
    """``read_elf`` with the sections that pyelftools reads."""
    ours = elf_file.read_sections
    elf_file.read_sections = sections_by_pyelftools
    try:
        return read_elf(data, "x.ko")
    finally:
        elf_file.read_sections = ours


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_every_class_and_byte_order(bits: int, order: str) -> None:
    sections = dict(SECTIONS)
    sections[".note.gnu.build-id"] = struct.pack(f"{order}III4s", 4, 3, 3, b"GNU") + b"\xab\xcd\xef"
    data = elf(sections, bits=bits, order=order)
    assert is_elf(data)
    found = read_elf(data)
    assert found == by_pyelftools(data)
    assert (found.btf, found.btf_base, found.btf_ext) == (
        SECTIONS[".BTF"], SECTIONS[".BTF.base"], SECTIONS[".BTF.ext"],
    )  # fmt: skip
    assert (found.name, found.depends, found.release) == ("foo", ("bar", "baz"), "6.1.0-1")
    assert found.build_id == "abcdef" and found.has_dwarf


def test_large_files_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(
        elf({".BTF": b"btf", ".rodata": b"\0Linux version 6.1.0-9-amd64 (gcc)\0"})
    )
    with (tmp_path / "vmlinux").open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = read_elf(data)
    assert (found.btf, found.release, found.has_dwarf) == (b"btf", "6.1.0-9-amd64", False)


def squeezed(kind: int, content: bytes, packed: bytes, bits: int = 64, order: str = "<") -> bytes:
    """An ELF file whose ``.BTF`` is compressed (SHF_COMPRESSED): ``packed``, said to be so."""
    head = struct.pack(f"{order}III", kind, len(content), 1)
    if bits == 64:
        head = struct.pack(f"{order}IIQQ", kind, 0, len(content), 1)
    return elf({".BTF": head + packed}, bits=bits, order=order, flags={".BTF": 0x800})


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_compressed_sections(bits: int, order: str) -> None:
    content = bytes(range(256)) * 300
    data = squeezed(1, content, zlib.compress(content), bits, order)
    assert read_elf(data).btf == content == by_pyelftools(data).btf
    packed = zstandard.ZstdCompressor().compress(content)
    assert read_elf(squeezed(2, content, packed, bits, order)).btf == content


def test_sections_without_content() -> None:
    nothing = elf({".BTF": b"", ".debug_info": b""}, kinds={".BTF": SHT_NOBITS})
    assert read_elf(nothing).btf is None and read_elf(nothing) == by_pyelftools(nothing)


@pytest.mark.parametrize("kind", [1, 2])
def test_compressed_sections_that_are_not_what_they_say(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(data: bytes) -> str:
        with pytest.raises(btf.BtfError) as caught:
            read_elf(data, "x.ko")
        assert caught.value.section == ".BTF"
        return str(caught.value)

    content = bytes(100_000)
    squeeze = zlib.compress if kind == 1 else zstandard.ZstdCompressor().compress
    packed = squeeze(content)
    assert "unfolds to more than 99999 bytes" in refused(squeezed(kind, content[1:], packed))
    assert "unfolds to 100000 bytes, not to 100001" in refused(
        squeezed(kind, bytes(100_001), packed)
    )
    assert "the file ends before" in refused(squeezed(kind, content, packed[:-3]))
    assert "what follows byte" in refused(squeezed(kind, content, packed + b"x"))
    assert "unknown way 3" in refused(squeezed(3, content, packed))
    assert "of 9 bytes only" in refused(elf({".BTF": b"x" * 9}, flags={".BTF": 0x800}))
    huge = bytearray(squeezed(kind, content, packed))
    at = huge.index(struct.pack("<Q", len(content)))
    struct.pack_into("<Q", huge, at, 5 << 30)
    assert "unfolds to more than 1024 MiB" in refused(bytes(huge))
    monkeypatch.setattr(decompress, "MAX_DECOMPRESSED_BYTES", 150_000)
    two = struct.pack("<IIQQ", kind, 0, len(content), 1) + packed
    both = elf({".BTF": two, ".BTF.ext": two}, flags={".BTF": 0x800, ".BTF.ext": 0x800})
    with pytest.raises(btf.BtfError, match="unfolds to more than"):
        read_elf(both)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 3, "class 3 and byte order 1 are none"),
        (5, 0, "class 2 and byte order 0 are none"),
        (6, 2, "only version 1 is known"),
        (20, 2, "version 2; only version 1 is known"),
        (52, 63, "a header of 63 bytes, not of 64"),
        (58, 40, "section headers of 40 bytes, not of 64"),
        (40, 7, "end beyond the file|section"),
        (61, 255, "end beyond the file"),
        (62, 0, "section 0 of 9 should hold the names"),
        (62, 9, "section 9 of 9 should hold the names"),
        (62, 4, "the section of names is none"),
    ],
)
def test_the_header_of_a_file_is_checked(at: int, value: int, message: str) -> None:
    data = bytearray(elf(SECTIONS))
    data[at] = value
    with pytest.raises(btf.BtfError, match=message):
        read_elf(bytes(data), "x.ko")
    assert is_elf(bytes(data)) == (at == 62 and value == 4), "headers only"


def test_a_file_without_section_headers_has_no_btf() -> None:
    data = bytearray(elf(SECTIONS))
    data[40:48] = bytes(8)
    data[60:64] = bytes(4)
    assert read_elf(bytes(data)).btf is None and not is_elf(bytes(data))


@pytest.mark.slow
def test_numbers_that_do_not_fit_into_the_header() -> None:
    """Of 65,280 sections and more, the count and the number of names are in the first of them."""
    count = 0x10010
    data = bytearray(elf(SECTIONS))
    start = len(data) - (len(SECTIONS) + 2) * 64
    sections = [data[at : at + 64] for at in range(start, len(data), 64)]
    sections[1:1] = [bytearray(64)] * (count - len(sections))
    struct.pack_into("<QI", sections[0], 32, count, count - 1)
    struct.pack_into("<HH", data, 60, 0, 0xFFFF)
    whole = bytes(data[:start]) + b"".join(sections)
    found = read_elf(whole)
    assert found.btf == SECTIONS[".BTF"] and found.has_dwarf and found.name == "foo"
    assert sections_by_pyelftools(whole, {".BTF"}).contents == {".BTF": SECTIONS[".BTF"]}
    struct.pack_into("<Q", data, start + 32, 1 << 50)
    with pytest.raises(btf.BtfError, match="end beyond the file"):
        read_elf(bytes(data))


def test_work_is_bounded_by_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Very many sections of one name, of one content, with names as long as the file: each part
    of the file is read a few times at most."""

    class Counted(bytes):
        read = 0

        def __getitem__(self, part):  # type: ignore[no-untyped-def]
            found = bytes.__getitem__(self, part)
            Counted.read += len(found)
            return found

    headers, content = 20_000, 1 << 20
    names = b"\0.BTF\0" + b"n" * content + b"\0.shstrtab\0"
    body = b"\x9f\xeb\x01\0" + bytes(content)
    names_at, start = 64 + len(body), 64 + len(body) + len(names)
    section = struct.Struct("<IIQQQQIIQQ")
    table = [section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    table += [section.pack(1, 1, 0, 0, 64, len(body), 0, 0, 1, 0)] * headers
    table += [section.pack(7, 1, 0, 0, 64, len(body), 0, 0, 1, 0)] * headers
    table += [section.pack(7, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)]
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, len(table), len(table) - 1
    )  # fmt: skip
    data = Counted(head + body + names + b"".join(table))
    assert read_elf(data).btf == body
    assert Counted.read < 3 * len(data)


def test_facts_longer_than_any_module_has() -> None:
    with pytest.raises(btf.BtfError, match=r"\.modinfo.*depends has 100000 bytes"):
        read_elf(elf({".modinfo": modinfo(name="x", depends="a," * 50_000)}), "x.ko")
    found = read_elf(elf({".modinfo": b"name=a\0\0\0name=b\0note=name=c\0depends=x,y"}))
    assert (found.name, found.depends) == ("a", ("x", "y"))


def test_truncated_and_damaged() -> None:
    data = elf(SECTIONS)
    for end in (4, 40, 63, 64, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(btf.BtfError, match=r"damaged ELF|truncated"):
            read_elf(data[:end], "x.ko")


@given(
    st.sampled_from(SHAPES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_damaged_files_are_not_read_in_another_way(
    shape: tuple[int, str], changes: list[tuple[int, int]], in_headers: bool
) -> None:
    """Where our reader answers at all, it says what pyelftools says, or pyelftools refuses."""
    data = bytearray(elf(SECTIONS, bits=shape[0], order=shape[1]))
    header_bytes = 64 if shape[0] == 64 else 52
    table = len(data) - (len(SECTIONS) + 2) * (64 if shape[0] == 64 else 40)
    for at, value in changes:
        if in_headers:
            places = [*range(header_bytes), *range(table, len(data))]
            data[places[at % len(places)]] = value
        else:
            data[at % len(data)] = value
    try:
        found = read_elf(bytes(data))
    except btf.BtfError:
        return
    try:
        expected = by_pyelftools(bytes(data))
    except Exception:  # whatever its parser comes upon
        return
    assert found == expected


# ------------------------------------------------------------------ debug sections, for pahole

_INFO = b"what .debug_info holds " * 50


def _decompressed(data: bytes) -> bytes:
    found = decompress_debug_sections(data, "x.ko")
    assert found is not None
    return found.head + data[len(found.head) :] + found.tail


def _packed(kind: int, content: bytes, bits: int = 64, order: str = "<") -> bytes:
    squeeze = zlib.compress if kind == 1 else zstandard.ZstdCompressor().compress
    form, fields = (f"{order}IIQQ", (kind, 0)) if bits == 64 else (f"{order}III", (kind,))
    return struct.pack(form, *fields, len(content), 1) + squeeze(content)


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_debug_sections_are_decompressed(bits: int, order: str) -> None:
    sections = {
        ".debug_info": _packed(2, _INFO, bits, order),
        ".text": b"code",
        ".debug_str": _packed(1, b"mine\0" * 99, bits, order),
        ".zdebug_line": b"ZLIB" + struct.pack(">Q", 777) + zlib.compress(bytes(777)),
        ".debug_plain": b"as it is",
    }
    flags = {".debug_info": 0x800, ".debug_str": 0x800}
    data = elf(sections, bits=bits, order=order, flags=flags)
    assert decompress_debug_sections(elf({".text": b"", ".debug_info": b"x"})) is None
    found = ELFFile(io.BytesIO(_decompressed(data)))
    contents = {s.name: s.data() for s in found.iter_sections() if not s.is_null()}
    assert contents == {
        ".debug_info": _INFO,
        ".text": b"code",
        ".debug_str": b"mine\0" * 99,
        ".debug_line": bytes(777),
        ".debug_plain": b"as it is",
        ".shstrtab": contents[".shstrtab"],
    }


def test_debug_sections_that_are_not_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, content: bytes, flags: int = 0) -> str:
        with pytest.raises(btf.BtfError) as caught:
            decompress_debug_sections(elf({name: content}, flags={name: flags}), "x.ko")
        assert caught.value.section == name
        return str(caught.value)

    packed = zlib.compress(_INFO)
    gnu = ".zdebug_info"
    assert "does not begin with ZLIB" in refused(gnu, _INFO)
    assert "does not begin with ZLIB" in refused(gnu, b"ZLIB\0\0")
    assert "not to 1151 as it says" in refused(gnu, b"ZLIB" + struct.pack(">Q", 1151) + packed)
    assert "more than 1024 MiB" in refused(gnu, b"ZLIB" + struct.pack(">Q", 1 << 63) + packed)
    assert "the zlib data" in refused(gnu, b"ZLIB" + struct.pack(">Q", 1150) + packed[:-9])
    assert "unknown way 3" in refused(".debug_info", b"\3" + bytes(23) + packed, 0x800)
    assert "of 9 bytes only" in refused(".debug_info", b"x" * 9, 0x800)
    flags = {".debug_info": 0x800, ".debug_str": 0x800}
    overlap = bytearray(elf({name: _packed(1, b"") + bytes(999) for name in flags}, flags=flags))
    headers = int.from_bytes(overlap[0x28:0x30], "little")
    overlap[headers + 2 * 64 + 24 : headers + 2 * 64 + 32] = (64).to_bytes(8, "little")
    for at in (headers + 64 + 32, headers + 2 * 64 + 32):
        overlap[at : at + 8] = (len(overlap) - 64).to_bytes(8, "little")
    with pytest.raises(btf.BtfError, match="compressed sections overlap"):
        decompress_debug_sections(bytes(overlap))
    monkeypatch.setattr(decompress, "MAX_DECOMPRESSED_BYTES", 2000)
    both = elf({name: _packed(2, _INFO) for name in flags}, flags=flags)
    with pytest.raises(btf.BtfError, match="unfolds to more than"):
        decompress_debug_sections(both)
