"""Protects the use of earlier results: only those that are whole, and would come out the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.model.options import KernelContext, RunOptions
from pipeline.model.records import (
    BAD_BTF,
    CRASHED,
    ENCODE_FAILED,
    ENCODE_TIMEOUT,
    NO_ENCODER,
    TIMED_OUT,
)
from pipeline.store import cached_results
from pipeline.store.cached_results import CachedResult, find_cached, is_valid
from pipeline.store.output import OutputFolder, read_table
from pipeline.tables.stored.results import Entry
from support.runs import run_on, small_kernel

OPTIONS = RunOptions(("s",), "o", module_seconds=10, encode_seconds=5)
RETRY = RunOptions(("s",), "o", module_seconds=10, encode_seconds=5, retry=True)


@pytest.mark.parametrize(
    ("kind", "seconds", "encoder", "installed", "valid", "valid_on_retry"),
    [
        (None, None, None, None, True, True),
        (BAD_BTF, None, None, "pahole 1.25", True, True),  # neither time nor chance had a say
        (CRASHED, None, None, None, True, False),
        (TIMED_OUT, 10, None, None, True, False),
        (TIMED_OUT, 9, None, None, False, False),  # it may take longer now
        (ENCODE_TIMEOUT, 5, "pahole 1.24", "pahole 1.24", True, False),
        (ENCODE_TIMEOUT, 4, "pahole 1.24", "pahole 1.24", False, False),
        (ENCODE_FAILED, None, "pahole 1.24", "pahole 1.24", True, True),
        (ENCODE_FAILED, None, "pahole 1.24", "pahole 1.25", False, False),
        (NO_ENCODER, None, None, None, True, True),
        (NO_ENCODER, None, None, "pahole 1.24", False, False),  # there is one now
        (None, None, "pahole 1.24", "pahole 1.25", False, False),
        (None, None, "pahole 1.24", None, True, True),  # better than nothing
    ],
)
def test_when_a_result_still_holds(
    kind: str | None,
    seconds: float | None,
    encoder: str | None,
    installed: str | None,
    valid: bool,
    valid_on_retry: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cached_results, "installed_encoder", lambda: installed)
    entry = Entry("key", "m", kind, None, None, encoder, None, seconds)
    assert is_valid(entry, OPTIONS) is valid and is_valid(entry, RETRY) is valid_on_retry


def found_in(out: Path, digest: str | None = None) -> dict[str, CachedResult]:
    """By module. The digest of the context is the beginning of the files' names."""
    folder = OutputFolder(out)
    try:
        files = sorted(out.glob("cache/*/*.results"))
        wanted = digest or files[0].name.partition("-")[0]
        found = find_cached(folder, KernelContext(OPTIONS, None, wanted))
        assert all(key == result.entry.key for key, result in found.items())
        return {result.entry.module: result for result in found.values()}
    finally:
        folder.close()


def test_only_what_is_whole_is_found(tmp_path: Path) -> None:
    out = run_on(small_kernel(tmp_path / "kernel"), tmp_path / "out")
    digests = {
        row["module"]: row["output_sha256"] for row in read_table(out, "modules").to_pylist()
    }
    found = found_in(out)
    assert {name: result.entry.output_sha256 for name, result in found.items()} == digests
    for name, result in found.items():
        assert (out / result.result.btf).read_bytes() == (
            out / f"btf/kernel=kernel/{name}.btf"
        ).read_bytes()
    assert found_in(out, "0" * 16) == {}, "results of another base, or program"

    (version,) = out.glob("versions/*/*")
    (version / "one.btf").unlink()
    assert set(found_in(out)) == {"two", "three"}, "a result without its BTF file"

    # Without what is remembered of the files they are read, and then their content counts.
    (out / "cache/kernel=kernel/index.json").unlink()
    (version / "two.btf").write_bytes(b"another")
    assert set(found_in(out)) == {"three"}

    for path in out.glob("cache/*/*.results"):
        path.write_bytes(path.read_bytes()[:-1])
    assert found_in(out) == {}, "a damaged file of results"
