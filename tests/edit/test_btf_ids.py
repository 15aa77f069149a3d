"""Protects ``.BTF_ids``: every id goes on naming what it named, sets stay sorted with their flags,
and what symbols do not tell is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

import btf
from btf.edit.btf_ids import parse_btf_ids
from support.btfwriter import BYTE_ORDERS
from support.writers.modulewriter import KFUNCS, Ids, bloated, kfuncs

BASE, SPLIT, NUMBERS = bloated()
BTF = btf.parse(SPLIT.to_bytes(), btf.parse(BASE.to_bytes()))


def read(ids: Ids, found: btf.BTF = BTF, order: str = "<") -> btf.BtfIds:
    data = struct.pack(f"{order}{len(ids.words)}I", *ids.words)
    return parse_btf_ids(data, ids.symbols, found, path="m.ko")


@pytest.mark.parametrize("order", BYTE_ORDERS)
def test_what_is_read(order: str) -> None:
    base, split, numbers = bloated(order)
    found = btf.parse(split.to_bytes(), btf.parse(base.to_bytes()))
    ids = read(kfuncs(numbers), found, order)
    funcs = sorted(numbers[name] for name in KFUNCS)
    assert ids.ids == [numbers["shared"], *funcs, *funcs[:2]]
    assert [(s.name, s.word, s.count, s.flags, s.names) for s in ids.sets] == [
        ("kfuncs", 2, 3, True, ("alpha", "mid", "zeta")),
        ("allowed", 10, 2, False, ("alpha", "zeta")),
    ]
    assert ids.to_bytes() == struct.pack(f"{order}13I", *kfuncs(numbers).words)


def test_ids_move_and_sets_are_sorted_again() -> None:
    ids = read(kfuncs(NUMBERS))
    backwards = btf.permute(BTF, list(range(BTF.type_end - 1, BTF.start_id - 1, -1)))
    moved = ids.moved(backwards.id_map)
    of = {name: int(backwards.id_map[NUMBERS[name]]) for name in KFUNCS}
    assert [backwards.btf[of[name]].name for name in KFUNCS] == list(KFUNCS)
    assert of["zeta"] > of["alpha"] > of["mid"]
    assert moved.words.tolist() == [
        NUMBERS["shared"], 0,  # of the base, and none
        3, 1, of["mid"], 6, of["alpha"], 5, of["zeta"], 4,
        2, of["alpha"], of["zeta"],
    ]  # fmt: skip
    assert moved.moved(backwards.id_map).to_bytes() == ids.to_bytes()  # it is its own inverse
    with pytest.raises(ValueError, match="id_map lacks ids"):
        ids.moved([0, 1, 2])


def _stripped(ids: Ids) -> None:
    ids.symbols = [symbol for symbol in ids.symbols if "__func__" not in symbol[0]]


def _without_sets(ids: Ids) -> None:
    ids.symbols = [symbol for symbol in ids.symbols if "__set" not in symbol[0]]


def _wrong_count(ids: Ids) -> None:
    ids.words[2] = 4


def _other_function(ids: Ids) -> None:
    ids.words[4] = NUMBERS["alpha"] - 1


def _beyond(ids: Ids) -> None:
    ids.words[0] = 1 << 20


def _other_kind(ids: Ids) -> None:
    name, *place = ids.symbols[0]
    ids.symbols[0] = (name.replace("struct", "union"), *place)  # type: ignore[assignment]


def _outside(ids: Ids) -> None:
    ids.symbols[0] = (ids.symbols[0][0], 4 * len(ids.words), 4)


def _unknown(ids: Ids) -> None:
    ids.symbols.append(("__BTF_ID__set16__x", 0, 4))


def _overlapping(ids: Ids) -> None:
    ids.symbols.append(("__BTF_ID__set__other", 4 * 10, 4 * 3))


def _two_names(ids: Ids) -> None:
    ids.symbols.append(("__BTF_ID__func__other__1", 0, 4))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (_stripped, btf.BtfError, "the set kfuncs has 3 ids, of which 0 have names"),
        (_without_sets, btf.UnsupportedError, "no symbol says what the word 3 is"),
        (_wrong_count, btf.BtfError, "the set kfuncs says that it has 4 ids"),
        (_other_function, btf.BtfError, "the id of func alpha or one of 2 others is"),
        (_beyond, btf.BtfError, "of which there is none: the last one is"),
        (_other_kind, btf.BtfError, r"the id of union shared is \[2\], a STRUCT shared: not made"),
        (_outside, btf.BtfError, "is at byte 52, where no word is"),
        (_unknown, btf.UnsupportedError, "an unknown kind of symbol: __BTF_ID__set16__x"),
        (_overlapping, btf.BtfError, "two sets in one place: other, allowed"),
        (_two_names, btf.BtfError, "two names for one id: other, shared"),
    ],
)
def test_what_is_refused(
    change: Callable[[Ids], None], kind: type[btf.BtfError], message: str
) -> None:
    ids = kfuncs(NUMBERS)
    change(ids)
    with pytest.raises(btf.BtfError, match=message) as caught:
        read(ids)
    assert type(caught.value) is kind
    assert (caught.value.path, caught.value.section) == ("m.ko", ".BTF_ids")


def test_sets_that_overlap() -> None:
    ids = Ids()
    ids.set("one", [("zeta", NUMBERS["zeta"], 0)], flags=True)
    ids.symbols.append(("__BTF_ID__set__two", 12, 4))  # at the flags of one's only member
    with pytest.raises(btf.BtfError, match="overlaps"):
        read(ids)


def test_a_section_cut_off() -> None:
    with pytest.raises(btf.BtfError, match="3 bytes, no multiple of 4"):
        parse_btf_ids(b"abc", [], BTF)
