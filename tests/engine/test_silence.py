"""Protects: where Ray has no room, or hangs, or the process that talks to it, a message says so;
what is meant for another Ray does not get to ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from pipeline.engine import on_ray
from pipeline.engine.on_ray import OnRay
from pipeline.model.engine import Call
from pipeline.model.errors import EngineError

# In place of what talks to Ray: it starts, and then does nothing any more.
HANGS = """\
import splitbtf_start, sys, time
from multiprocessing.connection import Connection
from pipeline.engine.messages import send

pipe = Connection(int(sys.argv[1]))
send(pipe, ("loaded",))
send(pipe, ("ready", 1))
time.sleep(3600)
"""
# The same: it says which variables it has.
TELLS = """\
import splitbtf_start, os, sys
from multiprocessing.connection import Connection
from pipeline.engine.messages import send

names = [name for name in os.environ if name.startswith("RAY_")]
send(Connection(int(sys.argv[1])), ("failed", " ".join(names)))
"""


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnRay]:
    monkeypatch.setattr(on_ray, "_COMMAND", HANGS)
    monkeypatch.setattr(on_ray, "_HANGS_SECONDS", 0.1)
    monkeypatch.setattr(on_ray, "_QUIET_SECONDS", -1.0)
    executor = OnRay(1, None, print)  # type: ignore[arg-type]  # nobody calls it
    yield executor
    executor.close()


def test_nobody_answers(hanging: OnRay) -> None:
    hanging.submit(Call(print, 0), 0, None)
    with pytest.raises(EngineError, match="Ray does not answer any more"):
        hanging.wait(0)


def test_nobody_reads(hanging: OnRay) -> None:
    with pytest.raises(EngineError, match="Ray does not answer any more"):
        hanging.submit(Call(print, bytes(1 << 24)), 0, None)


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "ROOM", 1 << 60)
    with pytest.raises(EngineError, match=r"Ray needs \d+ kB in .*, where \d+ kB are free"):
        OnRay(1, None, print)  # type: ignore[arg-type]


def test_the_run_ends_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Ray does nothing any more."""
    monkeypatch.setattr(on_ray, "_COMMAND", "import time; time.sleep(3600)")
    monkeypatch.setattr(on_ray, "_CLOSE_SECONDS", 0.1)
    ended = Event()
    ended.set()
    with pytest.raises(EngineError, match="the run has ended"):
        OnRay(1, None, print, ended=ended)  # type: ignore[arg-type]


def test_a_ray_of_our_own_has_variables_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there for a cluster keeps it from starting: TLS, or Ray's client."""
    monkeypatch.setattr(on_ray, "_COMMAND", TELLS)
    for name in "RAY_USE_TLS", "RAY_CLIENT_MODE", "RAY_JOB_ID":
        monkeypatch.setenv(name, "1")
    with pytest.raises(EngineError) as told:
        OnRay(1, None, print)  # type: ignore[arg-type]
    assert set(str(told.value).split()) == {*on_ray.LOCAL_ENVIRONMENT, "RAY_AUTH_TOKEN"}
