"""Protects: what is in the way of one kernel in the output fails that kernel, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.files.storage import LocalFolder
from pipeline.store.output import OutputFolder, read_manifests
from support.commands import splitbtf
from support.ends.disturbing import ENGINES, LOCAL
from support.runs import run_on, small_kernel
from support.trees import results_of

IN_THE_WAY = (
    ".staging/kernel=one",
    "cache/kernel=one",
    "tables/types/kernel=one",
    "tables/runs/kernel=one",
    "versions/kernel=one",
    "btf/kernel=one",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    small_kernel(folder / "one")
    small_kernel(folder / "two")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "path"),
    [
        *(("local, 1 worker", path) for path in IN_THE_WAY),
        pytest.param("ray", "tables/types/kernel=one", marks=pytest.mark.long),
    ],
)
def test_what_is_in_the_way_of_one_kernel(
    engine: str, path: str, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    in_the_way = out / path
    in_the_way.parent.mkdir(parents=True)
    if path.startswith("btf/"):  # of which splitbtf makes a link
        in_the_way.mkdir()
        (in_the_way / "precious").write_text("of somebody else")
    else:
        in_the_way.write_text("of somebody else")
    done = splitbtf("run", source, "-o", out, *ENGINES[engine])
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "kernel one: nothing could be made of it" in done.err and path in done.err
    assert [manifest.kernel for manifest in read_manifests(out)] == ["two"]
    if in_the_way.is_dir():
        assert (in_the_way / "precious").read_text() == "of somebody else"
        (in_the_way / "precious").unlink()
        in_the_way.rmdir()
    else:
        assert in_the_way.read_text() == "of somebody else"
        in_the_way.unlink()
    assert splitbtf("run", source, "-o", out, *LOCAL).code == 0
    assert results_of(out) == undisturbed


@pytest.mark.slow
def test_what_is_in_the_way_of_all(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "versions").touch()
    done = splitbtf("run", source, "-o", out, *LOCAL)
    assert done.code == 2 and done.err.count(f"{out}/versions") == 2, done.err


@pytest.mark.slow
def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run_on(small_kernel(tmp_path / "one"), tmp_path / "out")
    (old := out / "versions/kernel=one/old").mkdir()
    (more := out / "cache/kernel=one/more.results").touch()
    folder = OutputFolder(out)

    def delete_folder(storage: LocalFolder, path: str) -> None:
        raise PermissionError(13, "Permission denied", f"{storage.local}/{path}")

    with monkeypatch.context() as patched:
        patched.setattr(LocalFolder, "delete_folder", delete_folder)
        told = folder.collect_garbage({"one": ()})
    assert told == [f"cannot write {old}: Permission denied"] and old.is_dir()
    assert not more.exists(), "the rest is not removed either"
    assert folder.collect_garbage({"one": ()}) == [] and not old.exists()
    folder.close()
