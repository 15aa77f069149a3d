"""The executor on Ray: one of its own by default, an existing cluster by address.

This process neither imports Ray nor talks to it. A process of its own does, the driver
(``ray_driver``), to which items go through a pipe. So whatever Ray does to a process (its handlers
of signals, its environment, its way to end processes that have lost their cluster) it does to one
that is ended with the run; a program that calls us may have a Ray of its own, or several runs; and
what takes Ray too long is ended by a deadline.

What is shared is put once into the object store; every worker of a node maps the same copy,
read-only. The local Ray listens on the loopback address only, sends no usage statistics, starts
no dashboard, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pickle import PickleBuffer
from typing import Any

import splitbtf_start

from .. import __version__
from ..files.scratch import SHORT, ScratchFolder
from ..model.base import Announce
from ..model.engine import Batch, Item, Outcome, WorkerDied, WorkFunction
from ..model.errors import EngineError
from ..model.limits import address_limit
from ..model.options import RunOptions
from ..model.program import program_sha256
from ..model.steps import STEPS
from .forker import in_memory
from .isolation import how_it_ended
from .messages import Message, receive, send
from .ray_logs import end_of_logs
from .ray_task import attempt_on, look, prepare_worker, signatures

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ADDRESSES = 3 << 30  # with 2.4 GiB its processes do not all start
ROOM = 512 << 10  # for its logs and sockets; with less, some of its processes do not start
_NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0"}
LOCAL_ENVIRONMENT = {
    **_NO_STATISTICS,
    # Ray turns 127.0.0.1 into an outside address unless clusters are off, and then listens there.
    LOOPBACK: "0",
    # Ray kills tasks when the machine's memory is short, whoever uses it. Ours use little.
    "RAY_memory_monitor_refresh_ms": "0",
    # Under "uv run" Ray would make an environment for each worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Else workers that have had work for half a second are given back after each item, which makes
    # Ray start more of them where one has died: a second of CPU each.
    "RAY_worker_lease_timeout_milliseconds": "3600000",
    # Whoever connects must know a token.
    "RAY_AUTH_MODE": "token",
}
_COMMAND = (
    "import sys, splitbtf_start; from pipeline.engine.ray_driver import main; main(sys.argv[1])"
)
# Variables that a Ray of our own would take for its own: what programs on a cluster get, and what
# is set for a cluster, as TLS.
_OF_RAY = "RAY_"
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_CLIENT_TIMEOUTS = (  # seconds, of each of three attempts to connect to ray://
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S",
)  # fmt: skip
_SEVERE = re.compile(
    r"\[\S+ \S+ [EC] [^]]*\] \S+ (?!:info_message)(.*)"
)  # errors as Ray prints them
_TOKEN_FILE = "~/.ray/auth_token"  # where Ray looks for one itself
_HANGS = "Ray does not answer any more; what is done is kept for the next run"
_LINES_KEPT = 200  # of what Ray prints
# Seconds. What is limited does a thing that takes a second, or waits for what may never come.
_LOAD_SECONDS = 300.0
_ANSWER_SECONDS, _ANSWER_AT_LEAST = 10.0, 6.0  # from the start on; and since Ray was loaded
_START_SECONDS = 300.0
_CLOSE_SECONDS = 15.0  # then all that it has started is killed
_LOOK_SECONDS = 0.2  # whether the run has ended
_QUIET_SECONDS = 30.0  # then it is asked whether there is anybody
_HANGS_SECONDS = 120.0  # without an answer


class OnRay:
    """Items as Ray tasks, one core each. Starts Ray; ``close`` stops it."""

    def __init__(
        self,
        workers: int | None,
        address: str | None,
        function: WorkFunction,
        prepare: Callable[[], None] | None = None,
        announce: Announce | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        _check_home()
        self._function = function
        self._announce = announce
        self._run_ended = ended or threading.Event()
        self._folder: ScratchFolder | None = None
        self._received: deque[Message] = deque()
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._tickets = self._handles = 0
        self._heard = time.monotonic()
        self._forgotten: set[int] = set()
        self._is_ours = address is None and _address_of_this_program() is None
        self._name = address or "this program's Ray"
        self._environment = environment = {**os.environ, **_NO_STATISTICS}
        has_token = any(map(environment.get, _TOKENS))
        address = address or _address_of_this_program()
        if self._is_ours:
            _check_addresses()
            STEPS.info("starting Ray")
            for name in [name for name in environment if name.startswith(_OF_RAY)]:
                del environment[name]
            environment.update(LOCAL_ENVIRONMENT)
            # A token for this run alone; without one Ray makes one and leaves it in ~/.ray.
            environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            self._folder = _make_folder()
        else:
            STEPS.info("connecting to Ray at %s", self._name)
            for name in _CLIENT_TIMEOUTS:
                environment.setdefault(name, "3")
            if has_token:
                environment.setdefault("RAY_AUTH_MODE", "token")
            elif environment.get("RAY_AUTH_MODE") == "token" and not _has_token_file():
                raise EngineError(
                    "RAY_AUTH_MODE asks for a token, and there is none: set RAY_AUTH_TOKEN to that "
                    "of the Ray cluster"
                )
            if address is not None and address.startswith(("127.", "localhost:")):
                environment[LOOPBACK] = "0"  # else it looks for the cluster on the outside address
        settings = {
            "address": address,
            "folder": self._ray_folder,
            "workers": workers or (len(os.sched_getaffinity(0)) if self._is_ours else None),
            "run": f"splitbtf:{uuid.uuid4()}",
            "token": has_token,
            "program": program_sha256(),
            "version": __version__,
            "name": f"splitbtf:{function.__name__}",
            "prepare": pickle.dumps((prepare_worker, (prepare,)), protocol=5),
            "look": _look_at(()),
            "runtime_env": runtime_env,
        }
        try:
            self._start(environment, settings)
        except BaseException as error:  # an interrupt too: half a Ray must not stay behind
            if isinstance(error, EngineError) and self._is_ours:
                error.log = self.log()
            self.close()
            raise

    def _start(self, environment: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        from multiprocessing.connection import Pipe  # late: no other command needs it

        began = time.monotonic()
        self._pipe, theirs = Pipe()
        with socket.socket(fileno=os.dup(self._pipe.fileno())) as ours:
            limit = struct.pack("ll", int(_HANGS_SECONDS), int(_HANGS_SECONDS % 1 * 1e6))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with theirs:
            self._driver = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what a terminal sends is for this process to deal with
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._send(("start", settings))
        self._expect("loaded", _LOAD_SECONDS, "Ray cannot be loaded")
        if not self._is_ours:
            seconds = max(_ANSWER_AT_LEAST, began + _ANSWER_SECONDS - time.monotonic())
            self._expect(
                "answered",
                seconds,
                f"no answer from a Ray cluster at {self._name} within {seconds:.0f} s: "
                "something else may listen there; give the address that `ray start --head` printed",
            )
        started = self._expect("ready", _START_SECONDS, "Ray does not start, --engine local may")
        self.workers: int = started[1]

    def share(self, value: Any) -> int:
        self._handles += 1
        with in_memory(value) as file:
            self._send(("share", self._handles), file)
        return self._handles

    def release(self, shared: int) -> None:
        self._send(("release", shared))

    def submit(self, item: Item, shared: int, options: Any) -> int:
        self._tickets += 1
        message = ("submit", self._tickets, shared)
        if isinstance(item, Batch) and item.contents:
            contents: Any = {path: PickleBuffer(content) for path, content in item.contents.items()}
            item = replace(item, contents=contents)
            with in_memory((attempt_on, (self._function, item, options))) as file:
                self._send(message, file)
        else:
            work = (attempt_on, (self._function, item, options))
            self._send((*message, pickle.dumps(work, protocol=5)))
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        deadline = time.monotonic() + seconds
        while (message := self._receive(deadline - time.monotonic())) is not None:
            ticket = message[1]
            if ticket in self._forgotten:
                self._forgotten.remove(ticket)
            elif message[0] == "done":
                return ticket, pickle.loads(message[2])
            else:
                return ticket, WorkerDied(message[2])
        if time.monotonic() - self._heard > _QUIET_SECONDS:
            self._ask("alive")
        return None

    def has_begun(self, ticket: int) -> bool:
        answer: bool = self._ask("begun", ticket)
        return answer

    def kill_and_forget(self, ticket: int) -> None:
        self._forgotten.add(ticket)
        self._send(("cancel", ticket))

    def can_read(self, paths: Sequence[str]) -> bool:
        """Asks every node of the cluster, but a node that is this process's own."""
        if self._is_ours:
            return True
        question = (self._handles, _look_at(paths), tuple(paths), signatures(paths))
        answer: bool = self._ask("sees", *question)
        return answer

    @property
    def _ray_folder(self) -> str | None:
        """Of a Ray of our own."""
        return os.path.join(self._folder.path, "r") if self._folder is not None else None

    def log(self) -> bytes:
        folder = self._ray_folder
        session = folder and os.path.join(folder, "session_latest")
        return end_of_logs(session, list(self._lines), self._environment)

    def close(self) -> None:
        if hasattr(self, "_driver"):
            self._pipe.close()  # which it takes for the end
            try:
                self._driver.wait(_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._driver.kill()
                self._driver.wait()
            with contextlib.suppress(ProcessLookupError):  # what it has started and not ended
                os.killpg(self._driver.pid, signal.SIGKILL)
            self._listener.join(1)  # its end is that of all who have the pipe
        if self._folder is not None:
            self._folder.close()

    # -------------------------------------------------------------- messages

    def _send(self, message: Message, file: int | None = None) -> None:
        try:
            send(self._pipe, message, file)
        except BlockingIOError:
            raise self._give_up(_HANGS) from None
        except OSError:
            raise self._ended() from None

    def _ask(self, *question: Any) -> Any:
        """Send what has an answer, and wait for it. What else comes meanwhile is kept."""
        self._send(question)
        return self._expect("answer", _HANGS_SECONDS, _HANGS)[1]

    def _expect(self, kind: str, seconds: float, otherwise: str) -> Message:
        """The next message of a kind. Raises EngineError, with ``otherwise``, after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            message = self._next_message(min(left, _LOOK_SECONDS))
            if message is not None:
                if message[0] == kind:
                    return message
                self._received.append(message)
            elif self._run_ended.is_set():
                raise EngineError("the run has ended")
            elif not left:
                raise self._give_up(otherwise)

    def _receive(self, seconds: float) -> Message | None:
        """What has come of an item; None after ``seconds``."""
        if self._received:
            return self._received.popleft()
        deadline = time.monotonic() + max(0.0, seconds)
        while True:
            message = self._next_message(max(0.0, deadline - time.monotonic()))
            if message is None or message[0] in ("done", "died"):
                return message

    def _next_message(self, seconds: float) -> Message | None:
        """The next one that the caller has to deal with; None after ``seconds``."""
        try:
            while self._pipe.poll(seconds):
                message = receive(self._pipe)
                self._heard = time.monotonic()
                if message[0] == "failed":
                    raise EngineError(message[1])
                if message[0] == "say":
                    if self._announce is not None:
                        self._announce(message[1])
                elif message[0] == "workers":
                    self.workers = message[1]
                else:
                    return message
        except (EOFError, OSError):
            raise self._ended() from None
        return None

    def _give_up(self, why: str) -> EngineError:
        """End the driver, which hangs."""
        self._driver.kill()
        return EngineError(why)

    def _ended(self) -> EngineError:
        """What to say where the driver has ended by itself, as it does when its cluster is gone."""
        self._listener.join(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._driver.wait(1)
        how = how_it_ended(self._driver.returncode or 0)
        severe = [found[1] for line in self._lines if (found := _SEVERE.match(line))]
        said = f"; it said: {severe[-1].partition('. ')[0]}" if severe else ""
        lost = "" if self._is_ours else f"the connection to Ray at {self._name} is lost: "
        return EngineError(
            f"{lost}the process that talks to Ray has died ({how}){said}; what is done is kept for "
            "the next run, and -v shows what Ray says"
        )

    def _listen(self) -> None:
        """Keep what Ray prints; ``-v`` shows it."""
        assert self._driver.stdout is not None
        with self._driver.stdout as lines:
            for line in lines:
                if text := line.decode(errors="backslashreplace").strip():
                    self._lines.append(text)
                    STEPS.debug("Ray: %s", text)


def _has_token_file() -> bool:
    return os.path.exists(os.path.expanduser(_TOKEN_FILE))


def _look_at(paths: Sequence[str]) -> bytes:
    """An item: say how files look from there."""
    return pickle.dumps((look, (paths,)), protocol=5)


def _address_of_this_program() -> str | None:
    """Where the Ray is that this program has begun to use before it called us; None if none.

    Raises EngineError if that is not known.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    try:
        return str(ray.get_runtime_context().gcs_address)
    except Exception as error:
        raise EngineError(
            "this program uses Ray through its client, at an address that is not known here: give "
            "it by --ray-address (RunOptions.ray_address), or use --engine local"
        ) from error


def _check_home() -> None:
    """Raise EngineError if workers would import another splitbtf than this process has."""
    import pipeline

    here = os.path.dirname(os.path.dirname(os.path.abspath(pipeline.__file__)))
    if not os.path.samefile(here, splitbtf_start.HOME):
        raise EngineError(
            f"this is the splitbtf in {here}, but Ray's workers would use the one in "
            f"{splitbtf_start.HOME}, which is installed; install this one, or use --engine local"
        )


def _check_addresses() -> None:
    """Raise EngineError where a limit leaves Ray's processes too few addresses: they start threads
    until there is none, and then wait for each other."""
    limit = address_limit()
    if limit is not None and limit < ADDRESSES:
        raise EngineError(
            f"Ray needs {ADDRESSES >> 30} GiB of address space, and `ulimit -v` allows "
            f"{limit >> 20} MiB: raise it, or use --engine local"
        )


def _make_folder() -> ScratchFolder:
    """Where Ray may put its sockets: their paths are limited to 107 bytes; it uses 67, and the
    names of its folders take 24."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > 16:
        folder = SHORT
    try:
        status = os.statvfs(folder)
        if (free := status.f_bavail * status.f_frsize) < ROOM:
            raise EngineError(
                f"Ray needs {ROOM >> 10} kB in {folder}, where {free >> 10} kB are free: make "
                "room, set TMPDIR to another folder with a short name, or use --engine local"
            )
        return ScratchFolder(folder)
    except OSError as error:
        raise EngineError(f"Ray has no folder to work in: {error}") from error


def start(
    options: RunOptions,
    function: WorkFunction,
    prepare: Callable[[], None],
    announce: Announce | None,
    ended: threading.Event,
) -> OnRay:
    """See ``registry.Engine``."""
    address, runtime_env = options.ray_address, options.runtime_env
    return OnRay(options.workers, address, function, prepare, announce, runtime_env, ended)
