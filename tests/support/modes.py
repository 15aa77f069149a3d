"""The modes of deduplication, by the library and by naive.py."""

from __future__ import annotations

from collections.abc import Callable

import btf
from support import vectors
from support.oracles import naive

MODES = ("split", "plain", "resplit")
ROWS = {row["case"]: row for row in vectors.contract()}
LITTLE = [name for name in vectors.cases() if not name.endswith("-be")]


def reference(mode: str, files: list[bytes], reverse_on_growth: bool = True) -> naive.Result:
    if mode == "merge":
        return naive.merge_dedup(files, reverse_on_growth)
    entries: dict[str, Callable[..., naive.Result]] = {
        "split": naive.split_dedup,
        "plain": naive.plain_dedup,
        "resplit": naive.resplit_dedup,
    }
    return entries[mode](*files, reverse_on_growth=reverse_on_growth)


def deduplicated(mode: str, files: list[bytes]) -> btf.DedupResult:
    if mode == "plain":
        return btf.dedup(btf.parse(files[0]))
    base = btf.parse(files[0])
    index = btf.BaseIndex.build(base)
    if mode == "split":
        return btf.dedup_split(btf.parse(files[1]), index)
    return btf.dedup(btf.parse(files[1], base), index)


def split_case(name: str) -> tuple[bytes, btf.BTF]:
    """A vector's base, and its module as split BTF on that."""
    case = vectors.build(name)
    index = btf.BaseIndex.build(btf.parse(case.base))
    return case.base, btf.dedup_split(btf.parse(case.module), index).btf
