"""Protects: what was committed and is damaged afterwards is found, named, and mended by a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from pipeline.store.check import CHANGED, EXTRA, MISSING, Checked, check_output
from support.runs import rows, run_on, small_kernel
from support.trees import files_below, results_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    small_kernel(folder / "k")
    return run_on(folder / "k", folder / "out").parent


@pytest.fixture
def out(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / "out"


def run(out: Path) -> int:
    return main(["run", str(out.parent / "k"), "-o", str(out), "--engine", "local"])


def faults(checked: Checked) -> list[tuple[str, str]]:
    return [(fault.path, fault.fault) for fault in checked.faults]


def test_all_as_written(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = check_output(str(out))
    files = files_below(out)
    looked_at = [name for name in files if name.startswith(("manifests/", "tables/", "versions/"))]
    assert (checked.kernels, checked.files) == (1, len(looked_at)) and checked.faults == ()
    assert checked.bytes == sum(len(files[n]) for n in looked_at if not n.startswith("manifests/"))
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().out.endswith(": all as written\n")


def one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = (one_byte, cut_off, emptied, Path.unlink)
PATTERNS = (
    "versions/*/*/one.btf", "versions/*/*/vmlinux.btf", "tables/modules/*/*", "tables/types/*/*",
    "tables/duplicates/*/*", "tables/runs/*/*",
)  # fmt: skip


def damages() -> Iterator[Any]:
    """Every damage of every file; all of one file and one of all others, but for test-long."""
    for number, pattern in enumerate(PATTERNS):
        for at, damage in enumerate(DAMAGES):
            alike = number and number % len(DAMAGES) != at
            yield pytest.param(pattern, damage, marks=pytest.mark.long if alike else ())


@pytest.mark.parametrize(("pattern", "damage"), list(damages()))
def test_damage(
    pattern: str, damage: Callable[[Path], None], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = results_of(out)
    path = min(out.glob(pattern))
    name = str(path.relative_to(out))
    damage(path)
    assert main(["verify", str(out), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    fault = MISSING if damage is Path.unlink else CHANGED
    assert (name, fault) in [(each["path"], each["fault"]) for each in found["faults"]]
    assert run(out) == 0
    assert f"  mended: {name}" in capsys.readouterr().out
    assert results_of(out) == expected
    assert check_output(str(out)).faults == ()
    history = len(rows(out, "runs"))
    assert history == (1 if "runs" in pattern else 2), "what was damaged is not to be had again"
    assert run(out) == 0
    assert "mended" not in capsys.readouterr().out and len(rows(out, "runs")) == history + 1


def test_what_belongs_to_nothing(out: Path) -> None:
    version = min(out.glob("versions/*/*"))
    extra = [
        "tables/types/kernel=k/part-0123456789abcdef.parquet",
        f"{version.relative_to(out)}/four.btf",
        "versions/kernel=k/0123456789abcdef/one.btf",
        "manifests/k.json.7.tmp",
    ]
    for name in extra:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"")
    (out / "versions/kernel=unfinished").mkdir()
    (out / "versions/kernel=unfinished/x").write_bytes(b"")  # a run may be at work on it
    found = faults(check_output(str(out)))
    assert {path for path, fault in found if fault == EXTRA} == set(extra)
    assert run(out) == 0
    assert faults(check_output(str(out))) == []
    assert not any((out / name).exists() for name in extra)


def test_one_manifest_does_not_hide_the_others(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "manifests" / "a.json").write_text("{")
    path = min(out.glob("versions/*/*/one.btf"))
    one_byte(path)
    assert main(["verify", str(out)]) == 1
    said = capsys.readouterr().out
    assert "manifests/a.json: changed: cannot read" in said and f"{path.name}: changed" in said


def test_the_base_goes(out: Path) -> None:
    """Without its versions a kernel is done again, also when something else has changed."""
    expected = results_of(out)
    for path in out.glob("versions/*/*/*"):
        path.unlink()
    for path in (*out.glob("versions/*/*"), *out.glob("versions/*"), out / "versions"):
        path.rmdir()
    content = (out.parent / "k" / "one.btf").read_bytes()
    (out.parent / "k" / "four.btf").write_bytes(content)
    assert run(out) == 0
    (out.parent / "k" / "four.btf").unlink()
    assert run(out) == 0
    assert results_of(out) == expected and check_output(str(out)).faults == ()


def test_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "no kernel there" in capsys.readouterr().err
