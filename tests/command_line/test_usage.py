"""Protects what every command says when it is called, of all that the parser knows."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.usage import text
from pipeline.model.steps import STEPS
from support.commands import commands
from support.paths import ROOT

COMMANDS = commands()
AT_ONCE = {"help", "completion"}
MORE = {"dedup": ("--no-output",)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def called(*arguments: str) -> int:
    """The exit status, that of wrong usage too."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(command, "--help") == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith(f"usage: splitbtf {command} ")
    assert max(map(len, shown.out.splitlines())) <= 60


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_and_verbose(command: str) -> None:
    options = COMMANDS[command]._option_string_actions
    assert ("--quiet" in options and options["-v"].dest == "verbose") != (command in AT_ONCE)


def options_with_choices() -> list[tuple[str, argparse.Action]]:
    return [
        (command, action)
        for command, parser in COMMANDS.items()
        for action in parser._actions
        if action.choices is not None and action.option_strings
    ]


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of wrong usage: two lines and no usage."""
    assert called(*arguments) == 2
    shown = capsys.readouterr()
    said, how = shown.err.splitlines()
    command = f"splitbtf {arguments[0]}" if arguments[0] in COMMANDS else "splitbtf"
    assert how == f"  `{command} --help` says how to use it"
    assert shown.out == "" and said.startswith(f"{command}: error: ")
    return said


@pytest.mark.parametrize(
    ("command", "action"),
    options_with_choices(),
    ids=[f"{command} {action.option_strings[0]}" for command, action in options_with_choices()],
)
def test_a_value_that_is_none(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    assert action.choices is not None
    said = wrong(capsys, command, action.option_strings[-1], f"{next(iter(action.choices))}x")
    assert all(str(choice) in said for choice in action.choices)


@pytest.mark.parametrize(
    ("command", "action"),
    [
        (command, action)
        for command, parser in COMMANDS.items()
        for action in parser._actions
        if action.type is not None and action.choices is None
    ],
)
def test_a_value_of_another_kind(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("x", "-1", "0", "nan", "9" * 30, "1e400", "0x3"):
        said = wrong(capsys, command, f"{action.option_strings[-1]}={value}")
        assert value in said and " value: " not in said, "what argparse calls it is a function"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_empty(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    actions = [a for a in COMMANDS[command]._actions if a.required and a.choices is None]
    if actions:
        call = [x for a in actions for x in (*a.option_strings[-1:], "")]
        assert wrong(capsys, command, *call, *MORE.get(command, ())).endswith(" is empty")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = [a for a in COMMANDS[command]._actions if a.required and a.nargs != "*"]
    if required:
        said = wrong(capsys, command)
        names = ("/".join(a.option_strings) or str(a.metavar or a.dest) for a in required)
        assert all(name in said for name in names)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - AT_ONCE))
def test_an_option_that_is_none(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [command]
    for action in COMMANDS[command]._actions:
        if action.required:
            arguments += [*action.option_strings[-1:], "x"]
    for group in COMMANDS[command]._mutually_exclusive_groups:
        if group.required:
            arguments += [group._group_actions[0].option_strings[-1], "x"]
    said = wrong(capsys, *arguments, "--quite", "--\x1b")
    assert "no such option: --quite --\\x1b; the nearest names: --quiet" in said
    if not any(action.nargs in ("+", "*", "?") for action in COMMANDS[command]._actions):
        assert wrong(capsys, *arguments, "more").endswith("too many arguments: more")


def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no command 'verfy'; the nearest names: verify" in wrong(capsys, "verfy")
    assert f"there are: {', '.join(sorted(COMMANDS))}" in wrong(capsys, "xxxxxxxxx")
    assert "the nearest names: --version" in wrong(capsys, "--versoin")


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert called() == 0
    shown = capsys.readouterr()
    assert shown.err == "" and COMMANDS.keys() <= set(shown.out.split())


class Terminal:
    """Standard error as a terminal."""

    def __init__(self) -> None:
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    def write(self, text: str) -> None:
        self.shown += text

    def flush(self) -> None:
        pass


def reported(detail: int, stream: object) -> None:
    with text.Reporter(detail, stream) as reporter:  # type: ignore[arg-type]
        STEPS.info("reading %s", "a\x1bfolder" * 20)
        STEPS.debug("indexing it")
        reporter.announce("compiling")
        reporter._interval_seconds = 0.0
        reporter.progress("k (1 of 2)", 10, 0, 110, 1000)
        began, first = reporter._pace[0]
        reporter._pace[0] = (began - 10, first)
        reporter.progress("k (1 of 2)", 60, 1, 110, 1000)
        reporter.progress("k (1 of 2)", 110, 1, 110)
        text.say(["a result"])


def test_the_time_left_is_by_the_pace_of_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins while the one before is being finished: by itself it seems to be slow at first."""
    now = 1000.0
    monkeypatch.setattr("jobs.usage.text.time.monotonic", lambda: now)
    terminal = Terminal()
    reporter = text.Reporter(0, terminal)  # type: ignore[arg-type]
    reporter._interval_seconds = 0.0
    reporter.progress("first (1 of 2)", 0, 0, 1000, 1000)
    for step in range(1, 11):
        now = 1000.0 + step
        reporter.progress("first (1 of 2)", 90 * step, 0, 1000, 1000)
        reporter.progress("second (2 of 2)", 10 * step, 0, 1000)
    assert terminal.shown.endswith("second (2 of 2): 100 of 1,000 modules, 100/s, 9 s left")
    for step in range(11, 60):  # what was long ago does not count
        now = 1000.0 + step
        reporter.progress("second (2 of 2)", 100 + step, 0, 1000)
    assert "second (2 of 2): 159 of 1,000 modules, 1/s, 14 min left" in terminal.shown


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    reported(0, terminal)
    reading, indexing, compiling, *kernel, end = terminal.shown.split("\r\033[K")[1:]
    assert reading == ("reading " + r"a\x1bfolder" * 20)[:79] and indexing == "indexing it"
    assert compiling == "splitbtf: compiling\n" and end == ""
    assert kernel[0] == "k (1 of 2): 10 of 110 modules"
    assert kernel[1].startswith("k (1 of 2): 60 of 110 modules, 1 failed, ")
    assert kernel[1].endswith(" left") and "/s, " in kernel[1]
    assert kernel[2].startswith("k (1 of 2): 110 of 110 modules, 1 failed, ")
    assert capsys.readouterr().out == "a result\n"


def test_progress_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported(0, None)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "splitbtf: reading " + r"a\x1bfolder" * 20
    assert said[1:3] == ["splitbtf: compiling", "k (1 of 2): 10 of 110 modules"]
    reported(1, None)
    assert capsys.readouterr().err.splitlines()[1].endswith(" s: indexing it")
    reported(-1, None)
    assert capsys.readouterr().err == ""
    quiet = Terminal()
    reported(-1, quiet)
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    reported(0, dumb)
    assert quiet.shown == "" and dumb.shown and "\r" not in dumb.shown


def test_durations() -> None:
    said = [text.duration(seconds) for seconds in (0.4, 98, 100, 3599, 3600, 9000)]
    assert said == ["0 s", "98 s", "2 min", "1 h 0 min", "1 h 0 min", "2 h 30 min"]


def test_an_interrupt_says_that_the_next_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.run.run", interrupted)
    assert called("run", str(tmp_path), "-o", str(tmp_path / "out")) == 130
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "splitbtf: what is done is kept: the same command again goes on from there",
        "splitbtf: error: interrupted",
    ]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_within_code_that_is_made(number: str) -> None:
    """Python remembers that, and ends itself by SIGINT, whatever the status was to be. A second
    signal does not disturb the end."""
    program = (
        "import os, signal, sys; from jobs import cli\n"
        f"end = lambda: os.kill(os.getpid(), signal.{number})\n"
        "def run(_):\n"
        "    try:\n"
        "        exec('end()', {'end': end})\n"
        "    finally:\n"
        "        end()\n"
        "        print('the end', flush=True)\n"
        "cli._run = run\n"
        "sys.exit(cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 128 + signal.Signals[number], done.stderr
    assert done.stdout == "the end\n" and len(done.stderr.splitlines()) == 1
