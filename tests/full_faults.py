"""Disturbs runs on Ray in every way that has a name, and prints what comes of each as a table.

    python tests/full_faults.py [SOURCE] [WORDS...]

SOURCE is a kernel's folder (default: the demo). Of the faults those are tried whose names have all
WORDS in them. A run, or the next one without Ray, has to give the bytes of a run that nobody
disturbed, and nothing may be left. Exit status 0 if that is so, 1 if not. Takes a quarter of an
hour, of which what hangs takes most; root, for what has a small file system.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.ends.disturbing import LOCAL, named
from support.ends.trials import Disturb, Trial, Trials, When, has_results, send

RAY = ("--engine", "ray", "--workers", 2)
# A worker that does not go on is missed after a minute, not after 41 as without these.
SHORT = (*RAY, "--module-seconds", 5, "--encode-seconds", 1)
WORKER, RAYLET, GCS, IDLE = "ray::splitbtf:work", "raylet/raylet", "gcs_server", "default_worker"
OUT = "$TMPDIR/../out"
DRIVER = "pipeline.engine.ray_driver"
# A run whose object store is all but full of what is in use.
FULL_STORE = """\
import sys
from jobs.cli import main
from pipeline.engine import on_ray
on_ray._COMMAND = '''
import sys, splitbtf_start
import numpy
from pipeline.engine.ray_driver import OBJECT_STORE_BYTES, Driver, main
make_task = Driver._make_task
def fill(driver):
    make_task(driver)
    each = numpy.zeros(8 << 20, "u1")
    driver.kept = [driver._ray.put(each) for _ in range(OBJECT_STORE_BYTES // each.nbytes - 1)]
Driver._make_task = fill
main(sys.argv[1])
'''
sys.exit(main())
"""


def to_group(number: int) -> Disturb:
    """As a terminal does it."""
    return lambda run: os.killpg(run.pid, number)


def twice(run: subprocess.Popen[Any]) -> None:
    """As who is impatient does it."""
    for _ in range(2):
        to_group(signal.SIGINT)(run)
        time.sleep(0.1)


def pause(run: subprocess.Popen[Any]) -> None:
    """As Ctrl-Z does it, and `fg` later than anything that is waited for with a deadline."""
    to_group(signal.SIGTSTP)(run)
    time.sleep(180)
    to_group(signal.SIGCONT)(run)


def hang_and_end(run: subprocess.Popen[Any]) -> None:
    send(signal.SIGSTOP, RAYLET)(run)
    run.terminate()


def has_process(name: str) -> When:
    return lambda run, _: bool(named(run.pid, name))


def makes_tables(_: object, out: Path) -> bool:
    """Whether all modules are done."""
    return any(out.glob("tables/conflicts/*/*"))


def small(place: str, size: str, *options: str) -> tuple[str, ...]:
    """A command for what sees a file system of this size in that place."""
    kind = ",".join((f"size={size}", *options))
    mount = f'mkdir -p "{place}" && mount -t tmpfs -o {kind} none "{place}" && exec "$@"'
    return ("unshare", "-m", "sh", "-c", mount, "sh")


TRIALS = [
    Trial("nothing", None, RAY),
    Trial("SIGKILL of a worker", send(signal.SIGKILL, WORKER, first=1), RAY),
    Trial("SIGKILL of all workers", send(signal.SIGKILL, WORKER), RAY),
    Trial("SIGKILL of the raylet", send(signal.SIGKILL, RAYLET), RAY),
    Trial("SIGKILL of the GCS", send(signal.SIGKILL, GCS), RAY),
    Trial("SIGKILL of the process that talks to Ray", send(signal.SIGKILL, DRIVER), RAY),
    Trial("SIGKILL of the run", subprocess.Popen.kill, RAY),
    Trial("SIGKILL of all its processes", send(signal.SIGKILL), RAY),
    Trial("SIGTERM", subprocess.Popen.terminate, RAY),
    Trial("SIGTERM to all its processes", send(signal.SIGTERM), RAY),
    Trial("SIGHUP from the terminal", to_group(signal.SIGHUP), RAY),
    Trial("SIGINT from the terminal", to_group(signal.SIGINT), RAY),
    Trial("SIGINT twice", twice, RAY),
    Trial("Ctrl-Z for three minutes", pause, RAY),
    *(
        Trial(f"SIGTERM while {what}", subprocess.Popen.terminate, RAY, when=has_process(name))
        for what, name in (
            ("Ray is loaded", DRIVER), ("Ray's first process starts", GCS), ("workers start", IDLE),
        )
    ),
    *(
        Trial(f"SIGTERM while Ray hangs{then}", hang_and_end, RAY, when=when)
        for then, when in ((" at the start", has_process(IDLE)), ("", has_results))
    ),
    Trial("SIGHUP while tables are made", to_group(signal.SIGHUP), RAY, when=makes_tables),
    Trial("SIGKILL of all workers then", send(signal.SIGKILL, "ray::"), RAY, when=makes_tables),
    *(
        Trial(f"OUT {what}{on}", None, engine, prefix=small(OUT, *size))
        for what, size in (("of 1 MB", ("1m",)), ("of 6 MB", ("6m",)), ("read-only", ("1m", "ro")))
        for engine, on in ((RAY, ""), (LOCAL, ", local engine"))
    ),
    Trial("object store full", None, RAY, program=("-c", FULL_STORE)),
    Trial("`/dev/shm` of 1 MB", None, RAY, prefix=small("/dev/shm", "1m")),
    Trial("`/dev/shm` of 64 MB", None, RAY, prefix=small("/dev/shm", "64m")),
    Trial("`$TMPDIR` of 64 kB", None, RAY, prefix=small("$TMPDIR", "64k")),
    Trial("`$TMPDIR` of 1 MB", None, RAY, prefix=small("$TMPDIR", "1m")),
    Trial(
        "`/dev/shm` and `$TMPDIR` of 1 MB", None, RAY,
        prefix=(*small("/dev/shm", "1m"), *small("$TMPDIR", "1m")),
    ),
    Trial("SIGSTOP of a worker", send(signal.SIGSTOP, WORKER, first=1), SHORT),
    Trial("SIGSTOP of the raylet", send(signal.SIGSTOP, RAYLET), RAY),
    Trial("SIGSTOP of the GCS", send(signal.SIGSTOP, GCS), RAY),
    Trial("SIGSTOP of the process that talks to Ray", send(signal.SIGSTOP, DRIVER), RAY),
]  # fmt: skip


if __name__ == "__main__":
    trials = Trials(sys.argv[1:])
    for trial in TRIALS:
        if trials.wants(trial.what):
            trials.make(trial)
    sys.exit(trials.wrong > 0)
