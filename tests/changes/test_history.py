"""Protects ``splitbtf history``: a name or a member through all kernels of an output folder."""

from __future__ import annotations

import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.analysis import query
from pipeline.analysis.query import Tables
from pipeline.analysis.questions import questions
from support import btfwriter as bw
from support.commands import splitbtf
from support.kernels import INT, LONG, Make, kernel
from support.runs import run_on

pytestmark = pytest.mark.slow

KERNELS = ("6.1.0-9", "6.1.0-50", "6.12.1", "7.0.0")
SEVERAL = 5


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")

    def task(step: int) -> Make:
        """A struct of which every step changes something else."""

        def types(w: bw.Writer) -> None:
            load = w.struct("load", 8 if step < 3 else 16, [("weight", LONG, 0)])
            entity = w.struct("entity", 24, [("on", INT, 0), ("load", load, 64)])
            union = w.union("", 4, [("pid", INT, 0), ("tgid", INT, 0)])
            at = 0 if step == 0 else 64
            members = [("se", entity, at), ("", union, at + 192), ("next", w.ptr(entity), at + 256)]
            flags = [("flags", LONG, 0)] if step else []
            w.struct("task", 40 + at // 8, flags + members)
            w.func("read", w.func_proto(INT, [("task", w.ptr(w.next_id - 1))]))
            if step == 2:
                w.struct("wanderer", 4, [("a", INT, 0)])

        return types

    def module(size: int) -> Make:
        def types(w: bw.Writer) -> None:
            w.struct("wanderer", size, [("a", INT, 0)])
            for name in range(SEVERAL):  # each has as many layouts, and another one changes
                for number in range(SEVERAL):
                    w.struct(f"many{name}", 8 + number + size * (name == number), [("a", INT, 0)])

        return types

    def nothing(w: bw.Writer) -> None:
        w.int("char", 1)

    for step, name in enumerate(KERNELS):
        modules = {"one": module(4), "two": module(4 if step else 8)}
        kernel(folder / name, modules if step < 3 else {"one": nothing}, task(step))
        run_on(folder / name, folder / "out")
    return folder / "out"


def steps(out: Path, name: str) -> list[tuple[Any, ...]]:
    """Of each step the change, whether that counts as one, and the words."""
    facts = splitbtf("history", name, out, "--json").json
    assert [(one["from"], one["to"]) for one in facts["steps"]] == list(pairwise(KERNELS))
    return [
        (one["change"], one["changed"], [detail["text"] for detail in one["details"]])
        for one in facts["steps"]
    ]


def test_a_struct(out: Path) -> None:
    assert steps(out, "task") == [
        ("changed", True, [
            "size: 40 → 48 bytes", "member added: `long flags` at 0",
            "member moved `se` … `next` (3 members): 0 → 8",
        ]),
        (None, False, []),
        ("embedded", False, ["embeds struct load, which changed"]),
    ]  # fmt: skip
    facts = splitbtf("history", "struct task", out, "--json").json
    assert (facts["name"], facts["declarations"]) == ("struct task", 2)
    assert [one["kernel"] for one in facts["presence"]] == list(KERNELS)
    assert facts["presence"][0]["objects"] == ["vmlinux"]


def test_a_function_that_only_leads_to_what_changed(out: Path) -> None:
    assert [one[:2] for one in steps(out, "read")] == [
        ("reached", False), (None, False), ("reached", False),
    ]  # fmt: skip
    lines = splitbtf("history", "read", out).out.splitlines()
    assert lines[0] == "read: 1 declaration in 4 kernels"
    assert lines[-1] == f"  {KERNELS[0]}  `int read(struct task *task)`"


def test_members(out: Path) -> None:
    moved = "member moved `pid`: 24 → 32"
    assert steps(out, "task.pid") == [
        ("changed", True, [moved]),
        (None, False, []),
        (None, False, []),
    ]
    nested = steps(out, "task.se.load")
    assert nested[0] == ("changed", True, ["member moved `se.load`: 8 → 16"])
    assert nested[2] == ("embedded", False, ["embeds struct load, which changed"])
    assert steps(out, "task.flags")[0] == ("added", True, ["member added: `long flags` at 0"])
    assert splitbtf("history", "task.next.on", out).code == 1, "pointers are not followed"
    done = splitbtf("history", "task.pit", out)
    assert done.code == 1 and "pid" in done.out


def test_what_modules_have(out: Path) -> None:
    facts = splitbtf("history", "wanderer", out, "--json").json
    assert [one["objects"] for one in facts["presence"]] == [
        ["one", "two"], ["one", "two"], ["vmlinux"],
    ]  # fmt: skip
    assert facts["declarations"] == 2
    assert [one["change"] for one in facts["steps"]] == ["changed", None, "removed"]
    lines = splitbtf("history", "wanderer", out).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"  {KERNELS[-1]}  not there any more" in lines


def test_names_that_no_kernel_has(out: Path) -> None:
    done = splitbtf("history", "struct tusk", out)
    assert done.code == 1 and "task" in done.out
    assert splitbtf("history", "union task", out).code == 1
    assert splitbtf("history", " ", out).code == 2


def test_questions_read_a_few_kernels_at_a_time(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    whole = {}
    with Tables(str(out)) as tables:
        pairs = tables.pairs
        assert pairs == tuple(pairwise(KERNELS))  # whose release is not known
        for one in questions().values():
            whole[one.name] = tables.ask(one.sql)
    monkeypatch.setattr(query, "_ROWS_AT_ONCE", 1)
    orders = defaultdict(list)
    for one in questions().values():
        orders[one.order].append(one)
        assert one.order is not None and one.compares == (one.order == "pair")
    for order, those in orders.items():
        with Tables(str(out), order=order) as tables:
            assert tables.pairs == pairs
            assert {one.name: tables.ask(one.sql) for one in those} == {
                one.name: whole[one.name] for one in those
            }
            rows = sum(batch.num_rows for batch in tables.stream(those[0].sql))
            assert rows == len(whole[those[0].name].rows)
    rows = whole["layouts-changed"].as_records()
    assert len({row["old_kernel"] for row in rows}) > 1
    assert {f"many{name}" for name in range(SEVERAL)} <= {
        row["name"] for row in rows if row["object"] == "two"
    }


def test_many_kernels_and_folders_above(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path
) -> None:
    odd = tmp_path / "kernel=x" / "y=z"
    shutil.copytree(out, odd)
    answers = []
    for place, many in ((out, len(KERNELS)), (out, 1), (odd, 1)):
        monkeypatch.setattr(query, "_MANY_KERNELS", many)
        with Tables(str(place)) as tables:
            answers.append(tables.ask("FROM modules ORDER BY kernel, module"))
    assert answers[0] == answers[1] == answers[2]
    assert {row["kernel"] for row in answers[0].as_records()} == {*KERNELS}
