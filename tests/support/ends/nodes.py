"""Clusters of Ray on this machine: nodes on loopback addresses, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from pipeline.engine.on_ray import LOCAL_ENVIRONMENT
from support.commands import PATIENCE
from support.ends.disturbing import faults
from support.paths import ROOT, TESTS

TOKEN = "a token that only this cluster knows"
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    # A dead node is missed after 1.5 seconds, not 15; one that is slow is not given up.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": str(int(PATIENCE * 1000)),
    "RAY_health_check_failure_threshold": "3",
    "RAY_local_fs_capacity_threshold": "1",  # how full this disk is, is nobody's affair
}
_TAKE = """\
import signal, sys, time
import numpy, ray

address, cpus, store = sys.argv[1], *map(int, sys.argv[2:])
ray.init(address=address, log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=1)
def hold(signs):
    signs.put(1)
    time.sleep(1e6)

from ray.util.queue import Queue
signs = Queue(actor_options={"num_cpus": 0})
held = [hold.remote(signs) for _ in range(cpus)]
for _ in held:
    signs.get()
kept = [ray.get(ray.put(numpy.zeros(8 << 20, "u1"))) for _ in range(store >> 23)]
print("taken", flush=True)
signal.sigwait([signal.SIGTERM])
"""


class Cluster(contextlib.ExitStack):
    """Nodes, ended with it. ``address`` is of the first that was begun."""

    address = ""

    def begin(
        self,
        ip: str = "127.0.0.1",
        *,
        place: str = "/tmp",
        prefix: Sequence[object] = (),
        cpus: int = 1,
        **what: object,
    ) -> subprocess.Popen[str]:
        """Begin a node, and wait until it is there.

        place   where its folder is made; short, since sockets lie in it
        prefix  a command behind which its own is put
        what    goes wrong with its workers, see ``faults``
        """
        folder = self.enter_context(tempfile.TemporaryDirectory(prefix="r", dir=place))
        command = [
            *prefix,
            sys.executable,
            TESTS / "support" / "ends" / "raynode.py",
            folder,
            ip,
            cpus,
        ]
        process = subprocess.Popen(
            list(map(str, [*command, self.address])), cwd=ROOT, text=True,
            env={**os.environ, **ENVIRONMENT, **faults(**what)},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.callback(end, process)
        assert process.stdout is not None
        found = process.stdout.readline().strip()
        assert found and self.address in ("", found), "a node does not start"
        self.address = found
        return process

    def take(self, cpus: int, store: int) -> subprocess.Popen[str]:
        """Have another program take cores and bytes of the object store, until it is ended."""
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, self.address, str(cpus), str(store)],
            env={**os.environ, **ENVIRONMENT, **LOCAL_ENVIRONMENT}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.callback(end, process)
        assert process.stdout is not None and process.stdout.readline().strip() == "taken"
        return process


def end(process: subprocess.Popen[str]) -> None:
    """End a node, with all that it has started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
