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

from support.ends.trials import Disturb, Trial, Trials, send

RAY = ("--engine", "ray", "--workers", 2)
# A worker that does not go on is missed after a minute, not after 41 as without these.
SHORT = (*RAY, "--module-seconds", 5, "--encode-seconds", 1)
WORKER, RAYLET, GCS = "ray::splitbtf:work", "raylet/raylet", "gcs_server"
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


def small(place: str, size: str) -> tuple[str, ...]:
    """A command for what sees a file system of this size in that place."""
    mount = f'mount -t tmpfs -o size={size} none "{place}" && exec "$@"'
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
