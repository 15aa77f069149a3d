"""Protects ``splitbtf diff --in OUT``: two kernels of an output folder, vmlinux and modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.diff import _names
from pipeline.analysis.changes.compare import Change
from pipeline.analysis.diff import diff_kernels
from support import btfwriter as bw
from support.commands import splitbtf
from support.kernels import INT, LONG, Make, kernel
from support.runs import run_on

OLD, NEW = "6.1.0-50-cloud", "6.12.111-cloud"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")

    def base(size: int) -> Make:
        def types(w: bw.Writer) -> None:
            w.struct("inner", size, [("a", INT, 0)])
            w.struct("outer", 16, [("m", w.next_id - 1, 0)])
            w.func("in_vmlinux", w.func_proto(0, [("x", w.next_id - 1)]))
            w.func("static_one", w.func_proto(0, [("x", INT)]))

        return types

    def module(prototype: int, *, moves: bool = False) -> Make:
        def types(w: bw.Writer) -> None:
            w.func("exported", w.func_proto(0, [("x", prototype)]))
            w.func("static_one", w.func_proto(prototype, []))
            if moves:
                w.struct("wanderer", 4, [("a", INT, 0)])

        return types

    old = {"snd-one": module(INT, moves=True), "two": module(INT), "gone": module(INT)}
    new = {"snd_one": module(LONG), "two": module(LONG, moves=True), "fresh": module(INT)}
    kernel(folder / OLD, old, base(4))
    kernel(folder / NEW, new, base(8))
    for name in (OLD, NEW):
        run_on(folder / name, folder / "out")
    return folder / "out"


@pytest.mark.slow
def test_text_of_all_objects(out: Path) -> None:
    done = splitbtf("diff", "--in", out, "6.1", "6.12.111")
    lines = done.out.splitlines()
    assert done.code == 0 and max(map(len, lines)) <= 80
    assert lines[0] == f"{OLD} → {NEW}"
    assert "2 modules in both" in lines
    assert "  removed: gone" in lines and "  added: fresh" in lines
    assert "  func exported (layout) (snd_one, two)" in lines, "what is alike is told once"
    assert "    parameter retyped `1`: `int` → `long`" in lines
    assert "  snd_one → two: struct wanderer" in lines
    assert ["two", "1", "0", "2", "0", "0"] in [line.split() for line in lines]
    assert "  struct inner: struct outer, func in_vmlinux" in lines
    same = splitbtf("diff", "--in", out, OLD, OLD)
    assert same.code == 0 and "differ" not in same.out and "changed" in same.out


def test_a_long_text_begins_with_an_overview(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["diff", "--in", out, OLD, NEW]
    short = splitbtf(*command)
    assert "lines in all" not in short.out
    monkeypatch.setattr("jobs.diff.LONG_TEXT", 10)
    lines = splitbtf(*command).out.splitlines()
    at = lines.index("modules: 2 in both, 1 removed, 1 added; 2 of those in both differ")
    whole = short.out.splitlines()
    assert lines[at + 1] == f"{len(whole)} lines in all; --module, --name and --kind ask for less"
    assert (
        lines[2] == "vmlinux" and lines[at - 1] == "" and lines[at + 2 : at + 4] == ["", "changed"]
    )
    assert lines[: at - 1] + lines[at + 2 :] == whole
    modules = splitbtf(*command, "--module", "[!v]*").out.splitlines()
    assert modules[0] == f"{OLD} → {NEW}" and modules[2].startswith("modules: 2 in both")
    assert "lines in all" in splitbtf(*command, "--module", "vmlinux").out
    for other in ("--json", "--format=markdown"):
        assert "lines in all" not in splitbtf(*command, other).out


def test_names_of_many_modules_are_gone_through_once() -> None:
    """Else thousands of modules take minutes."""
    changes = [
        Change(module, kind, name, "added")
        for module, kind, name in (
            ("one", "func", "f"), ("one", "struct", "s"), ("two", "func", "g"), ("two", "func", "h")
        )
    ]  # fmt: skip
    (part,) = _names("added", iter(changes), True)
    assert part.lines == ["  one struct: s", "  one func: f", "  two func: g, h"]
    (part,) = _names("added", iter(changes[:2]), False)
    assert part.lines == ["  struct: s", "  func: f"]
    assert not list(_names("added", iter([]), True))


def test_json(out: Path) -> None:
    done = splitbtf("diff", "--in", out, OLD, NEW, "--json")
    facts = done.json
    assert done.out == f"{json.dumps(facts)}\n"
    assert (facts["old"], facts["new"]) == (OLD, NEW)
    assert [(one["object"], one["status"]) for one in facts["objects"]] == [
        ("vmlinux", "both"), ("fresh", "added"), ("gone", "removed"),
        ("snd_one", "both"), ("two", "both"),
    ]  # fmt: skip
    kinds = {one["object"]: one["kinds"] for one in facts["objects"]}
    assert kinds["vmlinux"]["func"] == {
        "both": 2, "added": 0, "removed": 0, "changed": 0, "embedded": 1, "reached": 0,
    }  # fmt: skip
    assert kinds["gone"]["func"]["removed"] == 2 and kinds["gone"]["func"]["both"] == 0
    moved = [change for change in facts["changes"] if change["name"] == "wanderer"]
    assert [(one["object"], one["moved_to"], one["moved_from"]) for one in moved] == [
        ("snd_one", ["two"], []), ("two", [], ["snd_one"]),
    ]  # fmt: skip
    assert all(change["details"] for change in facts["changes"])


def test_some_objects(out: Path) -> None:
    facts = splitbtf("diff", "--in", out, OLD, NEW, "--module", "snd-*", "--json").json
    assert [one["object"] for one in facts["objects"]] == ["snd_one"]
    assert {change["object"] for change in facts["changes"]} == {"snd_one"}
    facts = splitbtf("diff", "--in", out, OLD, NEW, "--module", "vmlinux", "--json").json
    assert [one["object"] for one in facts["objects"]] == ["vmlinux"]
    shown = splitbtf("diff", "--in", out, OLD, NEW, "--module", "g*", "--format", "markdown").out
    assert "## gone" in shown and "- func: exported, static\\_one" in shown


@pytest.mark.parametrize(
    ("asked", "name", "near"),
    [
        (("--module", "two", "--module", "sndone"), "sndone", "snd_one"),
        (("--name", "in_vmlinus"), "in_vmlinus", "in_vmlinux"),
        (("--name", "func oter"), "func oter", "outer"),
        (("--name", "in_vmlinux", "--module", "two"), "in_vmlinux", ""),
        (("--name", "func outer", "--name", "outer"), "func outer", ""),
    ],
)
def test_a_name_that_nothing_fits_is_said(
    out: Path, asked: tuple[str, ...], name: str, near: str
) -> None:
    """Else a gate with a misspelled name would never stop anything."""
    done = splitbtf("diff", "--in", out, OLD, NEW, *asked, "--fail-on", "layout", "--json")
    assert done.code == 1
    (unmet,) = done.json["unmet"]
    assert unmet["name"] == name and (not near or near in unmet["nearest"])
    assert f"nothing that was asked about is called {name!r}" in done.err
    assert name.split()[-1] not in unmet["nearest"]


def test_exported_symbols_are_those_of_their_object(out: Path, tmp_path: Path) -> None:
    symbols = tmp_path / "Module.symvers"
    symbols.write_text(
        "0x01\tstatic_one\tvmlinux\tEXPORT_SYMBOL\t\n"
        "0x02\texported\tsound/snd-one\tEXPORT_SYMBOL_GPL\t\n"
        "0x03\tin_vmlinux\tfs/two\tEXPORT_SYMBOL\t\n"
    )
    done = splitbtf("diff", "--in", out, OLD, NEW, "--symbols", symbols, "--json")
    assert [(one["object"], one["name"]) for one in done.json["changes"]] == [
        ("snd_one", "exported")
    ]
    assert (done.code, done.json["symbols"], done.json["unknown_symbols"]) == (0, 3, ["in_vmlinux"])
    text = splitbtf("diff", "--in", out, OLD, NEW, "--symbols", symbols).out
    assert "2 of 3 symbols found; in the BTF of neither\n  in_vmlinux" in text
    symbols.write_text("in_vmlinux\n")
    gate = ["diff", "--in", out, OLD, NEW, "--symbols", symbols, "--fail-on"]
    stopped = splitbtf(*gate, "layout")
    assert stopped.code == 1
    assert stopped.err == "splitbtf: --fail-on layout: 3 names laid out otherwise\n"
    held = splitbtf("diff", "--in", out, OLD, NEW, "--symbols", symbols, "--json").json["changes"]
    assert [one["name"] for one in held] == ["inner", "outer", "in_vmlinux"]


@pytest.mark.parametrize("gate", [(), ("--fail-on", "layout")])
def test_symbols_of_which_none_is_there_are_an_error(
    out: Path, tmp_path: Path, gate: tuple[str, ...]
) -> None:
    """Else a gate with another project's list would never stop anything."""
    symbols = tmp_path / "list"
    symbols.write_text("nowhere\nnothing\n0x02\texported\tfs/nobody\tEXPORT_SYMBOL_GPL\t\n")
    done = splitbtf("diff", "--in", out, OLD, NEW, "--symbols", symbols, *gate)
    said = f"none of the 3 symbols of {symbols} is in the BTF of either kernel: exported, nothing, "
    assert done.code == 1 and done.err == f"splitbtf: error: {said}nowhere\n"


def test_a_gate_that_compares_nothing_stops(out: Path, tmp_path: Path) -> None:
    symbols = tmp_path / "list"
    symbols.write_text("in_vmlinux\n")
    asked = ["diff", "--in", out, OLD, NEW, "--symbols", symbols, "--kind", "enum"]
    assert splitbtf(*asked).code == 0
    done = splitbtf(*asked, "--fail-on", "declaration")
    said = "no name was compared, for none fits all that was asked about"
    assert (done.code, done.err) == (1, f"splitbtf: --fail-on declaration: {said}\n")
    met = splitbtf(*asked[:-1], "func", "--fail-on", "declaration")
    assert (met.code, met.err) == (0, "")


@pytest.mark.parametrize(
    ("asked", "alone"),
    [
        ((), ["fresh", "gone"]),
        (("--name", "in_vmlinux"), []),
        (("--name", "wanderer"), []),
        (("--name", "exported"), ["fresh", "gone"]),
        (("--kind", "struct"), []),
        (("--module", "gone"), ["gone"]),
        (("--module", "gone", "--module", "two", "--kind", "struct"), []),
    ],
)
def test_of_modules_that_one_kernel_has_those_that_hold_what_was_asked_about(
    out: Path, asked: tuple[str, ...], alone: list[str]
) -> None:
    facts = splitbtf("diff", "--in", out, OLD, NEW, *asked, "--json").json
    assert [one["object"] for one in facts["objects"] if one["status"] != "both"] == alone
    text = splitbtf("diff", "--in", out, OLD, NEW, *asked).out
    assert ("gone" in text, "fresh" in text) == ("gone" in alone, "fresh" in alone)


def test_wrong_usage(out: Path) -> None:
    done = splitbtf("diff", "--in", out, OLD, "6.13")
    assert done.code == 2 and "no kernel '6.13'" in done.err and NEW in done.err
    assert splitbtf("diff", "--in", out, OLD, NEW, "-B", "x").code == 2
    assert splitbtf("diff", "x", "y", "--module", "z").code == 2


def test_a_kernel_is_compared_with_itself(out: Path) -> None:
    """Both sides are read at the same time, by two threads, which must not share what they read."""
    for _ in range(5):
        assert splitbtf("diff", "--in", out, OLD, OLD, "--json").json["changes"] == []
    old, new = diff_kernels(str(out), OLD, OLD)._sides
    assert old is not new and old.rows is not new.rows
