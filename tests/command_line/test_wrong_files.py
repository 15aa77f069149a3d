"""Protects what every command says of wrong files and folders, for each argument that the parser
knows: what is wrong, with which file, and no trace of our own code."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from jobs.cli import main
from support.commands import commands
from support.runs import run_on, small_kernel

pytestmark = pytest.mark.slow

COMMANDS = commands()
# What an argument may be, by the word that its help has for it: something that works.
WORKS = {
    "SOURCE": "k", "FILE": "k/one.btf", "OLD": "k/one.btf", "NEW": "k/two.btf",
    "BASE": "k/vmlinux.btf", "OUT": "out", "NAME": "int", "QUERY": "SELECT 1", "DIR": "new",
    "OUTDIR": "new", "OUT|FILE": "k/one.btf", "KERNEL": "k",
}  # fmt: skip
MORE = {"run": ("--engine", "local"), "dedup": ("-o", "new")}
FILES = ("SOURCE", "FILE", "OUT|FILE", "OLD", "NEW", "BASE")
NO_FILES = ("missing", "folder", "empty", "text", "noise.btf", "dangling", "pipe", "text/below")
NO_OUT = ("missing", "folder", "text", "k", "dangling", "text/below")
NOT_ASKED = {"help", "completion", "fetch"}


def is_written(command: str, action: argparse.Action) -> bool:
    return "-o" in action.option_strings or "--work-folder" in action.option_strings


def arguments(command: str) -> list[argparse.Action]:
    """What names a file or a folder that is read."""
    return [
        action
        for action in COMMANDS[command]._actions
        if action.metavar in (*FILES, "OUT") and not is_written(command, action)
    ]


# Any text is a list of names, or SQL; a list of modules may be empty; pipes are read to their ends.
FITS = {
    ("diff", "symbols", "text"),
    *(("layers", "loaded", wrong) for wrong in ("empty", "pipe")),
    *(("query", "file", wrong) for wrong in ("empty", "text", "noise.btf", "pipe")),
}
CASES = [
    (command, action.dest, wrong)
    for command in sorted(COMMANDS.keys() - NOT_ASKED)
    for action in arguments(command)
    for wrong in (NO_OUT if action.metavar == "OUT" else NO_FILES)
    if (command, action.dest, wrong) not in FITS
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    small_kernel(folder / "k")
    run_on(folder / "k", folder / "out")
    (folder / "folder").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("what people write\n")
    (folder / "noise.btf").write_bytes(bytes(range(256)) * 9)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call_of(command: str, **instead: str) -> list[str]:
    """A call that works, but for what is given."""
    call = [command, *MORE.get(command, ())]
    for action in COMMANDS[command]._actions:
        value = instead.get(action.dest)
        required = action.required and not (action.dest == "output" and "-o" in call)
        needed = (required or not action.option_strings) and action.metavar
        if action.dest == "query" and "file" in instead:
            continue
        if value is None and needed:
            value = "made" if "-o" in action.option_strings else WORKS[str(action.metavar)]
        if value is not None:
            call += [*action.option_strings[-1:], value]
    return call


@pytest.mark.parametrize(("command", "argument", "wrong"), CASES)
def test_what_is_wrong_is_said(
    command: str, argument: str, wrong: str, capfd: pytest.CaptureFixture[str]
) -> None:
    call = call_of(command, **{argument: wrong})
    code = main(call)
    shown = capfd.readouterr()
    said = shown.out + shown.err
    assert code in (1, 2) and wrong in said, call
    assert "Traceback" not in said and "bug in splitbtf" not in said
    assert (shown.out == "") == (code == 2)
    assert shown.err.count("error:") <= 1
