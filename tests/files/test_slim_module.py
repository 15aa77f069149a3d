"""Protects modules that are written again: nothing but ``.BTF`` and what holds its ids changes, in
files of any class and byte order, and what cannot be taken along is refused."""

from __future__ import annotations

import struct

import pytest

import btf
from btf.files.object_file import ObjectFile, without_signature
from support.oracles import naive_btf, naive_slim
from support.writers.elfwriter import ET_EXEC, SHT_NOBITS, SHT_RELA, elf
from support.writers.modulewriter import SIGNED, bloated, kfuncs, module

SHAPES = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]
BASE, SPLIT, NUMBERS = bloated()
INDEX = btf.BaseIndex.build(btf.parse(BASE.to_bytes()))


def slim(data: bytes, by_name: bool | None = None) -> btf.SlimModule:
    return btf.slim_module(data, INDEX, path="m.ko", release="6.1.0", by_name=by_name)


@pytest.mark.parametrize("signature", [b"", SIGNED, SIGNED + SIGNED], ids=["", "signed", "twice"])
@pytest.mark.parametrize("by_name", [False, True])
def test_only_btf_changes(by_name: bool, signature: bytes) -> None:
    whole = module(SPLIT.to_bytes(), ids=kfuncs(NUMBERS), more={".data": b"x"})
    made = slim(whole + signature, by_name)
    assert list(naive_slim.differences(whole, made.content, naive_btf.parse(BASE.to_bytes()))) == []
    assert made.signature_bytes == len(signature)
    assert (made.is_changed, made.types_before, made.types_after) == (True, 15, 9)
    result = btf.dedup(btf.parse(SPLIT.to_bytes(), INDEX.base), INDEX)
    expected = btf.kernel_form(result) if by_name else result
    assert naive_slim.content(made.content, ".BTF") == expected.btf.to_bytes()
    assert made.bytes_after == len(expected.btf.to_bytes())
    assert len(whole) - len(made.content) <= made.bytes_before - made.bytes_after
    again = slim(made.content, by_name)
    assert not again.is_changed and again.content == made.content


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_every_class_and_byte_order(bits: int, order: str) -> None:
    base, split, numbers = bloated(order)
    index = btf.BaseIndex.build(btf.parse(base.to_bytes()))
    whole = module(split.to_bytes(), ids=kfuncs(numbers), bits=bits, order=order)
    made = btf.slim_module(whole, index, release="6.1.0").content
    before, after = ObjectFile(whole), ObjectFile(made)
    assert before.names == after.names
    for number, name in enumerate(before.names):
        if name not in (b".BTF", b".BTF_ids", b""):
            assert before.content(number) == after.content(number), name
    found = btf.open_module(made, index).btf
    ids = btf.read_btf_ids(made, found)
    assert ids is not None
    assert [found[one].name for one in ids.ids] == [
        "shared",
        "zeta",
        "alpha",
        "mid",
        "zeta",
        "alpha",
    ]


def test_nothing_to_be_saved_changes_nothing() -> None:
    small = btf.dedup(btf.parse(SPLIT.to_bytes(), INDEX.base), INDEX).btf.to_bytes()
    whole = module(small) + SIGNED
    made = slim(whole)
    assert made.content == whole and not made.is_changed and made.signature_bytes == 0


def test_standalone_btf_becomes_split() -> None:
    own = btf.parse(SPLIT.to_bytes(), INDEX.base).flat.to_bytes()
    made = slim(module(own))
    assert naive_slim.content(made.content, ".BTF") == (
        btf.dedup_split(btf.parse(own), INDEX).btf.to_bytes()
    )


REFUSED = {
    "inline": (module(SPLIT.to_bytes(), more={".BTF.inline": b"x"}), "may hold type ids"),
    "two": (
        module(SPLIT.to_bytes(), more={".BTF": b""}).replace(b".modinfo\0", b".BTF\0nfo\0"),
        "two sections of this name|not known",
    ),
    "distilled": (module(SPLIT.to_bytes(), more={".BTF.base": BASE.to_bytes()}), "distilled"),
    "executable": (elf({".BTF": SPLIT.to_bytes()}, file_kind=ET_EXEC), "no relocatable ELF file"),
    "raw": (SPLIT.to_bytes(), "no ELF file"),
    "without": (elf({".text": b"x"}), "without a .BTF section"),
    "in debug file": (elf({".BTF": b""}, kinds={".BTF": SHT_NOBITS}), "without a .BTF section"),
    "compressed": (elf({".BTF": SPLIT.to_bytes()}, flags={".BTF": 0x800}), "a compressed section"),
    "relocated": (
        elf(
            {".BTF": SPLIT.to_bytes(), ".rela.BTF": bytes(24)},
            kinds={".rela.BTF": SHT_RELA}, links={".rela.BTF": ("", ".BTF")},
        ),
        "changed when the module is loaded",
    ),
    "signature": (b"x" + SIGNED[len(SIGNED) // 2 :], "a signature of 100 bytes, more than"),
    "cut off": (module(SPLIT.to_bytes())[:-9], "truncated"),
    "stripped": (
        module(SPLIT.to_bytes(), ids=kfuncs(NUMBERS)).replace(b"__BTF_ID__", b"__BTF_XX__"),
        "no symbol says what the word 2 is",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(btf.BtfError, match=message):
        slim(data)


def test_btf_behind_everything_else() -> None:
    """As tools put it there that only append: the section headers are before it."""
    whole = bytearray(module(SPLIT.to_bytes(), ids=kfuncs(NUMBERS)))
    (number,) = [n for n in ObjectFile(bytes(whole)).numbers(b".BTF") if n > 3][-1:]
    header = struct.unpack_from("<Q", whole, 0x28)[0]
    struct.pack_into("<Q", whole, header + 64 * number + 24, len(whole))
    data = bytes(whole) + SPLIT.to_bytes()
    made = slim(data).content
    assert list(naive_slim.differences(data, made, naive_btf.parse(BASE.to_bytes()))) == []
    assert made[0x28:0x30] == data[0x28:0x30] and len(made) < len(data)


def test_what_shares_bytes_is_refused() -> None:
    whole = bytearray(module(SPLIT.to_bytes()))
    file = ObjectFile(bytes(whole))
    text, own = file.numbers(b".text")[0], file.numbers(b".BTF")[0]
    header = struct.unpack_from("<Q", whole, 0x28)[0]
    place = struct.unpack_from("<Q", whole, header + 64 * own + 24)
    struct.pack_into("<Q", whole, header + 64 * text + 24, *place)
    with pytest.raises(btf.UnsupportedError, match="shares bytes"):
        slim(bytes(whole))


def test_signatures_alone() -> None:
    assert without_signature(b"abc" + SIGNED) == b"abc"
    with pytest.raises(btf.BtfError, match="cut off"):
        without_signature(SIGNED[-30:])
