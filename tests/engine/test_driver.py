"""Protects: of a cluster a run takes no more than it was told to, and loses nothing that waits."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engine.ray_address import Failed, not_connected, told_by
from pipeline.engine.ray_driver import UNSEEN, Driver


class Task:
    """In place of Ray's: what was handed out, and is done when the test says so."""

    def __init__(self) -> None:
        self.handed_out: list[Future[bytes]] = []

    def options(self, **_: Any) -> Task:
        return self

    def remote(self, *_: Any) -> Any:
        self.handed_out.append(Future())
        return SimpleNamespace(future=lambda done=self.handed_out[-1]: done)


def new_driver(workers: int | None = None) -> Driver:
    driver = Driver(None)  # type: ignore[arg-type]  # nothing is read or written
    driver._settings = dict.fromkeys(("name", "program", "run", "version"), "1")
    driver._settings["workers"] = workers
    return driver


@pytest.mark.parametrize(("workers", "at_once"), [(2, 2), (None, 5)])
def test_no_more_workers_than_were_asked_for(workers: int | None, at_once: int) -> None:
    driver, task = new_driver(workers), Task()
    driver._task = task
    cancelled: list[Any] = []
    errors = SimpleNamespace(RuntimeEnvSetupError=KeyError, RayError=KeyError)
    ray: Any = SimpleNamespace(exceptions=errors, cancel=lambda *one, **_: cancelled.append(one))
    driver._ray = ray
    driver._preparing = 1

    def take_all() -> None:
        while not driver._incoming.empty():
            driver._take(driver._incoming.get())

    for ticket in range(1, 6):
        driver._take(("submit", ticket, None, pickle.dumps(ticket)))
    assert len(task.handed_out) == at_once
    driver._take(("cancel", 4))  # of two workers neither has it yet
    assert len(cancelled) == (workers is None)
    for number in range(4 if workers else 5):
        task.handed_out[number].set_result(b"done")
        take_all()
        assert len(task.handed_out) == min(number + 1 + at_once, 4 if workers else 5)
    told = [driver._outgoing.get() for _ in range(driver._outgoing.qsize())]
    assert {message[:2] for message in told} >= {("done", ticket) for ticket in (1, 2, 3, 5)}
    assert not driver._at_ray


def node(name: str, **resources: float) -> dict[str, Any]:
    there = {"Alive": True, "NodeID": name, "NodeManagerAddress": name}
    return {**there, "Resources": {"memory": 1.0, **resources}}


def test_nodes_without_cpus_are_left_alone() -> None:
    """A head without CPUs has none of the files, nor splitbtf: nobody asks it."""
    driver, nodes = new_driver(), [node("head")]
    ray: Any = SimpleNamespace(nodes=lambda: nodes)
    driver._ray = ray
    assert driver._workers() == 1  # more may come
    assert not driver._all_see(1, b"", ("file",), [None])
    nodes += [node("a", CPU=4), node("b", CPU=2)]
    assert driver._workers() == 6
    driver._pass_over("b", "b", UNSEEN)
    assert driver._workers() == 4 and [one["NodeID"] for one in driver._usable_nodes()] == ["a"]
    kind, text = driver._outgoing.get()
    assert kind == "say" and "have it see them under the same paths to have it used" in text
    with pytest.raises(Failed, match="no node of the Ray cluster can be used: a has none: install"):
        driver._pass_over("a", "a", "has none")


def test_a_ray_of_our_own_has_another_version() -> None:
    """As where splitbtf is installed anew while a run starts: that is told, and not waited for."""
    driver, task = new_driver(2), Task()
    driver._task, driver._is_ours, driver._preparing = task, True, 2
    ray: Any = SimpleNamespace(exceptions=SimpleNamespace(RuntimeEnvSetupError=KeyError))
    driver._ray = ray
    for ticket in (-1, -2):
        driver._take(("submit", ticket, None, b""))
    for future in task.handed_out:
        future.set_result(("id", "127.0.0.1", "has another version of splitbtf"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"end at once \(has another version of splitbtf\)"):
        driver._wait_for_worker()


def test_what_a_lost_node_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Ray does not: a machine that has stopped keeps its connections. What nobody has
    begun with is handed out anew, and what Ray says of it later is not told."""
    driver, task = new_driver(3), Task()
    driver._task = task
    nodes = [node("a", CPU=1), node("b", CPU=1)]
    ray: Any = SimpleNamespace(
        nodes=lambda: nodes, exceptions=SimpleNamespace(RuntimeEnvSetupError=KeyError)
    )
    driver._ray = ray
    begun = {b"1:1": b"a", b"1:2": b"b"}  # and nobody with the third
    store = SimpleNamespace(internal_kv=SimpleNamespace(_internal_kv_get=begun.get))
    monkeypatch.setitem(sys.modules, "ray.experimental", store)
    for ticket in range(1, 5):
        driver._take(("submit", ticket, None, b""))
    driver._look_at_nodes()
    nodes.pop()
    driver._look_at_nodes()
    told = [driver._outgoing.get() for _ in range(driver._outgoing.qsize())]
    assert ("died", 2, "its node is lost") in told
    assert len(task.handed_out) == 5 and driver._at_ray == {1, 3, 4}
    for number in 1, 2:
        task.handed_out[number].set_exception(ConnectionError())
    assert driver._outgoing.empty() and driver._at_ray == {1, 3, 4}
    task.handed_out[4].set_result(b"done")
    assert driver._outgoing.get()[:2] in (("done", 3), ("done", 4))


def test_what_ray_says_in_several_lines() -> None:
    told = told_by(RuntimeError("Version mismatch: started with:\n  Ray: 2\n\n  Python: 3\n"))
    expected = "cannot connect to Ray at A: Version mismatch: started with: Ray: 2; Python: 3: "
    assert not_connected("A", False, told) == f"{expected}install the same here"
    assert told_by(KeyError()) == "KeyError()" and len(told_by(RuntimeError("long " * 999))) < 500
