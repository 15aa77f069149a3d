"""Protects: fingerprints, members, duplicates and conflicts in the tables are what the files hold.

The reference is naive_classes.py, which reads the BTF files that the run wrote and knows neither
our fingerprints nor our tables.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import btf
from pipeline.analysis.query import Tables
from pipeline.store.output import read_manifests, read_table
from pipeline.tables.registry import all_tables
from support import vectors
from support.oracles import naive_btf, naive_classes, naive_declared, naive_levels
from support.paths import DEMO, DEMO_S390X
from support.runs import rows, run_on, small_kernel
from support.trees import SMALL, results_of, small_tree

pytestmark = pytest.mark.slow

BASE = "vmlinux"


def files_of(out: Path) -> dict[str, naive_btf.Btf]:
    """Every BTF file of the only kernel, read by naive.py; the base first."""
    (folder,) = (out / "btf").iterdir()
    base = naive_btf.parse((folder / f"{BASE}.btf").read_bytes())
    found = {BASE: base}
    for path in sorted(folder.iterdir()):
        if path.stem != BASE:
            found[path.name.removesuffix(".btf")] = naive_btf.parse(path.read_bytes(), base)
    return found


def assert_tables_are_right(out: Path) -> None:
    files = files_of(out)
    modules = {name: parsed for name, parsed in files.items() if name != BASE}
    types = rows(out, "types")
    places = {(row["module"] or BASE, row["type_id"]): row for row in types}
    by_fingerprint = {place: row["fingerprint"] for place, row in places.items()}
    everywhere = naive_classes.classes(files)
    assert naive_classes.same_partition(everywhere, by_fingerprint)
    own = {place: row["own_fingerprint"] for place, row in places.items() if place[0] != BASE}
    among_modules = naive_classes.classes(modules, base_by_id=True)
    assert naive_classes.same_partition(among_modules, own)
    assert all(row["own_fingerprint"] is None for row in types if row["object_id"] == 0)

    duplicates = rows(out, "duplicates")
    found = sorted(
        (row["kind"], row["name"] or "", row["bytes_each"], row["copies"], tuple(row["modules"]))
        for row in duplicates
    )
    assert found == naive_classes.duplicates(modules, among_modules)
    by_id = {row["global_id"]: row for row in types}
    for row in duplicates:
        assert row["wasted_bytes"] == row["bytes_each"] * (row["copies"] - 1)
        assert row["module_count"] == len(row["modules"])
        assert by_id[row["global_id"]]["own_fingerprint"] == row["own_fingerprint"]
        assert by_id[row["global_id"]]["module"] == row["modules"][0]

    conflicts = rows(out, "conflicts")
    meanings: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row in conflicts:
        holders = sorted([BASE] * row["in_base"] + row["modules"])
        meanings.setdefault((row["kind"], row["name"]), []).append(tuple(holders))
    expected = naive_classes.conflicts(files, everywhere)
    assert {key: sorted(holders) for key, holders in meanings.items()} == expected
    alike: dict[bytes, list[dict[str, Any]]] = {}
    for row in types:
        alike.setdefault(row["fingerprint"], []).append(row)
    for row in conflicts:
        same = alike[row["fingerprint"]]
        assert {(t["kind"], t["name"]) for t in same} == {(row["kind"], row["name"])}
        assert row["copies"] == len(same) and row["global_id"] == same[0]["global_id"]
        assert row["definitions"] == len(expected[row["kind"], row["name"]])
        assert (row["difference"] is None) == (row["definition"] == 1)
        assert (row["reason"] is None) == (row["definition"] == 1)
    assert_levels_are_right(files, conflicts, by_id)


def assert_levels_are_right(
    files: dict[str, naive_btf.Btf], conflicts: list[dict[str, Any]], by_id: dict[int, Any]
) -> None:
    base = naive_declared.Declared(files[BASE])
    known = {BASE: base}
    first: naive_levels.Side = (base, 0)
    for row in conflicts:
        module, type_id = by_id[row["global_id"]]["module"] or BASE, row["global_id"] & 0xFFFFFFFF
        if module not in known:
            known[module] = naive_declared.Declared(files[module], base)
        if row["definition"] == 1:
            first = known[module], type_id
            assert row["level"] is None
        else:
            expected = naive_levels.level(first, (known[module], type_id))
            assert expected is None or row["level"] == expected


@pytest.fixture(scope="module", params=["small", pytest.param("whole", marks=pytest.mark.long)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, and without most of its base and its modules."""
    folder = tmp_path_factory.mktemp("of")
    small = request.param == "small"
    source = small_tree(folder / DEMO.name, [*SMALL, "xfs"]) if small else DEMO
    return run_on(source, folder / "out")


@pytest.mark.long
def test_demo(tmp_path: Path) -> None:
    out = run_on(DEMO, tmp_path / "out")
    assert_tables_are_right(out)
    assert len(rows(out, "duplicates")) > 1000 and len(rows(out, "conflicts")) > 1000


@pytest.mark.long
def test_demo_big_endian(tmp_path: Path) -> None:
    assert_tables_are_right(run_on(DEMO_S390X, tmp_path / "out"))


@pytest.mark.parametrize(
    "first",
    [0, 5, 18, *(pytest.param(at, marks=pytest.mark.long) for at in (6, 12, 24, 30, 36, 42))],
)
def test_generated_kernels(first: int, tmp_path: Path) -> None:
    """The modules of six seeds on the base of the first, and copies of one of them."""
    source = tmp_path / "kernel"
    source.mkdir()
    order = vectors.knobs_of(first).order
    (source / "vmlinux.btf").write_bytes(vectors.generate(first).base)
    alike = (seed for seed in vectors.SEEDS[first:] if vectors.knobs_of(seed).order == order)
    for seed in itertools.islice(alike, 6):
        (source / f"seed{seed}.btf").write_bytes(vectors.generate(seed).module)
    (source / "again.btf").write_bytes(vectors.generate(first).module)
    out = run_on(source, tmp_path / "out")
    assert all(row["status"] == "done" for row in rows(out, "modules"))
    assert_tables_are_right(out)
    assert results_of(out) == results_of(run_on(source, tmp_path / "two", workers=2))


def test_small_kernel(tmp_path: Path) -> None:
    out = run_on(small_kernel(tmp_path / "kernel"), tmp_path / "out")
    assert_tables_are_right(out)
    found = {(r["kind"], r["name"]): r for r in rows(out, "duplicates")}
    assert found["STRUCT", "driver"]["modules"] == ["one", "two"]
    for kind, name in (("VAR", "counter"), ("DATASEC", ".data"), ("FUNC", "start")):
        assert found[kind, name]["modules"] == ["one", "three", "two"]
    assert ("STRUCT", "shared") not in found and ("INT", "int") not in found
    sums = [row["wasted_bytes"] for row in rows(out, "duplicates")]
    assert sums == sorted(sums, reverse=True)

    one, other = rows(out, "conflicts")
    assert (one["kind"], one["name"], one["modules"]) == ("STRUCT", "driver", ["one", "two"])
    assert (one["definition"], other["definition"]) == (1, 2)
    assert other["modules"] == ["three"] and other["reason"] == "size"
    assert other["difference"] == "struct driver: 8 bytes in definition 1, 16 in this one"


def test_members(tmp_path: Path) -> None:
    out = run_on(small_kernel(tmp_path / "kernel"), tmp_path / "out")
    types = {row["global_id"]: row for row in rows(out, "types")}
    found: dict[tuple[str, str, str | None], list[dict[str, Any]]] = {}
    for row in rows(out, "members"):
        owner = types[row["global_id"]]
        assert owner["kind"] == row["kind"]
        found.setdefault((owner["module"], owner["kind"], owner["name"]), []).append(row)
        if row["type_global_id"]:
            assert row["type_global_id"] in types
    integer = next(row["global_id"] for row in types.values() if row["name"] == "int")
    a, b = found["three", "STRUCT", "driver"]
    assert (a["name"], a["position"], a["bit_offset"], a["bitfield_size"]) == ("a", 0, 0, None)
    assert (b["name"], b["position"], b["bit_offset"], b["value"]) == ("b", 1, 32, None)
    assert a["type_global_id"] == b["type_global_id"] == integer
    (flag,) = found["one", "STRUCT", "flags"]
    assert (flag["name"], flag["bit_offset"], flag["bitfield_size"]) == (None, 5, 3)
    low, high = found["two", "ENUM", "mode"]
    assert (low["value"], high["value"], low["type_global_id"]) == (-1, 2, None)
    assert low["bit_offset"] is None and low["bitfield_size"] is None
    assert found["two", "ENUM64", "wide"][0]["value"] == (1 << 64) - 1
    assert found["two", "ENUM64", "least"][0]["value"] == -(1 << 63)
    assert (a["type"], flag["type"], low["type"]) == ("int", "int", None)
    (parameter,) = found["two", "FUNC_PROTO", None]
    assert parameter["type"] == "int"
    assert (parameter["name"], parameter["type_global_id"]) == ("flags", integer)


def test_members_are_those_of_the_files(demo: Path) -> None:
    """Every member of the demo, as the object view has it."""
    base = btf.parse((demo / "btf/kernel=demo/vmlinux.btf").read_bytes())
    modules = {row["object_id"]: row["module"] for row in rows(demo, "modules")}
    members = read_table(demo, "members").to_pylist()
    wanted = {0: base}
    for number in {1, len(modules) // 3, max(modules)}:
        path = demo / f"btf/kernel=demo/{modules[number]}.btf"
        wanted[number] = btf.parse(path.read_bytes(), base)
    found = [row for row in members if row["global_id"] >> 32 in wanted]
    expected = []
    parts: list[tuple[Any, ...]]
    for number, opened in sorted(wanted.items()):
        for kind in opened.own_types():
            if isinstance(kind, btf.Composite):
                parts = [
                    (m.name, m.bit_offset, m.bitfield_size or None, None) for m in kind.members
                ]
            elif isinstance(kind, btf.AnyEnum):
                parts = [(v.name, None, None, v.value) for v in kind.values]
            elif isinstance(kind, btf.FuncProto):
                parts = [(p.name, None, None, None) for p in kind.params]
                parts += [("", None, None, None)] * kind.is_variadic
            else:
                continue
            expected += [
                (number << 32 | kind.id, i, name or None, *rest)
                for i, (name, *rest) in enumerate(parts)
            ]
    keys = ("global_id", "position", "name", "bit_offset", "bitfield_size", "value")
    assert [tuple(row[key] for key in keys) for row in found] == expected
    types = read_table(demo, "types").select(["global_id", "spelling"]).to_pylist()
    spellings = {row["global_id"]: row["spelling"] for row in types} | {0: "void", None: None}
    assert any(row["type"] == "..." for row in found)
    for row in found:
        if row["type"] != "...":
            assert row["type"] == spellings[row["type_global_id"]]
        else:
            assert (row["kind"], row["name"], row["type_global_id"]) == ("FUNC_PROTO", None, 0)


def test_types_are_those_of_the_files(demo: Path) -> None:
    """Every type of the base and of some modules, as the object view has it; no number is made up:
    what a kind does not have is null."""
    base = btf.parse((demo / "btf/kernel=demo/vmlinux.btf").read_bytes())
    modules = {row["object_id"]: row["module"] for row in rows(demo, "modules")}
    known = btf.declarations(base, spell=True)
    keys = (
        "global_id", "name", "spelling", "size", "vlen", "target_global_id", "nelems", "linkage",
        "encoding", "layout_fingerprint", "declaration_fingerprint",
    )  # fmt: skip
    table = read_table(demo, "types").select(keys).to_pylist()
    for number in {0, 1, len(modules) // 3, max(modules)}:
        opened, declared, first = base, known, 1
        if number:
            path = demo / f"btf/kernel=demo/{modules[number]}.btf"
            opened = btf.parse(path.read_bytes(), base)
            declared, first = btf.declarations(opened, known, spell=True), 0
        found = [row for row in table if row["global_id"] >> 32 == number]
        assert len(found) == opened.type_count
        hashes = [
            values[first:].astype(">u8") for values in (declared.layout, declared.declaration)
        ]
        ends, data = declared.spellings()
        spellings = [data[a:b].tobytes().decode() for a, b in itertools.pairwise(ends[first:])]
        each = zip(found, opened.own_types(), spellings, *hashes, strict=True)
        for row, one, spelling, layout, declaration in each:
            assert tuple(row.values()) == (
                number << 32 | one.id, one.name or None, spelling or None,
                *facts_of(one, number, opened.start_id), layout.tobytes(), declaration.tobytes(),
            )  # fmt: skip


def facts_of(one: btf.Type, number: int, start_id: int) -> tuple[Any, ...]:
    """size, vlen, target_global_id, nelems, linkage, encoding."""
    elements = isinstance(one, btf.Composite | btf.AnyEnum | btf.FuncProto | btf.Datasec)
    size = getattr(one, "size", None)
    target = getattr(one, "type_id", None)
    if target is not None and target >= start_id:
        target |= number << 32
    nelems = one.nelems if isinstance(one, btf.Array) else None
    linkage = None
    if isinstance(one, btf.Func | btf.Var):
        linkage = ("static", "global", "extern")[one.linkage]
    encoding = None
    if isinstance(one, btf.AnyEnum):
        encoding = "signed" if one.is_signed else "unsigned"
    elif isinstance(one, btf.Int):
        encoding = {0: "unsigned", 1: "signed", 2: "char", 3: "signed char", 4: "bool"}[
            one.encoding
        ]
    return size, one.vlen if elements else None, target, nelems, linkage, encoding


def test_numbers_are_signed(demo: Path) -> None:
    """Subtracting sizes of two kernels gives what it should, in every library."""
    for table in all_tables().values():
        for column in table.columns:
            assert not pa.types.is_unsigned_integer(column.type), (table.name, column.name)
    with Tables(str(demo)) as tables:
        asked = "SELECT min(bytes_out - input_bytes) FROM modules"
        assert tables.ask(asked).rows[0][0] < 0


def test_engines_and_row_groups_do_not_shape_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are written as they come, whatever the batches: small row groups, many batches."""
    monkeypatch.setattr("pipeline.tables.stored.parquet.ROWS_PER_GROUP", 777)
    monkeypatch.setattr("pipeline.work.batches.MIN_BATCH_BYTES", 1)
    source = tmp_path / "kernel"
    source.mkdir()
    (source / "vmlinux.btf").write_bytes(vectors.generate(4).base)
    for seed in (4, 10):
        (source / f"seed{seed}.btf").write_bytes(vectors.generate(seed).module)
    one = run_on(source, tmp_path / "one")
    three = run_on(source, tmp_path / "three", workers=3)
    assert results_of(one) == results_of(three)
    assert_tables_are_right(one)

    # Cut into other parts, the tables have the same rows in the same order.
    monkeypatch.setattr("pipeline.store.assemble.MODULES_PER_SLICE", 1)
    slices = run_on(source, tmp_path / "slices", workers=3)
    (manifest,) = read_manifests(slices)
    assert [len(manifest.tables[name]) for name in ("modules", "types", "members")] == [2, 3, 3]
    for table in ("modules", "types", "members", "misses", "duplicates", "conflicts"):
        assert rows(slices, table) == rows(one, table)
