"""A Ray of one machine with no more processes than tasks need: it starts in a third of the time.

``ray.init()`` starts, beside the two processes that run tasks and keep objects (GCS and raylet),
five in Python: dashboard, autoscaler, log monitor, and the raylet's two agents, for metrics and
for environments. Each imports Ray, and on two cores that is most of the time of starting. A Ray
that lives for one run and is used by nobody else needs none of them. Measured on 2 cores, start
and stop with two idle workers: 4.6 s with all, 1.9 s like this (``make bench`` shows it).

This builds on parts of Ray that are not its public interface and may change: whatever goes wrong
here, ``on_ray`` says so and starts Ray in the ordinary way.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .isolation import become_subreaper, end_children

# In place of an agent: the raylet insists on having both, and ends when one of them does.
_AGENT = "import os, time\nraylet = os.getppid()\nwhile os.getppid() == raylet: time.sleep(1)"
_COMMANDS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")
# The agents say at which ports they listen by files of these names. Nobody asks at these ports.
_PORTS = (
    "dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port",
    "runtime_env_agent_port",
)  # fmt: skip


def start(folder: str, workers: int, object_store_bytes: int) -> Any:
    """Start a node with ``workers`` cores on 127.0.0.1, to which ``ray.init`` can connect.

    ``stop`` ends it. Its processes die with this one, however that ends. Raises whatever Ray does.
    """
    become_subreaper()
    return lean_node(
        head=True,
        node_ip_address="127.0.0.1",
        num_cpus=workers,
        object_store_memory=object_store_bytes,
        temp_dir=folder,
    )


def lean_node(head: bool, **parameters: Any) -> Any:
    """A node as these parameters of Ray's say, the first of a cluster (``head``) or another."""
    from ray._private import services
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class LeanNode(Node):
        def start_api_server(self, **_: Any) -> None:
            pass

        def start_monitor(self) -> None:
            pass

        def start_log_monitor(self) -> None:
            pass

        def start_raylet(self, *args: Any, **options: Any) -> None:
            for name in _PORTS:
                Path(self._session_dir, f"{name}_{self._node_id}").write_text("1")
            with _without_agents(services):
                super().start_raylet(*args, **options)

    asked = RayParams(
        num_gpus=0, include_dashboard=False, dashboard_host="127.0.0.1", labels={}, **parameters
    )
    return LeanNode(
        asked, head=head, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=head
    )


def dead(node: Any) -> list[str]:
    """Which kinds of a node's processes are no more: each of them is needed."""
    return [str(kind) for kind, _ in node.dead_processes()]


def stop(node: Any) -> None:
    """End all of a node's processes, and what they have started: a worker that has not begun yet
    would make the node's folder again."""
    with contextlib.suppress(Exception):
        node.kill_all_processes(check_alive=False, allow_graceful=True)
    end_children()


@contextlib.contextmanager
def _without_agents(services: Any) -> Iterator[None]:
    original = services.start_ray_process
    agent = subprocess.list2cmdline([sys.executable, "-I", "-S", "-c", _AGENT])

    def start_ray_process(command: list[str], *args: Any, **options: Any) -> Any:
        command = [
            next((f"{name}{agent}" for name in _COMMANDS if part.startswith(name)), part)
            for part in command
        ]
        return original(command, *args, **options)

    services.start_ray_process = start_ray_process
    try:
        yield
    finally:
        services.start_ray_process = original
