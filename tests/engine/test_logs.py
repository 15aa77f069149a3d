"""Protects: of a Ray that has ended a run its last words are kept, few of them, and no secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.engine.ray_logs import end_of_logs
from pipeline.files import remote

TOKEN, KEY, OF_URI = "f00d" * 8, "kept/in+the/environment", "secretofthebucket"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remote, "_access", {("s3", "bucket"): (f"user:{OF_URI}", "")})
    logs = tmp_path / "logs"
    (logs / "old").mkdir(parents=True)
    (logs / "raylet.out").write_text(f"{'x' * 99}\n" * 5000 + f"token {TOKEN}\nthe last words\n")
    (logs / "gcs_server.out").write_bytes(b"not UTF-8: \xff\n")
    (logs / "raylet.err").touch()
    for number in range(40):
        worker = logs / f"worker-{number:02}.err"
        worker.write_text(f"worker {number}\n")
        os.utime(worker, (number, number))
    return tmp_path


def test_what_was_written_last_is_kept(session: Path) -> None:
    kept = end_of_logs(str(session), ["printed last"], {}).decode()
    assert kept.startswith("==> printed <==\nprinted last\n") and "the last words\n" in kept
    assert "raylet.err" not in kept and "not UTF-8" in kept
    assert "worker 39\n" in kept and "worker 20\n" not in kept
    assert len(kept) < 20_000


def test_no_secrets(session: Path) -> None:
    environment = {"RAY_AUTH_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": KEY, "RAY_AUTH_MODE": "token"}
    printed = [
        f"secrets: {KEY}, {OF_URI}; a place: /data/a@b",
        "s3://another:its-secret@bucket/a?region=x&secret_key=in-a-query&b=c",
    ]
    kept = end_of_logs(str(session), printed, environment).decode()
    for secret in TOKEN, KEY, OF_URI, "its-secret", "in-a-query":
        assert secret not in kept
    assert "token ***\nthe last words" in kept and "/data/a@b" in kept
    assert "s3://***@bucket/a?region=x&secret_key=***&b=c" in kept


def test_nothing_was_written(tmp_path: Path) -> None:
    assert end_of_logs(str(tmp_path), [], {}) == b""
    assert end_of_logs(None, [], {}) == b""
