"""Runs that something is done to: how they end, what they say and leave, and the next one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.commands import wait_for
from support.ends.disturbing import LOCAL, descendants, named, start, wait_for_lock
from support.paths import DEMO
from support.trees import results_of

HEADER = ("what", "status", "after", "what it says", "then", "left behind")
Disturb = Callable[["subprocess.Popen[Any]"], object]
When = Callable[["subprocess.Popen[Any]", Path], bool]  # run, OUT
_SHARED, _OURS = Path("/dev/shm"), ("plasma", "splitbtf-shared")
_GRACE_SECONDS = 5.0  # processes that were killed are gone soon, not at once
_CACHE = str(Path("~/.cache/splitbtf").expanduser())
_USUAL = re.compile(  # what each run says; {...} or the rest of a line
    r"splitbtf: (reading|kernel \d|starting Ray|connecting)|.*: [\d,]+ of [\d,]+ modules|^$"
)


def has_results(_: object, out: Path) -> bool:
    """Whether a run is at work."""
    return any(out.glob("cache/*/*.results"))


@dataclass(frozen=True)
class Trial:
    """A run with something in its way.

    what       is done, as the table says it
    disturb    does it to the run; None: nothing
    when       the run is so far that it is done
    arguments  of the run, beside source and OUT
    env        what is different in its environment
    prefix     a command behind which the run's is put
    program    what Python runs
    """

    what: str
    disturb: Disturb | None = None
    arguments: Sequence[object] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[object] = ()
    program: Sequence[str] = ("-m", "jobs.cli")
    when: When = has_results


class Trials:
    """Makes trials on one source, one after the other, and prints a row of a table for each."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """``arguments``: [SOURCE] [WORDS...] of a command."""
        words = list(arguments)
        is_folder = bool(words) and Path(words[0]).is_dir()
        self.source = Path(words.pop(0)).resolve() if is_folder else DEMO
        self._words = words
        self.wrong = 0
        with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
            out = Path(folder, "out")
            run = self._begin(Path(folder), Trial("", arguments=LOCAL), out)
            if run.wait():
                raise SystemExit(f"{self.source}: a run without Ray fails")
            self._expected = results_of(out)
        self.row(*HEADER)
        self.row(*["---"] * len(HEADER))

    def wants(self, what: str) -> bool:
        """Whether it was asked for."""
        return all(word in what for word in self._words)

    def make(self, trial: Trial) -> None:
        """Make one, and where it gave nothing a run that nobody disturbs. Either has to give the
        right bytes, and to leave nothing."""
        with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
            out, shared = Path(folder, "out"), set(os.listdir(_SHARED))
            began = time.monotonic()
            run = self._begin(Path(folder), trial, out)
            below = self._disturb(trial, run, out)
            code = run.wait()
            took, said = time.monotonic() - began, _said(Path(folder))
            left = _left(Path(folder), out, shared, below, code)
            then = ""
            if code:
                wait_for_lock(out)
                began = time.monotonic()
                code_then = self._begin(Path(folder), Trial("", arguments=LOCAL), out).wait()
                then = f"again in {time.monotonic() - began:.1f} s: "
                left += _left(Path(folder), out, shared, set(), code_then)
            same = results_of(out) == self._expected
            then += "same bytes" if same else "OTHER BYTES"
        self.wrong += not same or bool(left)
        self.row(trial.what, str(code), f"{took:.1f} s", said, then, ", ".join(left) or "nothing")

    def at_once(self, what: str, trials: Sequence[Trial]) -> None:
        """Make several at the same time."""
        with contextlib.ExitStack() as stack:
            ended: list[float] = []
            runs = []
            began = time.monotonic()
            for trial in trials:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="t", dir="/tmp"))
                runs.append((Path(folder), self._begin(Path(folder), trial, Path(folder, "out"))))
            while len(ended) < len(runs):
                time.sleep(0.02)
                now = time.monotonic() - began
                ended += [now] * (sum(run.poll() is not None for _, run in runs) - len(ended))
            codes = ", ".join(str(run.returncode) for _, run in runs)
            same = all(results_of(Path(folder, "out")) == self._expected for folder, _ in runs)
        self.wrong += not same
        took = ", ".join(f"{seconds:.1f} s" for seconds in ended)
        self.row(what, codes, took, "", "same bytes" if same else "OTHER BYTES", "")

    def row(self, *cells: str) -> None:
        """Print one."""
        print("| " + " | ".join(cells) + " |", flush=True)

    def _begin(self, folder: Path, trial: Trial, out: Path) -> subprocess.Popen[bytes]:
        temporary, home = folder / "t", folder / "home"
        for place in temporary, home:
            place.mkdir(exist_ok=True)
        places = {"TMPDIR": str(temporary), "HOME": str(home), "SPLITBTF_CACHE_DIR": _CACHE}
        command = (*trial.prefix, sys.executable, *trial.program)
        arguments = ("run", self.source, "-o", out, *trial.arguments)
        return start(*arguments, env={**places, **trial.env}, said=folder / "said", command=command)

    def _disturb(self, trial: Trial, run: subprocess.Popen[bytes], out: Path) -> set[int]:
        """Returns the processes that the run had started until then."""
        if trial.disturb is None:
            return set()
        wait_for(lambda: run.poll() is not None or trial.when(run, out), trial.what)
        if run.poll() is not None:
            return set()
        below = descendants(run.pid)
        trial.disturb(run)
        return below


def send(number: int, *names: str, first: int | None = None) -> Disturb:
    """What sends a signal to the processes below one that have one of these names, or without names
    to all and itself; ``first``: to so many."""

    def disturb(run: subprocess.Popen[Any]) -> None:
        found: list[int] = []

        def are_there() -> bool:
            found[:] = named(run.pid, *names) if names else [run.pid, *descendants(run.pid)]
            return bool(found)

        wait_for(are_there, f"a process called {names}")  # a worker is called so while it has work
        for process in found[:first]:
            with contextlib.suppress(ProcessLookupError):  # it went with another one
                os.kill(process, number)

    return disturb


def _said(folder: Path) -> str:
    lines = dict.fromkeys((folder / "said").read_text().splitlines())  # each once
    said = "; ".join(line.removeprefix("splitbtf: ") for line in lines if not _USUAL.match(line))
    return said.replace(f"{folder}/", "").replace("|", "\\|")


def _left(folder: Path, out: Path, shared: set[str], below: set[int], code: int) -> list[str]:
    """What is still there of a run that has ended, of processes after a while."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while alive := [process for process in below if Path(f"/proc/{process}/exe").exists()]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    left = [f"process {Path(f'/proc/{process}/comm').read_text().strip()}" for process in alive]
    left += [f"/dev/shm/{n}" for n in set(os.listdir(_SHARED)) - shared if n.startswith(_OURS)]
    left += [f"~/{path.name}" for path in (folder / "home").iterdir()]
    if code >= 0:  # else the next run removes it
        left += [f"$TMPDIR/{path.name}" for path in (folder / "t").iterdir()]
    if code == 0 and (out / ".staging").exists():
        left.append("OUT/.staging")
    return left
