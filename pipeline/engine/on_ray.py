"""The executor on Ray: local by default, an existing cluster by address.

What is shared is put once into the object store; every worker of a node maps the same copy,
read-only. The local Ray listens on the loopback address only, sends no usage statistics, starts
no dashboard, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import splitbtf_start

from .. import __version__
from ..files.scratch import SHORT, ScratchFolder
from ..model.base import Announce
from ..model.engine import Item, Outcome, Raised, WorkerDied, WorkFunction
from ..model.errors import EngineError
from ..model.options import RunOptions
from ..model.program import program_sha256
from ..model.steps import STEPS
from . import ray_node
from .isolation import attempt
from .malloc import use_system_pool

OBJECT_STORE_BYTES = 1 << 30  # an upper limit: what is not used is not taken

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray turns 127.0.0.1 into an outside address unless clusters are off, and then listens there.
    _LOOPBACK: "0",
    # Ray kills tasks when the machine's memory is short, whoever uses it. Ours use little.
    "RAY_memory_monitor_refresh_ms": "0",
    # Under "uv run" Ray would make an environment for each worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Whoever connects must know a token.
    "RAY_AUTH_MODE": "token",
}

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_PROBE_SECONDS = 60.0
_CHECK_SECONDS = 0.5


class OnRay:
    """Items as Ray tasks, one core each. Starts Ray; ``close`` stops it."""

    def __init__(
        self,
        workers: int | None,
        address: str | None,
        function: WorkFunction,
        prepare: Callable[[], None] | None = None,
        announce: Announce | None = None,
    ) -> None:
        _check_home()
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._folder: ScratchFolder | None = None
        self._node: Any = None
        self._is_ours = address is None
        self._announce = announce
        if address is None:
            os.environ.update(_LOCAL_ENVIRONMENT)
            # A token for this run alone; without one Ray makes one and leaves it in ~/.ray.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        elif _is_there(address) and address.startswith(("127.", "localhost:")):
            os.environ[_LOOPBACK] = "0"  # else it looks for the cluster on the outside address
        if address is None:
            STEPS.info("starting Ray")
        else:
            STEPS.info("connecting to Ray at %s", address)
        import ray  # late: slow to import, and its environment must be set before

        self._ray = ray
        ray_node.keep_quiet()
        try:
            if address is None:
                self._start(workers or len(os.sched_getaffinity(0)))
            else:
                ray.init(address=address, **_QUIET)
                self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
                self._check_nodes()
        except ConnectionError as error:
            self.close()
            raise EngineError(f"{error}; if it wants a token, set RAY_AUTH_TOKEN") from error
        except BaseException as error:  # an interrupt too: half a Ray must not stay behind
            self.close()
            if not isinstance(error, Exception) or isinstance(error, EngineError):
                raise
            why = str(error).partition("\n")[0] or repr(error)
            raise EngineError(f"Ray does not start, --engine local may: {why}") from error
        # Deaths are dealt with by scheduler.py, which knows what to do about them.
        task = ray.remote(num_cpus=1, max_retries=0)(splitbtf_start.call)
        self._function = function
        self._task = task.options(name=function.__name__)
        # Worker processes start and import while the first kernel is being prepared.
        self._preparing = [task.remote(_prepare, prepare) for _ in range(self.workers)]
        self._running: list[Any] = []

    def _start(self, workers: int) -> None:
        self.workers = workers
        try:
            self._folder = ScratchFolder(_short_folder())
        except OSError as error:
            raise EngineError(f"Ray has no folder to work in: {error}") from error
        folder = os.path.join(self._folder.path, "r")  # which Ray opens to everybody
        try:
            self._node = ray_node.start(folder, workers, OBJECT_STORE_BYTES)
        except Exception as error:  # it builds on parts of Ray that are not its public interface
            if self._announce is not None:
                self._announce(
                    f"starting Ray by ray.init(), since its quick start failed: {error!r}"
                )
        else:
            address = self._node.gcs_address
            self._ray.init(
                address=address, _node_ip_address="127.0.0.1", _temp_dir=folder, **_QUIET
            )
            return
        self._ray.init(
            num_cpus=workers,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **_QUIET,
        )

    def share(self, value: Any) -> Any:
        _take_signals_back()
        return self._ray.put(value)

    def release(self, shared: Any) -> None:
        pass  # the object goes with the last reference to it

    def submit(self, item: Item, shared: Any, options: Any) -> Any:
        ticket = self._task.remote(attempt, self._function, item, shared, options)
        self._running.append(ticket)
        return ticket

    def wait(self, seconds: float) -> tuple[Any, Outcome] | None:
        deadline = time.monotonic() + seconds
        done: list[Any] = []
        while not done:
            self._check_node()
            left = deadline - time.monotonic()
            if left < 0:
                return None
            part = min(left, _CHECK_SECONDS)
            done, self._running = self._ray.wait(self._running, num_returns=1, timeout=part)
        ticket = done[0]
        errors = self._ray.exceptions
        try:
            return ticket, self._ray.get(ticket)
        except errors.RayTaskError as error:
            return ticket, Raised(error.cause if isinstance(error.cause, Exception) else error)
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.TaskCancelledError,
        ) as error:
            return ticket, WorkerDied(type(error).__name__)
        except errors.RayError as error:
            raise EngineError(f"Ray gave up: {error}") from error

    def _check_node(self) -> None:
        """Raise EngineError if a process of our own Ray has died: Ray would wait for it for long,
        and then end this process."""
        dead = ray_node.dead(self._node) if self._node is not None else ()
        if dead:
            raise EngineError(f"Ray's {dead[0]} has died; what is done is kept for the next run")

    def kill_and_forget(self, ticket: Any) -> None:
        self._running.remove(ticket)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(ticket, force=True)

    def can_read(self, paths: Sequence[str]) -> bool:
        """Asks every node of the cluster, but a node that is this process's own."""
        if self._is_ours:
            return True
        here = _stat_signatures(paths)
        asked = self._on_each_node(splitbtf_start.call, _stat_signatures, paths).values()
        try:
            return all(there == here for there in self._ray.get([*asked], timeout=_PROBE_SECONDS))
        except self._ray.exceptions.RayError:
            return False  # a node that does not answer is not asked to read files either

    def _on_each_node(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Have each node call a function; what will come of it by the node's address."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = self._ray.remote(num_cpus=0, max_retries=2)(function)
        asked = {}
        for node in self._ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ticket = probe.options(scheduling_strategy=there).remote(*arguments)
                asked[node["NodeManagerAddress"]] = ticket
        return asked

    def _check_nodes(self) -> None:
        """Raise EngineError unless all nodes have this very program: results depend on it."""

        def program() -> str:  # inside of another, it is sent as it is, not by its name
            try:
                import splitbtf_start  # noqa: F401  # from here on, pipeline is ours there too
                from pipeline.model.program import program_sha256
            except ImportError as error:
                return f"has no splitbtf that could be imported ({error})"
            return program_sha256()

        for address, ticket in self._on_each_node(program).items():
            try:
                found = self._ray.get(ticket, timeout=_PROBE_SECONDS)
            except self._ray.exceptions.RayError:
                continue  # it has gone, or will be missed when it is needed
            if found != program_sha256():
                what = found if " " in found else "has another version of splitbtf"
                raise EngineError(
                    f"the Ray node {address} {what}: install this one ({__version__}) there"
                )

    def close(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self._ray.shutdown()
            if self._node is not None:
                ray_node.stop(self._node)
        if self._folder is not None:
            self._folder.close()


def _take_signals_back() -> None:
    """Have this program's own handlers get the signals again for which Ray has put in its own,
    which prints where it was. Only the main thread can do that."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            handler = signal.getsignal(number)
            if handler is not None:
                signal.signal(number, handler)


def _check_home() -> None:
    """Raise EngineError if workers would import another splitbtf than this process has."""
    import pipeline

    here = os.path.dirname(os.path.dirname(os.path.abspath(pipeline.__file__)))
    if not os.path.samefile(here, splitbtf_start.HOME):
        raise EngineError(
            f"this is the splitbtf in {here}, but Ray's workers would use the one in "
            f"{splitbtf_start.HOME}, which is installed; install this one, or use --engine local"
        )


def _prepare(prepare: Callable[[], None] | None) -> None:
    """Import on a worker what its first item would have to wait for."""
    use_system_pool()
    if prepare is not None:
        prepare()


def _stat_signatures(paths: Sequence[str]) -> list[tuple[int, int, int] | None]:
    """How files look from here: what no two different files have in common."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return found


def _is_there(address: str) -> bool:
    """Raise EngineError unless something listens: Ray itself would wait for it for ever."""
    host, _, port = address.rpartition(":")
    if "://" not in address and host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise EngineError(
                f"no Ray cluster at {address}: {error.strerror or error}; give the address that "
                "`ray start --head` printed, or leave --ray-address out"
            ) from error
    return True


def _short_folder() -> str:
    """Where Ray may put its sockets: their paths are limited to 107 bytes; it uses 67, and the
    names of its folders take 24."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= 16 else SHORT


def start(
    options: RunOptions,
    function: WorkFunction,
    prepare: Callable[[], None],
    announce: Announce | None,
) -> OnRay:
    """See ``registry.Engine``."""
    return OnRay(options.workers, options.ray_address, function, prepare, announce)
