"""A test that hangs fails, and says where it was."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from support.hanging import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch(limit=0.2, pause=0.1)


def test_one_that_waits_for_itself(watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    lock = threading.Lock()
    lock.acquire()
    with pytest.raises(pytest.fail.Exception) as found, watch.over("waits"):
        lock.acquire()
    assert "waits has not ended within 0.2 s" in str(found.value)
    assert "in test_one_that_waits_for_itself" in str(found.value)
    assert str(found.value) in capfd.readouterr().err


def test_one_that_waits_for_a_process(watch: Watch) -> None:
    process = subprocess.Popen(["sleep", "inf"])
    with pytest.raises(pytest.fail.Exception) as found, watch.over("waits"):
        process.wait()
    assert f"process {process.pid}: sleep inf" in str(found.value)


def test_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    for number in range(3):
        with watch.over(f"test {number}"):
            monkeypatch.setattr(time, "monotonic", lambda at=number: 1e9 * at)
            time.sleep(0.01)  # it is looked at meanwhile
    with pytest.raises(ZeroDivisionError), watch.over("fails"):
        _ = 1 / 0
