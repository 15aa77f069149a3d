"""Protects the view ``fields`` and ``fields_of`` of queries: where members lie, as C sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.analysis.query import Tables
from support import btfwriter as bw
from support.dumping import unpacked
from support.oracles import naive_btf as nb
from support.oracles.naive_declared import TRANSPARENT
from support.paths import DEMO
from support.runs import run_on

Field = tuple[str, int, int | None]  # path, offset and size in bits


def tables_of(folder: Path, vmlinux: bytes) -> Tables:
    folder.mkdir(exist_ok=True)
    (folder / "vmlinux.btf").write_bytes(vmlinux)
    return Tables(str(run_on(folder, folder / "out")))


@pytest.mark.slow
def test_anonymous_members_are_those_of_what_is_around(tmp_path: Path) -> None:
    w = bw.Writer()
    integer = w.int("int", 4)
    flags = [("", integer, bw.bitfield(5, 0)), ("on", integer, bw.bitfield(3, 5))]
    bits = w.struct("", 4, flags, kind_flag=1)
    load = w.struct("load", 8, [("weight", integer, 0), ("", w.const(bits), 32)])
    union = w.union("", 8, [("raw", integer, 0), ("", load, 0)])
    entity = w.typedef("entity", load)
    task = w.struct("task", 24, [("pid", integer, 0), ("", union, 64), ("se", entity, 128)])
    w.struct("loop", 4, [("", w.next_id, 0)])
    with tables_of(tmp_path / "k", w.to_bytes()) as tables:
        found = tables.ask(
            "SELECT path, byte_offset, bit_offset, bitfield_size, type, type_global_id "
            f"FROM fields WHERE global_id = {task} ORDER BY bit_offset, path"
        )
        assert found.rows == (
            ("pid", 0, 0, None, "int", integer),
            ("raw", 8, 64, None, "int", integer),
            ("weight", 8, 64, None, "int", integer),
            ("on", 12, 101, 3, "int", integer),
            ("se", 16, 128, None, "entity", entity),
        )
        deep = tables.ask("SELECT path, bit_offset FROM fields_of('task') ORDER BY ALL").rows
        assert deep == (
            ("on", 101), ("pid", 0), ("raw", 64), ("se", 128), ("se.on", 165), ("se.weight", 128),
            ("weight", 64),
        )  # fmt: skip
        assert tables.ask("SELECT * FROM fields_of('loop')").rows == ()


class Flat:
    """The same of a BTF file, by recursion."""

    def __init__(self, data: bytes) -> None:
        self.btf = nb.parse(data)
        self.types = self.btf.all_types()

    def fields(self, type_id: int, deep: bool, path: str = "", start: int = 0) -> Iterator[Field]:
        t = self.types[type_id]
        for name_off, target, at in nb.elements(t):
            size, at = (at >> 24, at & 0xFFFFFF) if nb.kind_flag_of(t) else (0, at)
            name, offset = self.btf.text(name_off).decode(), start + at
            if name:
                yield path + name, offset, size or None
            if size or (name and not deep):
                continue
            while nb.kind_of(self.types[target]) in TRANSPARENT:
                target = self.types[target][2]
            if nb.kind_of(self.types[target]) in nb.COMPOSITE:
                yield from self.fields(target, deep, f"{path}{name}." if name else path, offset)


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    data = unpacked(DEMO / "vmlinux.btf.zst")
    flat = Flat(data)
    composites = [i for i, t in enumerate(flat.types) if nb.kind_of(t) in nb.COMPOSITE]
    with tables_of(tmp_path / "k", data) as tables:
        rows: Any = tables.ask("SELECT global_id, path, bit_offset, bitfield_size FROM fields").rows
        assert Counter(rows) == Counter(
            (type_id, *field) for type_id in composites for field in flat.fields(type_id, False)
        )
        for name in ("task_struct", "sk_buff", "page"):
            wanted = [i for i in composites if flat.btf.text(flat.types[i][0]) == name.encode()]
            columns = "global_id, path, bit_offset, bitfield_size"
            deep: Any = tables.ask(f"SELECT {columns} FROM fields_of('{name}')").rows
            assert Counter(deep) == Counter(
                (type_id, *field) for type_id in wanted for field in flat.fields(type_id, True)
            )
            assert len(deep) > 50
