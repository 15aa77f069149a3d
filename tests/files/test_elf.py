"""Protects: sections of ELF files are what pyelftools says, whoever reads them."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import btf
from btf import elf as elf_file
from btf.files.elf import ElfBtf, read_elf
from btf.files.sections import read_sections
from support.elfwriter import SHT_NOBITS, elf, modinfo

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


def by_pyelftools(data: bytes) -> ElfBtf:
    """``read_elf`` without our own reader."""
    ours = elf_file.read_sections
    elf_file.read_sections = lambda *_: None
    try:
        return read_elf(data, "x.ko")
    finally:
        elf_file.read_sections = ours


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_every_class_and_byte_order(bits: int, order: str) -> None:
    sections = dict(SECTIONS)
    sections[".note.gnu.build-id"] = struct.pack(f"{order}III4s", 4, 3, 3, b"GNU") + b"\xab\xcd\xef"
    data = elf(sections, bits=bits, order=order)
    assert read_sections(data, {".BTF"}) is not None, "a plain file"
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


def test_what_is_not_plain_is_left_to_pyelftools() -> None:
    packed = struct.pack("<IIQQ", 1, 0, 300, 1) + zlib.compress(bytes(300))
    compressed = elf({".BTF": packed}, flags={".BTF": 0x800})
    assert read_sections(compressed, {".BTF"}) is None
    assert read_elf(compressed).btf == bytes(300)
    nothing = elf({".BTF": b"", ".debug_info": b""}, kinds={".BTF": SHT_NOBITS})
    assert read_elf(nothing).btf is None and read_elf(nothing) == by_pyelftools(nothing)


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
def test_damaged_files_are_read_as_pyelftools_reads_them(
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
        expected = by_pyelftools(bytes(data))
    except btf.BtfError:
        expected = None
    try:
        found = read_elf(bytes(data))
    except btf.BtfError:
        found = None
    if expected is not None:
        assert found == expected
