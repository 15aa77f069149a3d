"""The command line, run in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.cli import parser
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
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    return Finished(done.returncode, done.stdout, done.stderr)


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
