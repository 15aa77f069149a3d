"""The process that talks to Ray for a run: starts one or connects to one, hands items to its tasks,
and what comes of them back. See ``on_ray``, at the other end of its pipe.

It knows nothing of what it hands on: items, and what is shared, are bytes.

Results depend on the program that makes them, so its identity travels with each item, and is
checked where the item is worked on: so are the files of this machine that all workers are to see. A
node where either is wrong gives the item back; it is passed over from then on, and the run says so.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Set
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from ..model.limits import ENDING
from . import ray_node
from .messages import Message, receive, send
from .ray_address import Failed, check_address, not_connected, told_by
from .ray_task import signatures

OBJECT_STORE_BYTES = 1 << 30  # an upper limit: what is not used is not taken
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_ANSWER_SECONDS = 15.0
_PROBE_SECONDS = 120.0  # on a machine that does ten times its work, one began after 60
_CHECK_SECONDS = 0.5
_NODES_SECONDS = 2.0
_WAIT_SECONDS = 10.0  # for the first worker, before it is said
UNSEEN = "does not see the files that the others see"


def main(descriptor: str) -> None:
    """Serve the run at the other end of the pipe until it closes it."""
    driver = Driver(Connection(int(descriptor)))
    driver.serve()


def make_task() -> Callable[..., bytes | tuple[str, str, str]]:
    """Make the function of all tasks, which Ray sends as it is, not by its name: it has to say
    something also where there is no splitbtf."""
    unseen = UNSEEN

    def work(
        program: str, seen: dict[str, Any], key: Any, item: bytes, begun: Any, packed: Any = None
    ) -> bytes | tuple[str, str, str]:
        """Returns what has come of the item, pickled; or why this node cannot work on it: its id,
        its address and the reason."""
        try:
            import splitbtf_start  # noqa: F401  # from here on, pipeline is ours there too
            from pipeline.model.program import program_sha256

            reason = ""
            if program_sha256() != program:
                reason = "has another version of splitbtf"
        except ImportError as error:
            reason = f"has no splitbtf that could be imported ({error})"
        if not reason:
            from pipeline.engine.ray_task import sees, serve

            if sees(seen):
                return serve(key, packed, item, begun)
            reason = unseen
        import ray

        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), reason

    return work


def _array(content: memoryview) -> Any:
    """What Ray puts into its store as it is, and a task gets as an array of bytes."""
    import numpy as np

    return np.frombuffer(content, np.uint8)


class Driver:
    """What is known of Ray, of its nodes and of the items that are there."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._node: Any = None
        self._is_ours = False
        self._serving = False
        # By ticket: what is shared, what it is, its reference.
        self._items: dict[int, tuple[int | None, bytes | memoryview, Any]] = {}
        self._waiting: deque[int] = deque()  # tickets that Ray does not have yet
        self._at_ray: set[int] = set()  # tickets
        self._shared: dict[int, Any] = {}
        self._seen: dict[int, dict[str, Any]] = {}  # by what is shared: signatures of files
        self._passed_over: dict[str, str] = {}  # id of a node, why
        self._nodes: dict[str, str] = {}  # id, address
        self._preparing = 0  # items that prepare workers, but those of which a worker has died
        self._death = ""
        self._has_worker = threading.Event()
        self._began = float("inf")  # when workers were first asked for
        self._asked_for_nodes = 0.0

    def serve(self) -> None:
        """From the settings, which come first, to the end."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()
        self._settings: Mapping[str, Any] = self._incoming.get()[1]
        code = 0
        try:
            self._start()
            self._serving = True
            while (message := self._next()) is not None:
                self._take(message)
        except Failed as error:
            self._fail(str(error))
        except Exception as error:
            told = told_by(error)
            gave_up = f"Ray gave up: {told}; what is done is kept for the next run"
            self._fail(gave_up if self._serving else self._not_started(told))
            code = 1
        finally:
            with contextlib.suppress(Exception):
                if not self._is_ours:
                    self._forget_begun()
                self._ray.shutdown()
            if self._is_ours:
                ray_node.stop(self._node)
            os._exit(code)  # Ray's own way out takes longer

    def _fail(self, reason: str) -> None:
        """Tell the run, which then closes the pipe."""
        self._outgoing.put(("failed", reason))
        while self._incoming.get() is not None:
            pass

    # -------------------------------------------------------------- the pipe

    def _read(self) -> None:
        """Take all that comes. At the end nothing is left to be done, also while Ray starts: its
        processes end with this one."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._incoming.put(receive(self._pipe))
        self._incoming.put(None)
        if not self._serving:
            time.sleep(_CHECK_SECONDS)
            if not self._serving:
                os._exit(1)

    def _write(self) -> None:
        """In a thread of its own: whoever waits for room in the pipe could not read from it."""
        with contextlib.suppress(OSError):
            while True:
                send(self._pipe, self._outgoing.get())

    def _next(self) -> Any:
        """The next message, None at the end; meanwhile it is seen to nodes and processes."""
        while True:
            self._check()
            try:
                return self._incoming.get(timeout=_CHECK_SECONDS)
            except queue.Empty:
                continue

    def _take(self, message: Message) -> None:
        what, *rest = message
        if what == "submit":
            ticket, handle, item = rest
            self._items[ticket] = (handle, item, None)
            self._submit(ticket)
        elif what == "ended":
            self._at_ray.discard(rest[0])
            self._hand_out()
        elif what == "back":
            self._take_back(*rest)
        elif what == "share":
            self._shared[rest[0]] = self._ray.put(_array(rest[1]))
        elif what == "release":
            self._shared.pop(rest[0], None)
            self._seen.pop(rest[0], None)
        elif what == "cancel":
            self._cancel(rest[0])
        elif what == "alive":
            self._outgoing.put(("answer", None))
        elif what == "begun":
            self._outgoing.put(("answer", self._has_begun(*rest)))
        elif what == "sees":
            self._outgoing.put(("answer", self._all_see(*rest)))

    # -------------------------------------------------------------- start

    def _start(self) -> None:
        import ray  # slow

        self._ray = ray
        self._outgoing.put(("loaded",))
        address = self._settings["address"]
        self._is_ours = address is None
        if self._is_ours:
            self._start_own()
        else:
            self._connect(address)
            self._make_task()
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # the run says when it ends
        self._outgoing.put(("ready", self._workers()))

    def _not_started(self, told: str) -> str:
        if self._is_ours:
            return f"Ray does not start, --engine local may: {told}"
        return not_connected(self._settings["address"], self._settings["token"], told)

    def _start_own(self) -> None:
        """Start Ray in the quick way, or where that does not work in the ordinary one."""
        folder, workers = self._settings["folder"], self._settings["workers"]
        # Parts of Ray that are not its public interface: whatever goes wrong is no end of the run.
        try:
            self._node = ray_node.start(folder, workers, OBJECT_STORE_BYTES)
            self._ray.init(
                address=self._node.gcs_address,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **_QUIET,
            )
            self._make_task()
            self._wait_for_worker()
            return
        except Exception as error:
            self._say(f"starting Ray by ray.init(), since its quick start failed: {error!r}")
        self._ray.shutdown()
        if self._node is not None:
            ray_node.stop(self._node)
            self._node = None
        self._ray.init(
            num_cpus=workers,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **_QUIET,
        )
        self._make_task()
        self._wait_for_worker()

    def _wait_for_worker(self) -> None:
        """Raise unless there is one that does something."""
        if not self._has_worker.wait(_PROBE_SECONDS):
            raise TimeoutError(f"no worker within {_PROBE_SECONDS:.0f} s")
        if not self._preparing:
            raise RuntimeError(f"its workers end at once ({self._death})")

    def _connect(self, address: str) -> None:
        """Connect to a cluster. The run ends this process if it does not say in time that the
        cluster has answered."""
        address = check_address(address)
        self._outgoing.put(("answered",))
        from ray.job_config import JobConfig

        named: dict[str, Any] = {}
        if "://" not in address:  # the client cannot say it
            named["job_config"] = JobConfig(metadata={"job_name": self._settings["run"]})
        self._ray.init(
            address=address,
            namespace="splitbtf",
            **named,
            runtime_env=self._settings["runtime_env"],
            **_QUIET,
        )

    def _make_task(self) -> None:
        # Deaths are dealt with by scheduler.py, which knows what to do about them.
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(make_task())
        if not self._is_ours:
            self._ask_nodes(self._settings["look"], _ANSWER_SECONDS)
        # Worker processes start and import while the first kernel is being prepared.
        self._began = time.monotonic()
        self._has_worker.clear()
        self._preparing = self._workers()
        for number in range(self._preparing):
            self._items[-1 - number] = (None, self._settings["prepare"], None)
            self._submit(-1 - number)

    def _workers(self) -> int:
        """How many items are worked on at a time, as far as it is known now."""
        asked: int | None = self._settings["workers"]
        if asked is not None:
            return asked
        return max(1, int(sum(node["Resources"]["CPU"] for node in self._usable_nodes())))

    # -------------------------------------------------------------- items

    def _begun(self, ticket: int) -> bytes:
        """Under which name a worker writes down, for all in the cluster, that its node has begun
        with an item."""
        return f"{self._settings['run']}:{ticket}".encode()

    def _has_begun(self, ticket: int) -> bool:
        from ray.experimental import internal_kv

        return self._is_ours or bool(internal_kv._internal_kv_exists(self._begun(ticket)))

    def _forget_begun(self) -> None:
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(f"{self._settings['run']}:".encode(), del_by_prefix=True)

    def _remote(self, ticket: int, handle: int | None, item: bytes | memoryview) -> Any:
        options: dict[str, Any] = {"name": self._settings["name"]}
        if self._passed_over:
            others = ",".join(self._passed_over)
            options["label_selector"] = {"ray.io/node-id": f"!in({others})"}
        seen, begun = self._seen.get(handle or 0, {}), None
        if handle is not None and not self._is_ours:
            begun = self._begun(ticket)
        work = item if isinstance(item, bytes) else _array(item)
        arguments = [self._settings["program"], seen, handle, work, begun]
        if handle is not None:
            arguments.append(self._shared[handle])
        return self._task.options(**options).remote(*arguments)

    def _submit(self, ticket: int) -> None:
        self._waiting.append(ticket)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give Ray what waits: on a cluster no more than the workers that were asked for, since all
        that it has it begins where a CPU is free."""
        asked = self._settings["workers"] if not self._is_ours else None
        while self._waiting and (asked is None or len(self._at_ray) < asked):
            ticket = self._waiting.popleft()
            if ticket not in self._items:  # it was cancelled
                continue
            handle, item, _ = self._items[ticket]
            reference = self._remote(ticket, handle, item)
            self._items[ticket] = (handle, item, reference)
            self._at_ray.add(ticket)
            reference.future().add_done_callback(partial(self._finished, ticket, reference))

    def _take_back(self, ticket: int, node: str, address: str, reason: str) -> None:
        """Have another node work on an item, which this one cannot."""
        if ticket not in self._items:
            return
        seen = self._seen.get(self._items[ticket][0] or 0, {})
        if (now := signatures(list(seen))) != list(seen.values()):  # these files have changed
            seen.update(zip(seen, now, strict=True))
        else:
            self._pass_over(node, address, reason)
        self._submit(ticket)

    def _finished(self, ticket: int, reference: Any, future: Any) -> None:
        """Called in a thread of Ray's."""
        if ticket in self._items and self._items[ticket][2] is not reference:
            return  # it was handed out anew
        self._incoming.put(("ended", ticket))
        errors = self._ray.exceptions
        try:
            value = future.result()
        except errors.RuntimeEnvSetupError as error:
            self._outgoing.put(
                ("failed", f"the runtime environment cannot be made: {told_by(error)}")
            )
        except Exception as error:
            self._tell(ticket, "died", type(error).__name__)
        else:
            if isinstance(value, bytes):
                self._tell(ticket, "done", value)
            elif not self._serving and self._is_ours:  # no other node could do it
                self._tell(ticket, "died", value[2])
            else:
                self._incoming.put(("back", ticket, *value))

    def _tell(self, ticket: int, what: str, value: Any) -> None:
        """Tell the run what has come of an item, once."""
        if self._items.pop(ticket, None) is None:
            return
        if what == "died" and ticket < 0:
            self._death = value
            self._preparing -= 1
        if what == "done" or not self._preparing:
            self._has_worker.set()
        if ticket > 0:
            self._outgoing.put((what, ticket, value))

    def _cancel(self, ticket: int) -> None:
        _, _, reference = self._items.pop(ticket, (None, b"", None))
        if reference is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)

    # -------------------------------------------------------------- nodes

    def _check(self) -> None:
        """Raise Failed if Ray is not what it was."""
        # Ray would wait for it for long, and then end this process.
        if self._node is not None and (dead := ray_node.dead(self._node)):
            raise Failed(f"Ray's {dead[0]} has died; what is done is kept for the next run")
        if time.monotonic() - self._asked_for_nodes > _NODES_SECONDS:
            self._look_at_nodes()
            self._asked_for_nodes = time.monotonic()

    def _look_at_nodes(self) -> None:
        """Follow the size of the cluster, and say what the run waits for."""
        now = {n["NodeID"]: n["NodeManagerAddress"] for n in self._ray.nodes() if n["Alive"]}
        if self._is_ours and not now:
            raise Failed("Ray's raylet does not answer; what is done is kept for the next run")
        lost = self._nodes.keys() - now.keys()
        for node in lost:
            self._say(f"the Ray node {self._nodes[node]} is lost")
        if lost:
            self._give_up_on(lost)
        if self._nodes and now.keys() != self._nodes.keys():
            self._outgoing.put(("workers", self._workers()))
        self._nodes = now
        if not self._has_worker.is_set() and time.monotonic() - self._began > _WAIT_SECONDS:
            self._began = float("inf")  # say it once
            self._say(
                f"no worker has begun within {_WAIT_SECONDS:.0f} s, since all CPUs of the Ray "
                "cluster are in use, or since they are slow to start; waiting for one"
            )

    def _give_up_on(self, nodes: Set[str]) -> None:
        """Tell of what nodes had in work that are lost, and hand out anew what nobody has begun
        with: of a machine that has stopped, not ended, Ray itself would wait for minutes, also for
        its answer whether it has a worker."""
        from ray.experimental import internal_kv

        self._passed_over |= dict.fromkeys(nodes, "is lost")
        for ticket in sorted(self._at_ray):
            where = internal_kv._internal_kv_get(self._begun(ticket))
            if where is None or where.decode() in nodes:
                self._at_ray.discard(ticket)
                if where is None:
                    self._waiting.append(ticket)
                else:
                    self._tell(ticket, "died", "its node is lost")
        self._hand_out()

    def _pass_over(self, node: str, address: str, reason: str) -> None:
        """Have nothing more worked on there."""
        if node in self._passed_over:
            return
        self._passed_over[node] = f"{address} {reason}"
        cure = f"install this one ({self._settings['version']}) there"
        if reason == UNSEEN:
            cure = "have it see them under the same paths"
        if not self._usable_nodes():
            raise Failed(f"no node of the Ray cluster can be used: {address} {reason}: {cure}")
        self._say(f"the Ray node {address} {reason}: it is passed over; {cure} to have it used")
        self._outgoing.put(("workers", self._workers()))

    def _all_see(self, handle: int, look: bytes, paths: tuple[str, ...], here: Any) -> bool:
        """Whether all nodes see these files. From then on it is checked with each item."""
        if not self._usable_nodes():  # those that are to come cannot be asked
            return False
        if any(there != here for there in self._ask_nodes(look, _PROBE_SECONDS)):
            return False  # a node that does not answer is not asked to read files either
        self._seen[handle] = {**self._seen.get(handle, {}), **dict(zip(paths, here, strict=True))}
        return True

    def _ask_nodes(self, item: bytes, seconds: float) -> list[Any]:
        """Have each node work on an item, also where no CPU is free. Returns what comes of it, None
        where there is no answer in time; nodes that cannot work on it are passed over."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = []
        for node in self._usable_nodes():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = self._task.options(num_cpus=0, max_retries=2, scheduling_strategy=there)
            asked.append(task.remote(self._settings["program"], {}, None, item, None))
        done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=seconds)
        answers: list[Any] = [None] * (len(asked) - len(done))
        for one in done:
            try:
                found = self._ray.get(one)
            except self._ray.exceptions.RayError:
                answers.append(None)
                continue
            if isinstance(found, bytes):
                answers.append(pickle.loads(found))
            else:
                self._pass_over(*found)
        return answers

    def _usable_nodes(self) -> list[Any]:
        """The nodes that there are now, but those that are passed over, and those without CPUs, as
        heads often are: nothing is worked on there."""
        alive = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        return [node for node in alive if node["NodeID"] not in self._passed_over]

    def _say(self, text: str) -> None:
        self._outgoing.put(("say", text))
