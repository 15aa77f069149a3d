"""Tries runs on clusters of every kind that has a name, and prints what comes of each as a table.

    python tests/full_clusters.py [SOURCE] [WORDS...]

SOURCE is a kernel's folder (default: the demo). Of the trials those are made whose names have all
WORDS in them. Nodes are Ray's own, on loopback addresses of this machine, one core each. A run, or
the next one without Ray, has to give the bytes of a run without Ray, and nothing may be left. Exit
status 0 if that is so, 1 if not. Takes ten minutes.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from support.commands import wait_for
from support.ends.disturbing import named
from support.ends.nodes import ENVIRONMENT, TOKEN, Cluster, end
from support.ends.trials import Disturb, Trial, Trials, send

ENVIRONMENT["RAY_health_check_timeout_ms"] = "10000"  # as Ray has it: what is stopped is missed
Node = subprocess.Popen[str]
PROGRAMS: dict[str, dict[str, Any]] = {
    "a good one": {},
    "another version": {"program": "other"},
    "no splitbtf": {"program": "none"},
}
WORKER = "ray::splitbtf:work"
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
SECOND, FIRST = 1, 0
FAULTS: dict[str, tuple[int, Disturb]] = {
    "SIGKILL of a worker of another node": (SECOND, send(KILL, WORKER)),
    "SIGKILL of another node": (SECOND, send(KILL)),
    "SIGTERM of another node": (SECOND, send(signal.SIGTERM)),
    "SIGSTOP of another node": (SECOND, send(STOP)),
    "SIGKILL of the raylet where the run is": (FIRST, send(KILL, "raylet/raylet")),
    "SIGKILL of the GCS": (FIRST, send(KILL, "gcs_server")),
    "SIGSTOP of the GCS": (FIRST, send(STOP, "gcs_server")),
}
LISTEN = """\
import socket, time
kept, s = [], socket.create_server(("127.0.0.1", 0), backlog=0)
print(s.getsockname()[1], flush=True)
"""
ANSWER = "while True: c = s.accept()[0]; c.sendall(%r); c.close()"
LISTENING = {
    "no answer to a connection": (  # as from a host that cannot be reached: its queue is full
        "for _ in range(3): kept.append(socket.socket()); kept[-1].setblocking(False); "
        "kept[-1].connect_ex(s.getsockname())\ntime.sleep(1e6)"
    ),
    "what listens is silent": "",
    "what listens closes": ANSWER % b"",
    "what listens speaks HTTP": ANSWER % b"HTTP/1.1 400 no\r\n\r\n",
}
RUN = """\
import sys
from pipeline.model.options import RunOptions
from pipeline.run import run
_, _, source, _, out = sys.argv
"""
INIT = 'ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")\n'
CALL = "run(RunOptions(sources=(source,), out=out))\n"
THREADS = """\
import threading
def call(out): run(RunOptions(sources=(source,), out=out))
threads = [threading.Thread(target=call, args=(where,)) for where in (out, out + "-2")]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
TASK = """\
def call(): run(RunOptions(sources=(source,), out=out))
ray.get(ray.remote(num_cpus=1)(call).remote())
"""
KEEPS = """\
assert ray.get(ray.remote(lambda: 5).remote()) == 5
ray.shutdown()
import shutil, tempfile  # its own folder
shutil.rmtree(tempfile.gettempdir() + "/ray")
"""
EMBEDDING = {
    "its own `ray.init` before": f"import ray\n{RUN}{INIT}{CALL}{KEEPS}",
    "its own `ray.init` afterwards": f"import ray\n{RUN}{CALL}{INIT}{KEEPS}",
    "`import ray` before": f"import ray\n{RUN}{CALL}assert not ray.is_initialized()\n",
    "in a task": f"import ray\n{RUN}{INIT.replace('=1', '=2')}{TASK}{KEEPS}",
    "two threads": f"{RUN}{THREADS}",
    "two threads, its own `ray.init`": f"import ray\n{RUN}{INIT}{THREADS}{KEEPS}",
}


def on(
    trials: Trials,
    what: str,
    *nodes: dict[str, Any],
    before: Callable[[Cluster], object] = lambda _: None,
    disturb: Callable[[Cluster, list[Node]], object] = lambda *_: None,
    **env: str,
) -> None:
    """Make a trial, if it is asked for, on a cluster of these nodes.

    before   what is done to the cluster when its nodes are there
    disturb  what is done to it, and its nodes, when the run is at work
    env      what the run has in its environment; nothing: the token
    """
    if not trials.wants(what):
        return
    with Cluster() as cluster:
        begun = [cluster.begin(**node) for node in nodes]
        before(cluster)
        trials.make(
            Trial(
                what,
                lambda _: disturb(cluster, begun),
                ("--ray-address", cluster.address),
                env=env or {"RAY_AUTH_TOKEN": TOKEN},
            )
        )


def at(trials: Trials, what: str, address: str) -> None:
    """Make a trial, if it is asked for, with an address where there is no cluster."""
    if trials.wants(what):
        trials.make(Trial(what, arguments=("--ray-address", address)))


def nodes_of_all_kinds(trials: Trials) -> None:
    others = [{"ip": f"127.0.0.{number}"} for number in range(1, 5)]
    for count in 1, 2, 4:
        on(trials, f"nodes: {count}", *others[:count])
    on(trials, "two nodes on one address", {}, {})
    on(trials, "a head without CPUs and splitbtf", {"cpus": 0, "program": "none"}, others[1])
    for kind, program in PROGRAMS.items():
        if program:
            on(trials, f"on the address of a good node {kind}", {}, program)
            on(trials, f"on the only node {kind}", program)
        on(trials, f"joins late: {kind}", {}, disturb=partial(join, program))
    on(trials, "another Ray", {"ray": "2.0.0"})
    on(trials, "a node joins and leaves at once, three times", {}, disturb=come_and_go)


def join(program: dict[str, Any], cluster: Cluster, nodes: list[Node]) -> None:
    """While the others do nothing, so that there is something for the new one to do."""
    send(STOP, WORKER)(nodes[0])
    node = cluster.begin("127.0.0.2", **program)
    wait_for(lambda: named(node.pid, WORKER), "its worker")
    time.sleep(2)
    send(signal.SIGCONT, WORKER)(nodes[0])


def come_and_go(cluster: Cluster, _: object) -> None:
    for _ in range(3):
        end(cluster.begin("127.0.0.2"))


def faults(trials: Trials) -> None:
    for what, (number, disturb) in FAULTS.items():
        on(trials, what, {}, {"ip": "127.0.0.2"}, disturb=partial(do, number, disturb))


def do(number: int, disturb: Disturb, _: object, nodes: list[Node]) -> None:
    """When the node is at work: till then the other one does nothing, or all might be done."""
    other = nodes[1 - number]
    if held := named(other.pid, WORKER):
        send(STOP, WORKER)(other)
    wait_for(lambda: named(nodes[number].pid, WORKER), "its worker")
    disturb(nodes[number])
    if held:
        send(signal.SIGCONT, WORKER)(other)


def resources(trials: Trials) -> None:
    def take_for(seconds: float, cluster: Cluster) -> None:
        taken = cluster.take(1, 0)
        threading.Timer(seconds, end, (taken,)).start()

    on(trials, "no free CPU for 20 s", {}, before=partial(take_for, 20))
    for what, node in ("", {}), (", files are sent", {"prefix": sees_nothing_in(trials.source)}):
        on(trials, f"object store full{what}", node, before=lambda one: one.take(0, 190 << 20))
    if trials.wants("two runs at once"):
        with Cluster() as cluster:
            for number in 1, 2:
                cluster.begin(f"127.0.0.{number}")
            trial = Trial(
                "", arguments=("--ray-address", cluster.address), env={"RAY_AUTH_TOKEN": TOKEN}
            )
            for what, count in ("one run alone", 1), ("two runs at once", 2):
                trials.at_once(what, [trial] * count)


def sees_nothing_in(folder: object) -> tuple[str, ...]:
    """A command for a node that sees an empty folder there."""
    return ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")


def tokens(trials: Trials) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(TOKEN)
        file.flush()
        on(trials, "token: the right one", {})
        on(trials, "token: in a file", {}, RAY_AUTH_TOKEN_PATH=file.name)
        on(trials, "token: a wrong one", {}, RAY_AUTH_TOKEN="x" * 32)
        on(trials, "token: none", {}, RAY_AUTH_MODE="")
        on(trials, "token: RAY_AUTH_MODE and none", {}, RAY_AUTH_MODE="token")


def addresses(trials: Trials) -> None:
    at(trials, "address: nobody listens", "127.0.0.1:1")
    at(trials, "address: no such host", "nowhere.invalid:6379")
    at(trials, "address: not one", "nonsense")
    at(trials, "address: of another kind", "http://127.0.0.1:6379")
    at(trials, "address: `auto` without a cluster", "auto")
    for what, program in LISTENING.items():
        with listening(program) as address:
            at(trials, f"address: {what}", address)
            at(trials, f"address: {what}, `ray://`", f"ray://{address}")


def embedding(trials: Trials) -> None:
    for what, program in EMBEDDING.items():
        if trials.wants(f"embedded: {what}"):
            env = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
            trials.make(Trial(f"embedded: {what}", env=env, program=("-c", program)))


@contextlib.contextmanager
def listening(program: str) -> Iterator[str]:
    """A server that is no Ray; yields its address."""
    program = f"{LISTEN}{program}\nwhile True: kept.append(s.accept()[0])"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    trials = Trials(sys.argv[1:])
    for group in nodes_of_all_kinds, faults, resources, tokens, addresses, embedding:
        group(trials)
    sys.exit(trials.wrong > 0)
