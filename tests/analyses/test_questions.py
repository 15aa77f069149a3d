"""Protects the questions of ``splitbtf query``: each gives what another way of counting gives."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.analysis.changes.compare import Comparison
from pipeline.analysis.changes.stored import stored_kernels
from pipeline.analysis.query import Tables
from pipeline.analysis.questions import question, questions
from pipeline.store.output import read_table
from support import btfwriter as bw
from support.kernels import INT, LONG, Make
from support.kernels import kernel as make_kernel
from support.runs import rows, run_on

pytestmark = pytest.mark.slow

OLD, NEW = "demo", "demo-6.12"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def out(both_demos: Path) -> Path:
    return both_demos


@pytest.fixture(scope="module")
def tables(out: Path) -> dict[str, list[Row]]:
    needed = {
        "types": "kernel global_id module kind name vlen layout_fingerprint",
        "modules": "kernel module input_bytes bytes_out",
        "members": "kernel global_id name type type_global_id",
        "duplicates": "kernel wasted_bytes",
    }
    return {
        name: read_table(out, name).select(columns.split()).to_pylist()
        for name, columns in needed.items()
    }


@pytest.fixture(scope="module")
def answers(out: Path) -> dict[str, list[Row]]:
    with Tables(str(out)) as opened:
        return {name: opened.ask(one.sql).as_records() for name, one in questions().items()}


@pytest.fixture(scope="module")
def changes(out: Path) -> list[Any]:
    kernels = stored_kernels(str(out))
    return Comparison(kernels[OLD].named_types, kernels[NEW].named_types).changes


def plain(module: str | None) -> str:
    return (module or "vmlinux").replace("-", "_")


def test_there_are_ten_and_each_says_what_it_answers(answers: dict[str, list[Row]]) -> None:
    assert len(questions()) == 10 and all(answers.values())
    for one in questions().values():
        assert one.asked.endswith("?") and one.sql.startswith(f"-- {one.asked}\n--\n")
        assert one.compares == ("old_kernel" in answers[one.name][0])
        assert max(map(len, one.sql.split("\n"))) <= 100


def test_changes_are_those_of_the_comparison(
    answers: dict[str, list[Row]], changes: list[Any]
) -> None:
    laid_out = {
        (plain(one.object), one.kind, one.name)
        for one in changes
        if one.layout and one.kind in ("struct", "union") and one.old_ids and one.new_ids
    }
    found = answers["layouts-changed"]
    assert {(row["object"], row["kind"], row["name"]) for row in found} == laid_out
    own = {(plain(o.object), o.name) for o in changes if o.change == "changed" and o.layout}
    assert all((row["object"], row["name"]) in own for row in found if row["change"] == "own")
    prototypes = {
        (plain(one.object), one.name)
        for one in changes
        if one.change == "changed" and one.kind == "func"
    }
    declared = answers["prototypes-changed"]
    assert {(row["object"], row["name"]) for row in declared} == prototypes
    (page,) = [row for row in declared if (row["object"], row["name"]) == ("vmlinux", "PageHuge")]
    assert page["old_prototype"] == "int PageHuge(struct page *page)"
    assert page["new_prototype"] == "bool PageHuge(const struct page *page)"


def test_pointees(answers: dict[str, list[Row]], tables: dict[str, list[Row]]) -> None:
    types = {(row["kernel"], row["global_id"]): row for row in tables["types"]}
    members: dict[Any, list[Row]] = defaultdict(list)
    for member in tables["members"]:
        members[member["kernel"], member["global_id"]].append(member)
    pointers: dict[Any, list[str]] = defaultdict(list)
    for (kernel, global_id), owner in types.items():
        todo = [global_id] if owner["kind"] in ("STRUCT", "UNION") and owner["name"] else []
        while todo:
            for member in members[kernel, todo.pop()]:
                target = types.get((kernel, member["type_global_id"]), {"kind": ""})
                if member["name"] and target["kind"] == "PTR":
                    key = (plain(owner["module"]), owner["kind"], owner["name"], member["name"])
                    pointers[kernel, *key].append(member["type"])
                elif not member["name"] and target["kind"] in ("STRUCT", "UNION"):
                    todo.append(member["type_global_id"])
    expected = {
        (key[0], f"{key[1].lower()} {key[2]}", key[3], before[0], after[0])
        for (kernel, *key), before in pointers.items()
        if kernel == OLD and len(before) == 1
        for after in [pointers.get((NEW, *key), [])]
        if len(after) == 1 and before != after
    }
    columns = ("object", "type", "member", "old_pointer", "new_pointer")
    assert {tuple(row[c] for c in columns) for row in answers["pointees-changed"]} == expected


def test_pointees_of_members_without_a_name(tmp_path: Path) -> None:
    """In anonymous unions, behind qualifiers, and of named structs, as -fms-extensions has it; and
    those that one kernel has in them and the other one beside them."""

    def base(new: bool) -> Make:
        def types(w: bw.Writer) -> None:
            pointer = w.ptr(w.const(INT)) if new else w.ptr(INT)
            first = [("deep", pointer, 0), ("same", w.ptr(LONG), 0), ("number", INT, 0)]
            deep = w.const(w.struct("", 8, [("", w.union("", 8, first), 0)]))
            inner = w.struct("inner", 8, [("of_inner", pointer, 0)])
            w.struct("s", 24, [("", deep, 0), ("", w.typedef("inner_t", inner), 64)])
            regrouped = w.union("", 8, [("p", pointer, 0)])
            w.struct("t", 8, [("", regrouped, 0)] if new else [("p", pointer, 0)])
            w.struct("kept", 8, [("", inner, 0)])
            w.struct("loop", 8 + new, [("", w.next_id, 0)])

        return types

    for name, new in (("1.0-a", False), ("2.0-a", True)):
        make_kernel(tmp_path / name, {}, base(new))
        run_on(tmp_path / name, tmp_path / "out")
    with Tables(str(tmp_path / "out")) as opened:
        found = opened.ask(question("pointees-changed").sql).rows
    assert [row[2:5] for row in found] == [
        ("vmlinux", "struct inner", "of_inner"),
        ("vmlinux", "struct s", "deep"),
        ("vmlinux", "struct s", "of_inner"),
        ("vmlinux", "struct t", "p"),
    ], "kept declares what it did"
    assert {row[5:] for row in found} == {("int *", "const int *")}


def test_kernels_of_the_same_content_have_no_rows_and_are_not_read(tmp_path: Path) -> None:
    def base(size: int, x: int) -> Make:
        def types(w: bw.Writer) -> None:
            w.struct("s", size, [("p", w.ptr(x), 0)])
            w.func("f", w.func_proto(0, [("x", x)]))

        return types

    old, new, out = base(8, INT), base(16, LONG), tmp_path / "out"
    for name, types in (("6.1.1", old), ("6.1.2", old), ("6.1.3", new), ("6.1.4", new)):
        make_kernel(tmp_path / name, {}, types)
        run_on(tmp_path / name, out)
    with Tables(str(out)) as opened:
        all_at_once = {
            one.name: opened.ask(one.sql).as_records()
            for one in questions().values()
            if one.order == "pair"
        }
        assert opened.pairs == (("6.1.1", "6.1.2"), ("6.1.2", "6.1.3"), ("6.1.3", "6.1.4"))
    assert [name for name, rows_of in all_at_once.items() if rows_of] == [
        "layouts-changed", "pointees-changed", "prototypes-changed",
    ]  # fmt: skip
    for kernel in ("6.1.1", "6.1.4"):  # each has one neighbour, of the same content
        (part,) = (out / "tables" / "types").glob(f"kernel={kernel}/*")
        content = part.read_bytes()
        end = 8 + int.from_bytes(content[-8:-4], "little")  # what it says of itself
        part.write_bytes(content[:4] + bytes(len(content) - 4 - end) + content[-end:])
    for name, rows_of in all_at_once.items():
        assert {(row["old_kernel"], row["new_kernel"]) for row in rows_of} <= {("6.1.2", "6.1.3")}
        with Tables(str(out), order="pair") as opened:
            assert opened.ask(question(name).sql).as_records() == rows_of, name


def test_sizes(answers: dict[str, list[Row]], tables: dict[str, list[Row]]) -> None:
    modules = {(row["kernel"], row["module"]): row for row in tables["modules"]}
    for row in answers["size-per-kernel"]:
        mine = [module for (kernel, _), module in modules.items() if kernel == row["kernel"]]
        assert row["modules"] == len(mine)
        assert row["bytes_before"] == sum(module["input_bytes"] for module in mine)
        assert row["bytes_after"] == sum(module["bytes_out"] for module in mine)
    grown = {
        name: modules[NEW, name]["bytes_out"] - row["bytes_out"]
        for (kernel, name), row in modules.items()
        if kernel == OLD and (NEW, name) in modules
    }
    found = {row["module"]: row["grown_bytes"] for row in answers["modules-that-grew"]}
    assert found == {name: by for name, by in grown.items() if by > 0}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    per_part = answers["size-per-subsystem"]
    for kernel in (OLD, NEW):
        parts = [row for row in per_part if row["kernel"] == kernel]
        assert abs(sum(row["percent"] for row in parts) - 100) < 1
        assert sum(row["bytes_after"] for row in parts) == sum(
            module["bytes_out"] for (of, _), module in modules.items() if of == kernel
        )
    assert {row["subsystem"] for row in per_part} > {"", "fs", "net", "drivers/net"}


def test_names(answers: dict[str, list[Row]], tables: dict[str, list[Row]]) -> None:
    defined = [
        row for row in tables["types"]
        if row["name"] and row["kind"] in ("STRUCT", "UNION", "ENUM", "ENUM64", "TYPEDEF")
        and (row["vlen"] or not row["kind"].startswith("ENUM"))
    ]  # fmt: skip
    layouts: dict[Any, set[bytes]] = defaultdict(set)
    places: dict[Any, set[str | None]] = defaultdict(set)
    for row in defined:
        key = (row["kernel"], row["kind"].lower(), row["name"])
        if row["kind"] != "TYPEDEF":
            layouts[key].add(row["layout_fingerprint"])
        places[key].add(row["module"])
    found = {(r["kernel"], r["kind"], r["name"]): r["layouts"] for r in answers["ambiguous-names"]}
    assert found == {key: len(those) for key, those in layouts.items() if len(those) > 1}
    moved = {
        (kind, name)
        for (kernel, kind, name), before in places.items()
        if kernel == OLD and None not in before and None in places.get((NEW, kind, name), ())
    }
    assert {(row["kind"], row["name"]) for row in answers["moved-into-vmlinux"]} == moved


def test_bytes(answers: dict[str, list[Row]], tables: dict[str, list[Row]], out: Path) -> None:
    wasted = Counter[str]()
    for row in tables["duplicates"]:
        wasted[row["kernel"]] += row["wasted_bytes"]
    found = Counter[str]()
    for row in answers["repeated-in-modules"]:
        found[row["kernel"]] += row["wasted_bytes"]
    assert found == wasted
    roots = {
        (row["kernel"], row["global_id"]): row["root_bytes"]
        for row in rows(out, "misses")
        if row["global_id"] == row["root_global_id"] and (row["root_bytes"] or 0) > 0
    }
    saved = sum(row["bytes"] for row in answers["bytes-to-save"])
    assert saved == sum(roots.values())


def test_adapted(out: Path) -> None:
    """The SQL that --show prints is a query by itself."""
    with Tables(str(out), old=NEW, new=OLD) as opened:
        back = opened.ask(question("modules-that-grew").sql).as_records()
    assert back and all(row["old_kernel"] == NEW for row in back)
