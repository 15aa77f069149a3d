"""Protects: of a cluster a run takes no more than it was told to, and loses nothing that waits."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engine.ray_driver import Driver


class Task:
    """In place of Ray's: what was handed out, and is done when the test says so."""

    def __init__(self) -> None:
        self.handed_out: list[Future[bytes]] = []

    def options(self, **_: Any) -> Task:
        return self

    def remote(self, *_: Any) -> Any:
        self.handed_out.append(Future())
        return SimpleNamespace(future=lambda done=self.handed_out[-1]: done)


@pytest.mark.parametrize(("workers", "at_once"), [(2, 2), (None, 5)])
def test_no_more_workers_than_were_asked_for(workers: int | None, at_once: int) -> None:
    driver, task = Driver(None), Task()  # type: ignore[arg-type]  # nothing is read or written
    driver._task = task
    driver._settings = {"workers": workers, "name": "work", "program": "", "run": ""}
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
    assert driver._at_ray == 0
