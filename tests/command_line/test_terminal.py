"""Protects terminals: what is in names of types, modules and files is shown, never obeyed.

Each command is run on a kernel whose names hold control, format and line-ending characters and
bytes that are no UTF-8.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import btf
from jobs.cli import main
from jobs.usage import text
from pipeline.analysis.answer import QueryResult
from support import btfwriter as bw
from support.commands import Finished, commands, splitbtf
from support.paths import ROOT

EVIL = b"\x1b[2J\r\n\xc2\x9b31m\xe2\x80\xaeevil\xff\x7f\xe2\x80\xa8"
SHOWN = r"\x1b[2J\r\n\x9b31m\u202eevil\xff\x7f\u2028"

Here = Callable[..., Finished]


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process."""

    def run(*arguments: str | bytes | Path) -> Finished:
        try:
            code = main([os.fsdecode(argument) for argument in arguments])
        except SystemExit as wrong_usage:
            code = int(wrong_usage.code or 0)
        return Finished(code, *capfd.readouterr())

    return run


def named(ending: bytes) -> bytes:
    return EVIL + ending


def types(base: bw.Writer | None, size: int) -> bw.Writer:
    w = bw.Writer(base=base)
    integer = w.int("int", 4)
    other = w.struct(named(b"s"), size, [(named(b"m"), integer, 0), (named(b"n"), integer, 32)])
    w.struct(named(b"holder"), 8, [(named(b"p"), w.ptr(other), 0)])
    w.enum(named(b"e"), 4, [(named(b"A"), size)])
    w.func(named(b"f"), w.func_proto(0, [(named(b"a"), other)]))
    w.datasec(named(b".data"), 4, [(w.var(named(b"v"), integer), 0, 4)])
    w.decl_tag(named(b"tag"), other)
    return w


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel; the folder's name and those of two files, one of which is no BTF, are evil too."""
    folder = tmp_path_factory.mktemp("source") / os.fsdecode(EVIL)
    folder.mkdir()
    (folder / "vmlinux.btf").write_bytes(types(None, 8).to_bytes())
    (folder / "plain.btf").write_bytes(types(None, 16).to_bytes())
    (folder / os.fsdecode(EVIL + b"module.btf")).write_bytes(types(None, 12).to_bytes())
    (folder / os.fsdecode(EVIL + b"bad.btf")).write_bytes(b"not BTF")
    return folder


@pytest.fixture(scope="module")
def out(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / os.fsdecode(EVIL.replace(b"\xff", b""))
    done = splitbtf("run", source, "-o", folder, "--engine", "local", "--kernel", "k")
    assert done.code == 1, done.err
    assert SHOWN in done.out and fit(done.out) and fit(done.err)
    return folder


def fit(shown: str) -> bool:
    """Whether every line stands as it reads."""
    lines = shown.replace("\n\t", "\n  ").split("\n")  # dumps are indented by tabs
    assert lines == [btf.printable(line) for line in lines]
    return True


def test_printable() -> None:
    assert btf.printable(EVIL) == SHOWN == btf.printable(os.fsdecode(EVIL))
    assert btf.printable(SHOWN) == SHOWN and btf.printable("café \\ 𝄞") == "café \\ 𝄞"
    assert btf.printable("\ud800") == r"\ud800"


COMMANDS: dict[str, tuple[str | bytes, ...]] = {
    "find": ("find", named(b"s"), "OUT"),
    "find nothing": ("find", b"no" + EVIL, "OUT"),
    "find in a module": ("find", named(b"s"), "OUT", "--module", named(b"module")),
    "explain": ("explain", "OUT"),
    "explain a module": ("explain", "OUT", "--module", "plain"),
    "explain a type": ("explain", "OUT", "--module", "plain", "--type", named(b"holder")),
    "explain no type": ("explain", "OUT", "--module", "plain", "--type", b"no" + EVIL),
    "explain no module": ("explain", "OUT", "--module", EVIL),
    "query": ("query", "OUT", "SELECT * FROM types"),
    "query failures": ("query", "OUT", "SELECT * FROM modules"),
    "query misses": ("query", "OUT", "SELECT * FROM misses"),
    "query wrongly": ("query", "OUT", b"SELECT '\x1b\xff' AND"),
    "query a name": ("query", "OUT", "SELECT 1 AS " + '"\x1b[2J"'),
    "verify": ("verify", "OUT"),
    "verify nothing": ("verify", EVIL),
    "diff": ("diff", "BASE", "PLAIN"),
    "show": ("show", named(b"s"), "PLAIN"),
    "diff kernels": ("diff", "k", "k", "--in", "OUT"),
    "history": ("history", named(b"s"), "OUT"),
    "history of nothing": ("history", b"no" + EVIL, "OUT"),
    "show of a kernel": ("show", named(b"s"), "OUT"),
    "ls": ("ls", "OUT"),
    "ls a kernel": ("ls", "OUT", "k"),
    "report": ("report", "OUT", "-o", "NEW"),
    "audit": ("audit", "OUT"),
    "check": ("check", "PLAIN"),
    "check nothing": ("check", EVIL),
    "layers": ("layers", "OUT", "-o", "NEW"),
    "slim": ("slim", "SOURCE", "-o", "NEW"),
    "dedup": ("dedup", "SOURCE", "-B", "BASE", "-o", "NEW"),
    "merge": ("merge", "BASE", "PLAIN", "-o", "NEW"),
    "merge what is none": ("merge", "SOURCE", "-o", "NEW"),
    "dump": ("dump", "PLAIN"),
    "dump C": ("dump", "PLAIN", "--format", "c", "--asserts"),
    "dump nothing": ("dump", EVIL),
    "fetch nothing": ("fetch", EVIL),
    "run nothing": ("run", EVIL, "-o", "NEW"),
    "run into no UTF-8": ("run", "SOURCE", "-o", "NEW", "--engine", "local"),
    "usage": ("ls", "a", "b", EVIL),
    "help": ("help", EVIL),
}
# About what is in the names.
SILENT = {
    "layers", "verify", "diff", "diff kernels", "show", "dump C", "query a name", "query wrongly",
    "ls", "ls a kernel", "audit",
}  # fmt: skip


def test_every_command_is_tried() -> None:
    assert commands().keys() - {case.split()[0] for case in COMMANDS} == {"completion"}


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_commands(
    case: str, as_json: bool, here: Here, source: Path, out: Path, tmp_path: Path
) -> None:
    places: dict[str, Path] = {
        "OUT": out, "NEW": tmp_path / os.fsdecode(EVIL), "SOURCE": source,
        "BASE": source / "vmlinux.btf", "PLAIN": source / "plain.btf",
    }  # fmt: skip
    arguments: list[str | bytes | Path] = [
        places.get(a, a) if isinstance(a, str) else a for a in COMMANDS[case]
    ]
    if as_json:
        arguments += ["--format", "json"] if "dump" in case else ["--json"]
    done = here(*arguments)
    assert fit(done.out) and fit(done.err) and "Traceback" not in done.err
    if as_json and done.out:
        assert json.dumps(json.loads(done.out), ensure_ascii=False).encode()  # no lone surrogates
    if not as_json and case not in SILENT:
        assert SHOWN in done.out + done.err or repr(os.fsdecode(EVIL))[1:-1] in done.out + done.err


def test_json_has_no_number_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    values = (float("nan"), float("inf"), 1.5, b"\x01", "\udcff", {"\udc80": [True, None]})
    result = QueryResult(tuple("abcdef"), (values,))
    text.print_json(result.as_records())

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    (row,) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert list(row.values()) == [None, None, 1.5, "01", r"\xff", {r"\x80": [True, None]}]


def test_progress_and_announcements(capsys: pytest.CaptureFixture[str]) -> None:
    evil = os.fsdecode(EVIL)
    reporter = text.Reporter()
    reporter.announce(evil)
    reporter._interval_seconds = 0.0
    reporter.progress(evil, 1, 1, 2)
    shown = capsys.readouterr().err
    assert shown == f"splitbtf: {SHOWN}\n{SHOWN}: 1 of 2 modules, 1 failed\n"


def test_only_one_file_prints() -> None:
    """But for ``help`` and ``completion``, which print texts of ours; ``dump`` writes bytes."""
    printing = set()
    for path in (ROOT / "jobs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                printing.add(path.stem)
    assert printing == {"text", "help", "completion"}
