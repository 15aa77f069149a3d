"""The command line, run in this process or in one of its own."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.cli import main, parser
from pipeline.model.limits import ENDING
from support.paths import ROOT

PATIENCE = 600.0
"""Seconds. Protects from waiting for ever for what never happens: no test comes near it, however
slow the machine. Tests wait for events, and never assert that something took less than a time."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def splitbtf(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    """Run the command line: in this process, which is ten times as fast; in one of its own where it
    has an environment of its own, or may start Ray."""
    may_start_ray = arguments[0] == "run" and "local" not in arguments
    if env is not None or may_start_ray:
        return splitbtf_process(*arguments, env=env)
    raw = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(each, "utf-8", "backslashreplace", newline="") for each in raw)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as ended:  # what argparse says
            assert isinstance(ended.code, int)
            code = ended.code
    if code > 128:  # a signal, which was meant for the test
        raise KeyboardInterrupt
    out.flush()
    err.flush()
    return Finished(code, *(each.getvalue().decode() for each in raw))


def splitbtf_process(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    """Run it in a process of its own: where that is what is tested."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def under(*limits: str, command: Sequence[object]) -> list[str]:
    """A command under limits, as options of the shell's ``ulimit``.

    Not by what runs between fork and exec: that can hang where this process has threads.
    """
    set_them = "; ".join(f"ulimit {limit}" for limit in limits)
    return ["sh", "-c", f'{set_them}; exec "$@"', "sh", *map(str, command)]


def take_all_signals() -> None:
    """Have what is started from here take all signals, also where this process was begun by nohup,
    or in a script's background, and ignores some."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"for {PATIENCE:.0f} s not seen: {what}"
        time.sleep(0.005)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands, by their names."""
    (action,) = [
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    return dict(action.choices)
