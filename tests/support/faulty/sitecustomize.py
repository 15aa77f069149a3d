"""Makes processes that have this folder on PYTHONPATH go wrong in a way that a test asks for.

SPLITBTF_FAULTS holds JSON, with any of:

    modules     by name: what happens to who works on it, "kill", "hang", "memory" (there is none)
                or "bug"; as ["kill", FILE] only to the first, who makes FILE
    tables      by kernel: the same for who makes the parts of its tables
    bases       by the folder that a base is in: the same for who reads it
    hang_after  [n, FILE]: a process makes FILE and hangs at its module n + 1
    wait_for    FILE: no module is worked on until it is there
    log         FILE: a line for each module that somebody begins to work on
    limits_of   NAME: limits of time are for this module, or for the base in this folder; all others
                may take as long as they like
    hanging     FILE: a program that is started is given its time from when its process id is in
                this file; until then it may take as long as it likes to get there, or to end
    program     "other" or "none": which splitbtf workers of Ray have
    ray         VERSION: which Ray a node says it is
    die_in      [module, class, function, n]: at its n-th call a process kills itself

Program and tests are as they are without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

AGES = 3600.0  # seconds
IS_RAY_S_WORKER = b"default_worker.py" in Path("/proc/self/cmdline").read_bytes()
FAULTS = json.loads(os.environ.get("SPLITBTF_FAULTS", "{}"))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(AGES)


def memory() -> None:
    raise MemoryError


def bug() -> None:
    raise KeyError("a bug")


def happen(what: str | list[str] | None) -> None:
    """What is asked for, if anything is."""
    if isinstance(what, list):
        what = what[0] if is_first(what[1]) else None
    if what is not None:
        {"kill": kill, "hang": hang, "memory": memory, "bug": bug}[what]()


def is_first(flag: str) -> bool:
    """Whether nobody has come here before."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def change_worker(worker: object) -> None:
    original = worker.run_module  # type: ignore[attr-defined]
    left, flag = FAULTS.get("hang_after", (-1, ""))

    def run_module(module: object, *others: object, **named: object) -> object:
        nonlocal left
        while "wait_for" in FAULTS and not os.path.exists(FAULTS["wait_for"]):
            time.sleep(0.01)
        if left == 0 and is_first(flag):
            hang()
        left -= 1
        if "log" in FAULTS:
            with Path(FAULTS["log"]).open("a") as log:
                log.write(f"{module.name}\n")  # type: ignore[attr-defined]
        if FAULTS.get("limits_of", module.name) != module.name:  # type: ignore[attr-defined]
            signal.setitimer(signal.ITIMER_REAL, AGES)
        happen(FAULTS.get("modules", {}).get(module.name))  # type: ignore[attr-defined]
        return original(module, *others, **named)

    worker.run_module = run_module  # type: ignore[attr-defined]
    if "limits_of" in FAULTS:
        worker.run_isolated = without_limits(worker.run_isolated)  # type: ignore[attr-defined]
    if "hanging" in FAULTS:
        begin_limits_when_hanging(FAULTS["hanging"])


def change_tables(slices: Any) -> None:
    original = slices.make_parts

    @functools.wraps(original)  # its name too: it goes to workers by that
    def make_parts(base: object, task: Any) -> object:
        happen(FAULTS.get("tables", {}).get(task.kernel))
        return original(base, task)

    slices.make_parts = make_parts


def change_bases(base: Any) -> None:
    original = base.load_file

    def load_file(file: Any, *others: object) -> object:
        happen(FAULTS.get("bases", {}).get(Path(file.path).parent.name))
        return original(file, *others)

    base.load_file = load_file


def change_calls(calls: Any) -> None:
    original = calls.IsolatedCalls.call

    def call(self: object, function: Any, argument: Any, *others: Any, seconds: float) -> object:
        if function.__name__ == "load_shared":
            of = Path(argument[0].path).parent.name
            seconds = seconds if FAULTS.get("limits_of", of) == of else AGES
        return original(self, function, argument, *others, seconds=seconds)

    calls.IsolatedCalls.call = call


def without_limits(original: Callable[..., object]) -> Callable[..., object]:
    """Limits for one module only: a test waits for those of a module that hangs, and others are
    not to run into them where the machine is slow."""

    def within_limits(module: Any, shared: object, context: Any, *others: object) -> object:
        if module.name != FAULTS["limits_of"]:
            options = context.options
            options = dataclasses.replace(options, module_seconds=AGES, encode_seconds=AGES)
            context = dataclasses.replace(context, options=options)
        return original(module, shared, context, *others)

    return within_limits


def begin_limits_when_hanging(file: str) -> None:
    original = subprocess.Popen.communicate

    def communicate(process: subprocess.Popen[Any], input: Any = None, timeout: Any = None) -> Any:
        while timeout is not None and process.poll() is None and not hangs(process.pid, file):
            time.sleep(0.01)
        return original(process, input, timeout)

    subprocess.Popen.communicate = communicate  # type: ignore[method-assign,assignment]


def hangs(process: int, file: str) -> bool:
    with contextlib.suppress(OSError), Path(file).open() as lines:
        return f"{process}\n" in lines
    return False


def change_function(module: object, holder: str, name: str, calls: int) -> None:
    owner = getattr(module, holder) if holder else module
    original = getattr(owner, name)
    left = [calls]

    def function(*given: object, **named: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            kill()
        return original(*given, **named)

    setattr(owner, name, function)


def change_program(program: Any) -> None:
    if FAULTS.get("program") == "other":
        program.program_sha256 = lambda: "0" * 64


def change_ray(ray: Any) -> None:
    ray.__version__ = FAULTS.get("ray", ray.__version__)


CHANGES = {
    "ray": change_ray,
    "pipeline.model.program": change_program,
    "pipeline.work.batch": change_worker,
    "pipeline.tables.stored.slices": change_tables,
    "pipeline.work.base": change_bases,
    "pipeline.engine.calls": change_calls,
}


class Loader(importlib.abc.Loader):
    """Loads a module, and then changes it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        name = module.__name__
        if name in CHANGES:
            CHANGES[name](module)
        if FAULTS.get("die_in", [""])[0] == name:
            change_function(module, *FAULTS["die_in"][1:])


class Finder(importlib.abc.MetaPathFinder):
    """Finds what is to be changed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "splitbtf_start" and FAULTS.get("program") == "none" and IS_RAY_S_WORKER:
            raise ImportError(f"No module named {name!r}")
        if name not in (*CHANGES, FAULTS.get("die_in", [""])[0]):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader)
        return spec


if FAULTS:
    sys.meta_path.insert(0, Finder())
