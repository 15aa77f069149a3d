"""Protects the contract with users: split, plain and repeated split dedup, equal to libbpf's bytes.

Each vector is checked against the digests that libbpf gave, frozen in vectors/contract.tsv. Where
libbpf gave none (it hangs, or refuses input that is sound), naive.py decides.
"""

from __future__ import annotations

import pytest

import btf
from support import marks, vectors
from support.modes import MODES, ROWS, deduplicated, reference
from support.oracles import naive_btf


@pytest.mark.parametrize("name", vectors.cases())
def test_bytes_are_libbpf_s(name: str) -> None:
    case = vectors.build(name)
    for mode in MODES:
        result = deduplicated(mode, case.inputs(mode)).btf
        expected = vectors.expected(ROWS[name], mode)
        if not any(expected):
            by_naive = reference(mode, case.inputs(mode))
            expected = vectors.section_facts(by_naive.types, by_naive.strings)
        got = vectors.section_facts(result.type_section(), result.string_section())
        assert got == expected, mode


@pytest.mark.parametrize("name", marks.handmade_names())
def test_id_map_says_where_each_type_went(name: str) -> None:
    case = vectors.build(name)
    for mode in MODES:
        id_map = deduplicated(mode, case.inputs(mode)).id_map
        expected = reference(mode, case.inputs(mode)).id_map
        assert {old: int(id_map[old]) for old in expected} == expected, mode
        first = min(expected, default=len(id_map))
        assert list(id_map[:first]) == list(range(first)), "void and the base keep their ids"


@pytest.mark.parametrize("name", ["all-kinds-known-be", "seed-3", "seed-5", "seed-17"])
def test_one_index_serves_many_modules(name: str) -> None:
    """A module must leave no trace in the index or in scratch memory that is used again."""
    case = vectors.build(name)
    index = btf.BaseIndex.build(btf.parse(case.base))
    module, base_again = btf.parse(case.module), btf.parse(case.base)
    first = btf.dedup_split(module, index).btf.to_bytes()
    btf.dedup_split(base_again, index)
    assert btf.dedup_split(module, index).btf.to_bytes() == first


@pytest.mark.parametrize("name", ["all-kinds-new", "all-kinds-known-be", "seed-7", "seed-13"])
def test_what_is_written_can_be_read(name: str) -> None:
    case = vectors.build(name)
    base = btf.parse(case.base)
    result = btf.dedup_split(btf.parse(case.module), btf.BaseIndex.build(base)).btf
    again = btf.parse(result.to_bytes(), base)
    assert again.type_section() == result.type_section()
    assert again.string_section() == result.string_section()
    naive_btf.parse(result.to_bytes(), naive_btf.parse(case.base))


@pytest.mark.parametrize("name", ["all-kinds-new", "all-kinds-known-be", "seed-1", "seed-5"])
def test_unchanged_input_round_trips(name: str) -> None:
    data = vectors.build(name).module
    assert btf.parse(data).to_bytes() == data
