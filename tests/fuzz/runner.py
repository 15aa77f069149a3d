"""Runs mutants in forked processes, so that whatever one of them does is seen, and whose it was.

A process is forked for a batch of seeds. Before each mutant it writes the seed into memory that the
parent shares: if it dies, the parent knows by whom, and forks another for the seeds that are left.
Limits hold for a mutant's first part, see `operations`: 2 s of CPU (a signal ends the process: code
that hangs need not be Python), and ten times its files beside a constant, by the peak of the
process's resident memory. What follows are checks, which may take a minute and are not judged.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import pickle
import re
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import btf
from fuzz.operations import Wrong
from pipeline.model.errors import CommandError

HANG_SECONDS: float = 2  # of CPU
CHECK_SECONDS = 4  # of CPU: the plain implementations of the tests are slow on some mutants
STUCK_SECONDS = 600  # of wall time without any CPU: it waits for something
MEMORY_FACTOR = 10
MEMORY_BYTES = 96 << 20  # beside that: work areas that are kept, and the garbage of Python
ROOM_BYTES = 8 << 30  # address space beyond what is there at the beginning

DONE, REFUSED, UNCHECKED = "done", "refused", "unchecked"
CRASH, HANG, TRACEBACK, WRONG, MEMORY = "crash", "hang", "traceback", "wrong", "memory"
FAULTS = (CRASH, HANG, TRACEBACK, WRONG, MEMORY)


class Target(Protocol):
    """What is fuzzed: where mutants come from, and what is done with one."""

    name: str

    def prepare(self) -> None:
        """Do what mutants must not be charged for, such as loading compiled functions."""

    def mutant(self, seed: int) -> Any:
        """The mutant of a seed, always the same."""

    def group(self, mutant: Any) -> str:
        """What it is counted under."""

    def size(self, mutant: Any) -> int:
        """Bytes of its files."""

    def run(self, mutant: Any) -> Iterator[bytes]:
        """Use it: yields a digest, then checks."""

    def allowed(self, mutant: Any) -> tuple[type[Exception], ...]:
        """What refuses it beside BtfError and CommandError."""


@dataclass(frozen=True)
class Verdict:
    """What came of one mutant. ``detail``: why it was refused, or what was seen."""

    seed: int
    group: str
    outcome: str
    detail: str = ""
    digest: bytes = b""

    @property
    def is_fault(self) -> bool:
        return self.outcome in FAULTS

    @property
    def what(self) -> tuple[str, str]:
        """The same for the same fault of other mutants."""
        return self.outcome, reason(self.detail.splitlines()[-1] if self.detail else "")


def reason(text: str) -> str:
    """A message without what differs from file to file."""
    text = re.sub(r"/\S*splitbtf-fuzz-[^/\s]*/", "", text)
    text = re.sub(r"^(?:\w+: )?(?:.*?(?:section|header)[^:]*: |\S*\.\S*: )?", "", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\u2018[^\u2019]*\u2019|<stdin>:[\d:]+", "#", text)
    text = re.sub(r"\[\d+\]|0x[0-9a-fA-F]+|\d[\d,.]*", "#", text)
    return text[:70]


# --------------------------------------------------------------------------------- in the process


check_every = 1  # of so many mutants, one goes through the checks too


def judge(target: Target, seed: int, mutant: Any, mark: Callable[[bytes], None]) -> Verdict:
    """Run one mutant in this process. ``mark`` is told what is going on."""
    verdict = _judge(target, seed, mutant, mark)
    if verdict.outcome == MEMORY:  # it may have been the first to use a library, or a work area
        verdict = _judge(target, seed, mutant, mark)
    return verdict


def _judge(target: Target, seed: int, mutant: Any, mark: Callable[[bytes], None]) -> Verdict:
    group, allowance = target.group(mutant), target.size(mutant) * MEMORY_FACTOR + MEMORY_BYTES
    digest = b""
    refusals: tuple[type[Exception], ...] = (btf.BtfError, CommandError, *target.allowed(mutant))
    _forget_peak()
    before = _resident("VmRSS")
    mark(b"r")
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    try:
        steps = target.run(mutant)
        digest = next(steps, b"")
        signal.setitimer(signal.ITIMER_PROF, CHECK_SECONDS)
        used = _resident("VmHWM") - before
        if used > allowance:
            return Verdict(seed, group, MEMORY, f"{used >> 20} MB for {target.size(mutant)} bytes")
        mark(b"c")
        if seed % check_every == 0:
            for _ in steps:
                pass
        return Verdict(seed, group, DONE, digest=digest)
    except Wrong as error:
        return Verdict(seed, group, WRONG, str(error), digest)
    except refusals as error:
        used = _resident("VmHWM") - before
        if used > allowance:
            return Verdict(seed, group, MEMORY, f"{used >> 20} MB, and refused: {error}")
        return Verdict(seed, group, REFUSED, f"{type(error).__name__}: {error}", digest)
    except Exception:
        return Verdict(seed, group, TRACEBACK, traceback.format_exc(), digest)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        mark(b"-")


def _forget_peak() -> None:
    """Let the peak of resident memory begin anew (Linux 4.0)."""
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
        file.write("5")


def _resident(field: str) -> int:
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123
        status = file.read()
    at = status.index(field.encode()) + len(field) + 1
    return int(status[at : status.index(b"kB", at)]) << 10


def _work(target: Target, seeds: Sequence[int], shared: mmap.mmap, out: int) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # not to be left behind
    room = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def mark(phase: bytes) -> None:
        shared[8:9] = phase

    for seed in seeds:
        shared[:8] = struct.pack("q", seed)
        mark(b"m")
        verdict = judge(target, seed, target.mutant(seed), mark)
        data = pickle.dumps(verdict)
        os.write(out, struct.pack("I", len(data)) + data)


# --------------------------------------------------------------------------------- in the parent


class _Worker:
    """A forked process and the seeds that it has not told of yet."""

    def __init__(self, target: Target, seeds: Sequence[int]) -> None:
        self.target = target
        self.left = list(seeds)
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.pipe, out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.pipe)
                _work(target, self.left, self.shared, out)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(out)
        self.buffer = b""
        self.heard = time.monotonic()
        self.ended = False

    def read(self) -> Iterator[Verdict]:
        """What it has told since; at its end, of the mutant that it died of."""
        data = os.read(self.pipe, 1 << 16)
        self.heard = time.monotonic()
        self.buffer += data
        while len(self.buffer) >= 4:
            (size,) = struct.unpack_from("I", self.buffer)
            if len(self.buffer) < 4 + size:
                break
            verdict = pickle.loads(self.buffer[4 : 4 + size])
            self.buffer = self.buffer[4 + size :]
            self.left.remove(verdict.seed)
            yield verdict
        if not data:
            yield from self._end()

    def _end(self) -> Iterator[Verdict]:
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.ended = True
        (seed,), phase = struct.unpack_from("q", self.shared), self.shared[8:9]
        self.shared.close()
        if not self.left:
            return
        if seed not in self.left:  # between two
            raise RuntimeError(f"a fuzzing process ended with status {status} after seed {seed}")
        self.left.remove(seed)
        group = self.target.group(self.target.mutant(seed))
        if -status == signal.SIGPROF and phase == b"c":
            yield Verdict(seed, group, UNCHECKED, "the plain implementation takes too long")
        elif -status == signal.SIGPROF:
            yield Verdict(seed, group, HANG, f"more than {HANG_SECONDS} s of CPU")
        elif -status == signal.SIGKILL and time.monotonic() - self.heard > STUCK_SECONDS:
            yield Verdict(seed, group, HANG, f"nothing for {STUCK_SECONDS} s")
        else:
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            yield Verdict(seed, group, CRASH, name)


def run(target: Target, seeds: Sequence[int], processes: int, batch: int) -> Iterator[Verdict]:
    """All seeds; verdicts come in no certain order."""
    gc.collect()
    gc.freeze()  # what garbage collection does not touch, processes go on sharing
    todo = [seeds[at : at + batch] for at in range(0, len(seeds), batch)][::-1]
    workers: list[_Worker] = []
    try:
        while todo or workers:
            while todo and len(workers) < processes:
                workers.append(_Worker(target, todo.pop()))
            ready, _, _ = select.select([worker.pipe for worker in workers], [], [], 5)
            for worker in list(workers):
                if worker.pipe in ready:
                    yield from worker.read()
                elif time.monotonic() - worker.heard > STUCK_SECONDS:
                    os.kill(worker.pid, signal.SIGKILL)
                if worker.ended:
                    workers.remove(worker)
                    if worker.left:
                        todo.append(worker.left)
    finally:
        for worker in workers:
            if not worker.ended:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)


def run_alone(target: Target, seed: int, mutant: Any) -> Verdict:
    """One mutant that is already there, in a process of its own."""
    (verdict,) = run(_One(target, mutant), [seed], 1, 1)
    return verdict


class _One:
    """A target of one mutant."""

    def __init__(self, target: Target, mutant: Any) -> None:
        self.name, self.group, self.size = target.name, target.group, target.size
        self.run, self.allowed, self.prepare = target.run, target.allowed, target.prepare
        self._mutant = mutant

    def mutant(self, seed: int) -> Any:
        return self._mutant
