"""Protects what is remembered of inputs: a file is read again exactly when it could be another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.files.storage import LocalFolder
from pipeline.model.records import FileInput, KernelInput, ModuleInput
from pipeline.store import input_cache
from pipeline.store.input_cache import BaseMemory, Inputs, Memory, inputs_digest, read_memory
from pipeline.store.output import OutputStage
from pipeline.tables.stored.results import Entry

HOUR = 3_600_000_000_000
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
DIGESTS = st.dictionaries(TEXTS, TEXTS, max_size=3)
MEMORIES = st.builds(
    Memory,
    signatures=st.dictionaries(TEXTS, st.tuples(st.integers(), st.integers()), max_size=3),
    digests=DIGESTS,
    base=st.none() | st.builds(BaseMemory, TEXTS, TEXTS, TEXTS, TEXTS, st.none()),
    conditional=st.lists(st.builds(Entry, TEXTS, TEXTS, TEXTS, st.integers(), TEXTS), max_size=2),
    version=TEXTS,
    files=DIGESTS,
    results=st.lists(TEXTS, max_size=3),
)
ONE_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes has been there for long."""
    now = input_cache.time.time_ns() + HOUR
    monkeypatch.setattr(input_cache.time, "time_ns", lambda: now)


def kernel(folder: Path, modules: Sequence[str] = ("a", "b"), base: str = "vmlinux") -> KernelInput:
    """A kernel of these files; those that are not there hold their own names."""
    for name in (base, *modules):
        if not (folder / name).exists():
            (folder / name).write_text(name)
    paths = [str(folder / name) for name in modules]
    inputs = [ModuleInput(n, p, n, i, 1) for i, (n, p) in enumerate(zip(modules, paths), 1)]  # noqa: B905
    return KernelInput("k", (FileInput(str(folder / base), base),), None, tuple(inputs))


def learned(given: KernelInput, memory: Memory | None = None) -> Inputs:
    inputs = Inputs(given, memory or Memory(), {})
    inputs.read_what_changed(given.modules)
    inputs.remember_base(given.bases[0])
    return inputs


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.slow
@settings(suppress_health_check=ONE_FOLDER)
@given(MEMORIES)
def test_what_is_written_comes_back(tmp_path: Path, memory: Memory) -> None:
    storage = LocalFolder(str(tmp_path))
    storage.make_folder(OutputStage("k").results)
    memory.write(storage, "k")
    assert read_memory(storage, "k") == memory
    assert read_memory(storage, "other") == Memory()


@settings(suppress_health_check=ONE_FOLDER)
@given(st.data())
def test_a_damaged_index_is_forgotten(tmp_path: Path, data: st.DataObject) -> None:
    """It costs time only: no damage is an error."""
    storage = LocalFolder(str(tmp_path))
    storage.make_folder(OutputStage("k").results)
    Memory({"p": (1, 2)}, {"p": "d"}, BaseMemory("p", "d", "s", None, None)).write(storage, "k")
    (path,) = tmp_path.glob("cache/*/index.json")
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(data.draw(st.sampled_from([whole[:cut], whole[:cut] + b"[" + whole[cut:]])))
    assert isinstance(read_memory(storage, "k"), Memory)
    path.write_bytes(whole.replace(b'"format":', b'"format":9'))
    assert read_memory(storage, "k") == Memory()


def test_what_is_as_it_was_is_not_read(
    tmp_path: Path, an_hour_later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = kernel(tmp_path)
    first = learned(given)
    expected = {str(tmp_path / name): sha256(name) for name in ("a", "b", "vmlinux")}
    assert first.digests == expected
    base = BaseMemory(given.bases[0].path, sha256("vmlinux"), "vmlinux", None, None)
    memory = first.to_memory(base=base)

    def read(path: str) -> bytes:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(input_cache, "read_stored", read)
    again = learned(given, memory)
    assert again.digests == expected and again.base(given) == base


@pytest.mark.parametrize("how", ["size", "time", "inode", "gone"])
def test_what_changed_is_read(how: str, tmp_path: Path, an_hour_later: None) -> None:
    given = kernel(tmp_path)
    memory = learned(given).to_memory()
    path = tmp_path / "b"
    if how == "size":
        path.write_text("longer")
    elif how == "time":
        os.utime(path, ns=(0, 1))
    elif how == "inode":
        path.rename(tmp_path / "old")
        path.write_text("B")
    else:
        path.unlink()
    inputs = Inputs(given, memory, {})
    assert set(inputs.digests) == {str(tmp_path / name) for name in ("a", "vmlinux")}
    inputs.read_what_changed(given.modules)
    found = inputs.digests[str(path)]
    assert found.startswith("!unreadable: ") if how == "gone" else found == sha256(path.read_text())


def test_what_changed_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """It could change once more, and its times would not tell."""
    given = kernel(tmp_path)
    inputs = learned(given)
    memory = inputs.to_memory()
    assert memory.signatures == {} and len(memory.digests) == 3
    assert Inputs(given, memory, {}).digests == {}


def test_a_base_is_the_same_by_signature_or_by_name_and_content(
    tmp_path: Path, an_hour_later: None
) -> None:
    given = kernel(tmp_path)
    base = BaseMemory(given.bases[0].path, sha256("vmlinux"), "vmlinux", "6.1", None)
    memory = learned(given).to_memory(base=base)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/vmlinux").write_text("vmlinux")
    (tmp_path / "moved/vmlinux-2").write_text("vmlinux")

    def base_of(*names: str) -> BaseMemory | None:
        files = tuple(FileInput(str(tmp_path / name), name) for name in names)
        changed = replace(given, bases=files)
        return Inputs(changed, memory, {}).base(changed)

    moved = replace(base, path=str(tmp_path / "moved/vmlinux"), source="moved/vmlinux")
    assert base_of("vmlinux") == base and base_of("moved/vmlinux") == moved
    assert base_of("moved/vmlinux-2") is None, "another name may mean another release"
    assert base_of("new", "vmlinux") is None, "one that is tried before it may be the base now"
    (tmp_path / "vmlinux").write_text("VMLINUX")
    assert base_of("vmlinux") is None
    assert Inputs(given, Memory(), {}).base(given) is None


def test_every_part_of_a_kernel_s_inputs_counts(tmp_path: Path) -> None:
    given = kernel(tmp_path)
    base = BaseMemory("path", "sha", "source", "6.1", None)
    keys = {1: "one", 2: "two"}
    digests = [
        inputs_digest("context", given, base, keys),
        inputs_digest("other context", given, base, keys),
        inputs_digest("context", replace(given, name="other"), base, keys),
        inputs_digest("context", given, None, keys),
        inputs_digest("context", given, replace(base, sha256="other"), keys),
        inputs_digest("context", given, replace(base, encoder="pahole"), keys),
        inputs_digest("context", given, base, {**keys, 2: "!no_btf: why"}),
        inputs_digest("context", replace(given, modules=given.modules[:1]), base, keys),
    ]
    assert len(set(digests)) == len(digests)
    # Where the base lies does not count, nor the order in which results came.
    assert inputs_digest("context", given, replace(base, path="x"), {2: "two", 1: "one"}) in digests
