"""Protects what is said of a build's leftovers: which types dedup removes of shipped BTF, for what
likely cause, and that a known fault of libbpf is named where its traces are, and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import btf
from btf.unmerged.leftovers import CAUSES, leftovers
from support import btfwriter as bw
from support.commands import splitbtf
from support.oracles import naive_leftovers
from support.runs import rows, run_on

Found = dict[tuple[str, str], int]


def base_writer() -> bw.Writer:
    w = bw.Writer()
    integer = w.int("int", 4)
    word = w.typedef("u32", integer)
    w.ptr(word)
    w.struct("pair", 8, [("a", integer, 0), ("b", integer, 32)])
    w.func_proto(0, [("x", integer)])
    w.func_proto(0, [("x", integer)])  # twice, as in some vmlinux
    return w


def shipped(*, with_typedefs: bool) -> bytes:
    """Split BTF as a build leaves it: with what the base has, or without."""
    base = base_writer()
    w = bw.Writer(base=base)
    word = w.typedef("u32", 1) if with_typedefs else 2
    pointer = w.ptr(word)
    volatile = w.volatile(pointer)
    w.struct("own", 16, [("p", volatile, 0), ("q", w.ptr(w.struct("pair", 8, PAIR)), 64)])
    first = w.const(volatile)
    w.const(volatile)
    w.struct("kept", 8, [("c", first, 0)])
    return w.to_bytes()


PAIR = [("a", 1, 0), ("b", 1, 32)]


def counted(source: btf.BTF, result: btf.DedupResult) -> tuple[Found, Found]:
    totals = leftovers(source, result)
    types, sizes = (
        {
            (list(CAUSES)[cause], btf.KIND_NAMES[kind]): int(table[cause, kind])
            for cause, kind in zip(*table.nonzero(), strict=True)
        }
        for table in totals
    )
    return types, sizes


def naive(source: btf.BTF, result: btf.DedupResult) -> Found:
    """The same, type by type."""
    own = list(source.own_types())
    after = {t.id: int(result.id_map[t.id]) for t in own}
    gone = {number for number, to in after.items() if to < result.btf.start_id}
    leading = {t.id for t in own if t.id in gone and t.kind_name == "TYPEDEF"}
    typedefs = set(leading)
    while True:
        more = {
            t.id for t in own if t.id not in leading and any(r in leading for r in references(t))
        }
        if not more:
            break
        leading |= more
    found: Counter[tuple[str, str]] = Counter()
    seen: set[int] = set()
    for t in own:
        to = after[t.id]
        if t.id in typedefs:
            found["typedef", t.kind_name] += 1
        elif t.id in gone:
            found["refers" if t.id in leading else "in_base", t.kind_name] += 1
        elif to in seen:
            found["repeated", t.kind_name] += 1
        seen.add(to)
    return dict(found)


def references(t: btf.Type) -> list[int]:
    words = [int(word) for word in t.words]
    vlen = words[1] & 0xFFFF
    return [words[at] for at in btf.kinds.reference_words(btf.kinds.SPECS[t.kind - 1], vlen)]


def test_by_hand() -> None:
    base = btf.parse(base_writer().to_bytes())
    source = btf.parse(shipped(with_typedefs=True), base)
    types, sizes = counted(source, btf.dedup(source))
    assert types == {
        ("typedef", "TYPEDEF"): 1,
        ("refers", "PTR"): 1,
        ("in_base", "STRUCT"): 1,
        ("repeated", "CONST"): 1,
    }
    assert sizes == {
        ("typedef", "TYPEDEF"): 12,
        ("refers", "PTR"): 12,
        ("in_base", "STRUCT"): 12 + 2 * 12,
        ("repeated", "CONST"): 12,
    }


@pytest.mark.parametrize("name", ["nf_tables", "nls_cp949", "ip_set"])
def test_against_the_slow_way(demo_btf: Callable[[str], bytes], name: str) -> None:
    """On a module that keeps all that the base has too, and on what dedup left of it, twice."""
    alone = btf.parse(demo_btf(name))
    index = btf.BaseIndex.build(btf.parse(demo_btf("vmlinux")))
    once = btf.dedup_split(alone, index).btf
    for parts in ([once, once], [alone], [once]):
        builder = btf.Builder(index.base)
        for part in parts:
            builder.add_btf(part)
        source = builder.build()
        result = btf.dedup(source, index)
        assert counted(source, result)[0] == naive(source, result)


def test_the_count_that_runs_no_dedup() -> None:
    """What `tests/full_audit.py` counts whole kernels with."""
    base = btf.parse(base_writer().to_bytes())
    modules = [shipped(with_typedefs=with_typedefs) for with_typedefs in (True, False)]
    found = naive_leftovers.leftovers(base.to_bytes(), modules)
    types, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for module in modules:
        source = btf.parse(module, base)
        for total, part in zip((types, sizes), counted(source, btf.dedup(source)), strict=True):
            total.update(part)
    assert (found.in_modules.types, found.in_modules.bytes) == (types, sizes)
    assert found.in_base.types == {("repeated", "FUNC_PROTO"): 1} and not found.perhaps.types


def kernel(folder: Path, modules: Sequence[bytes]) -> Path:
    folder.mkdir()
    (folder / "vmlinux.btf").write_bytes(base_writer().to_bytes())
    for number, content in enumerate(modules):
        (folder / f"m{number}.btf").write_bytes(content)
    return folder


@pytest.mark.slow
def test_what_audit_says(tmp_path: Path) -> None:
    """Of a kernel whose build left typedefs in most modules, and of one where a single one did."""
    bad, good = shipped(with_typedefs=True), shipped(with_typedefs=False)
    out = tmp_path / "out"
    run_on(kernel(tmp_path / "faulty", [bad, bad, good]), out)
    run_on(kernel(tmp_path / "sound", [bad, good, good]), out)
    written = [row for row in rows(out, "leftovers") if row["kernel"] == "faulty"]
    of_base = [row for row in written if row["object_id"] == 0]
    assert [(r["module"], r["kind"], r["cause"], r["types"]) for r in of_base] == [
        (None, "FUNC_PROTO", "repeated", 1)
    ]
    by_module = Counter(row["module"] for row in written if row["module"])
    assert by_module == {"m0": 4, "m1": 4, "m2": 3}

    faulty, sound = splitbtf("audit", out, "--json").json
    assert (faulty["kernel"], faulty["modules"], faulty["others"]) == ("faulty", 3, 0)
    sizes = {len(bad), len(good)}
    assert faulty["bytes_in"] == 2 * max(sizes) + min(sizes)
    assert sum(one["types"] for one in faulty["left"]) == 2 * 4 + 3
    (cause,) = faulty["causes"]
    assert cause["name"].startswith("dedup compares")
    assert sound["bytes_out"] == faulty["bytes_out"]
    text = splitbtf("audit", out, "--kernel", "fau").out
    assert "faulty: 3 modules with split BTF" in text and "sound" not in text
    assert "vmlinux holds 1 type twice: 1 FUNC_PROTO" in text


@pytest.mark.slow
def test_libbpf_1_7_is_named_by_its_traces(tmp_path: Path) -> None:
    def module(count: int) -> bytes:
        w = bw.Writer(base=base_writer())
        for _ in range(count):
            w.ptr(w.typedef("u32", 1))
        w.struct("own", 4, [("x", 1, 0)])
        return w.to_bytes()

    out = tmp_path / "out"
    most_left = kernel(tmp_path / "most", [module(1), module(2), module(0)])
    done = splitbtf("run", most_left, "-o", out, "--engine", "local")
    assert done.out.splitlines()[4:6] == [
        "  left by the build: 6 types, 72 bytes, likely as libbpf 1.7 does not find the",
        "    base's typedefs: see `splitbtf audit`",
    ]
    run_on(kernel(tmp_path / "few", [module(1), module(0), module(0)]), out)
    few, most = splitbtf("audit", out, "--json").json
    assert few["causes"] == []
    (cause,) = most["causes"]
    assert "libbpf 1.7" in cause["name"] and "1.8" in cause["versions"]
    assert (cause["types"], cause["bytes"]) == (2 + 4, 12 * (2 + 4))
    assert "libbpf 1.7" in splitbtf("audit", out).out


@pytest.mark.slow
def test_standalone_modules_say_nothing_of_a_build(tmp_path: Path) -> None:
    w = base_writer()
    w.struct("own", 4, [("x", 1, 0)])
    out = run_on(kernel(tmp_path / "k", [w.to_bytes()]), tmp_path / "out")
    assert [row["object_id"] for row in rows(out, "leftovers")] == [0]
    done = splitbtf("audit", out)
    assert done.code == 0
    assert done.out.splitlines()[0] == (
        "k: 0 modules with split BTF; nothing can be said of 1 others"
    )
