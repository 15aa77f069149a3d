"""Protects ``dedup_bytes``: it gives what opening and deduplicating gives, or None.

What it declines must be declined before anything is trusted.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import btf
from support import dumping
from support.btfwriter import Writer
from support.paths import DEMO, DEMO_S390X


def module(name: str, folder: Path = DEMO) -> bytes:
    return dumping.unpacked(folder / "modules" / f"{name}.btf.zst")


Facts = tuple[bytes, int, int, int, int, int, int, bytes]


def facts_of(source: btf.BTF, result: btf.DedupResult) -> Facts:
    split = result.btf
    return (
        split.to_bytes(),
        source.type_count,
        source.words.nbytes,
        source.strings.nbytes,
        split.type_count,
        split.words.nbytes,
        split.strings.nbytes,
        result.id_map.tobytes(),
    )


def the_long_way(data: bytes, index: btf.BaseIndex) -> Facts:
    opened = btf.open_module(data, index)
    return facts_of(opened.btf, btf.dedup_module(opened, index))


def the_short_way(data: bytes, index: btf.BaseIndex) -> Facts:
    """What ``dedup_bytes`` says, and that the objects that it makes say the same."""
    brief = btf.dedup_bytes(data, index)
    assert brief is not None
    btf.dedup_bytes(NEXT_MODULE, index)  # what it made must not change with the next module
    facts = (
        brief.content,
        brief.types_in,
        brief.type_bytes_in,
        brief.string_bytes_in,
        brief.types_out,
        brief.type_bytes_out,
        brief.string_bytes_out,
        brief.id_map.tobytes(),
    )
    assert facts == facts_of(brief.source, brief.result)
    opened = btf.parse(data)
    again = btf.parse(brief.content, index.base)
    assert brief.result.btf.base is again.base is index.base
    for ours, theirs in ((brief.source, opened), (brief.result.btf, again)):
        assert ours.byteorder == theirs.byteorder
        for name in ("words", "offsets", "strings"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    return facts


def test_demo_modules_take_it_and_come_out_the_same() -> None:
    index = dumping.index()
    for name in dumping.module_names():
        data = module(name)
        assert the_short_way(data, index) == the_long_way(data, index), name


def test_the_other_byte_order() -> None:
    index = dumping.index(DEMO_S390X)
    assert index.byteorder == "big"
    names = dumping.module_names(DEMO_S390X)
    assert len(names) == 5
    for name in names:
        data = module(name, DEMO_S390X)
        brief = the_short_way(data, index)
        assert brief == the_long_way(data, index) and brief[4] > 0
        assert btf.dedup_bytes(data, dumping.index()) is None
    assert btf.dedup_bytes(module("xt_bpf"), index) is None


def many_typedefs(count: int) -> bytes:
    writer = Writer()
    number = writer.int("int", 4)
    for position in range(count):
        writer.typedef(f"some_name_{position}", number)
    return writer.to_bytes()


NEXT_MODULE = many_typedefs(50)


def test_memory_that_grows_or_is_released_in_between() -> None:
    """Calls are laid out once for a workspace: not for the one that was there before."""
    small, base = module("nls_cp949"), btf.parse(module("xt_bpf"))
    first, second = dumping.index(), btf.BaseIndex.build(base)
    wanted = [the_long_way(small, index) for index in (first, second)]
    assert wanted[0] != wanted[1]
    for count in (100, 20_000, 50_000):  # the last two need more room, each time
        large = many_typedefs(count)
        for index, content in zip((first, second), wanted, strict=True):
            assert the_short_way(small, index) == content
            assert the_short_way(large, index) == the_long_way(large, index)
            assert the_short_way(small, index) == content
            btf.release_workspaces()
            assert the_short_way(small, index) == content


def header(data: bytes, **fields: int) -> bytes:
    """``data`` with fields of its header set to other values."""
    names = ("magic", "version", "flags", "hdr_len", "type_off", "type_len", "str_off", "str_len")
    values = dict(zip(names, struct.unpack_from("<HBBI4I", data), strict=True)) | fields
    return struct.pack("<HBBI4I", *values.values()) + data[24:]


def unusual() -> dict[str, bytes]:
    good = module(dumping.module_names()[0])
    _, _, _, _, _, type_len, str_off, str_len = struct.unpack_from("<HBBI4I", good)
    return {
        "empty": b"",
        "only a header": good[:24],
        "not BTF": header(good, magic=0xEB9E),
        "the other byte order": header(good, magic=0x9FEB),
        "version": header(good, version=2),
        "flags": header(good, flags=1),
        "longer header": header(good, hdr_len=28),
        "types misaligned": header(good, type_off=2),
        "types not whole words": header(good, type_len=type_len - 2),
        "types reach into strings": header(good, type_len=type_len + 4),
        "types beyond 32 bits": header(good, type_off=0xFFFFFFFC, type_len=8),
        "strings beyond the file": header(good, str_len=str_len + 1),
        "strings beyond 32 bits": header(good, str_off=0xFFFFFFFF),
        "no strings": header(good, str_len=0),
        "first string not empty": header(good, str_off=str_off + 1, str_len=str_len - 1),
        "last string not ended": header(good, str_len=str_len - 1),
        "last type cut": header(good, type_len=type_len - 4),
    }


@pytest.mark.parametrize("case", unusual())
def test_declines_what_is_unusual(case: str) -> None:
    assert btf.dedup_bytes(unusual()[case], dumping.index()) is None


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_damage_is_declined_or_makes_no_difference(data: st.DataObject) -> None:
    folder, name = data.draw(st.sampled_from([(DEMO, "nls_cp949"), (DEMO_S390X, "nhc_ghc_udp")]))
    index, content = dumping.index(folder), bytearray(module(name, folder))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    brief = btf.dedup_bytes(bytes(content), index)
    if brief is not None:
        assert the_short_way(bytes(content), index) == the_long_way(bytes(content), index)


@pytest.mark.slow
def test_a_clash_of_layout_is_left_to_the_long_way() -> None:
    """A module of another kernel: dedup_bytes must not pass it."""
    index = dumping.index()
    refused = 0
    for name in dumping.module_names()[:8]:
        data = bytearray(module(name))
        whole = btf.parse(bytes(data))
        for struct_of in whole.find_all("task_struct", btf.Struct):
            at = 24 + 4 * int(whole.offsets[struct_of.id - 1])
            if len(struct_of.members):
                struct.pack_into("<I", data, at + 12 + 8, 8)  # the first member moves
                assert btf.dedup_bytes(bytes(data), index) is None
                with pytest.raises(btf.WrongBaseError):
                    the_long_way(bytes(data), index)
                refused += 1
    assert refused


def test_without_a_copy_only_the_input_is_what_was_given() -> None:
    """What a reader uses again for its next file."""
    index, data = dumping.index(), module("xt_bpf")
    buffer = bytearray(data)
    brief = btf.dedup_bytes(memoryview(buffer), index, copy=False)
    copied = btf.dedup_bytes(memoryview(buffer), index)
    assert brief is not None and copied is not None
    assert np.shares_memory(brief.source_words, np.frombuffer(buffer, np.uint8))
    assert not np.shares_memory(copied.source_words, np.frombuffer(buffer, np.uint8))
    result, ids = brief.result, brief.id_map.tobytes()
    buffer[:] = b"\xff" * len(buffer)
    assert brief.content == copied.content and brief.result is result
    assert result.btf.to_bytes() == copied.content and brief.id_map.tobytes() == ids
    assert np.array_equal(copied.source_words, btf.parse(data).words)
