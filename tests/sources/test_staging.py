"""Protects: only what is needed is unpacked, as soon as it can be, and only that is removed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.model.errors import NoRoomError
from pipeline.model.options import ENCODE_ALL, ENCODE_MISSING, ENCODE_NONE
from pipeline.sources import packages
from pipeline.sources import unpack as staging
from pipeline.sources.archive import PackagedFile
from pipeline.sources.unpack import PackageUnpacker
from support.commands import PATIENCE
from support.packages import kernels
from support.trees import files_below
from support.writers import debwriter
from support.writers.elfwriter import elf

IMAGE = {
    "boot/vmlinuz-1.0": b"image",
    "lib/modules/1.0/has.ko": elf({".BTF": b"btf"}),
    "lib/modules/1.0/lacks.ko": elf({".text": b"code"}),
    "lib/modules/1.0/modules.dep": b"not needed",
}
DEBUG = {
    f"usr/lib/debug/{name}": b"with dwarf"
    for name in ("boot/vmlinux-1.0", "lib/modules/1.0/has.ko", "lib/modules/1.0/lacks.ko")
}


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/image.deb").write_bytes(debwriter.deb(IMAGE))
    (tmp_path / "in/dbg.deb").write_bytes(debwriter.deb(DEBUG))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("encode", "debug"),
    [(ENCODE_MISSING, {"lacks"}), (ENCODE_ALL, {"has", "lacks"}), (ENCODE_NONE, set())],
)
def test_what_is_needed(encode: str, debug: set[str], given: Path, tmp_path: Path) -> None:
    (kernel,) = kernels(given)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("of years")
    stage = PackageUnpacker(str(mine), encode)
    stage.prepare(kernel)
    assert Path(stage.base(kernel, kernel.bases[0]).content_path).read_bytes() == b"image"
    modules = {module.name: module for module in stage.modules(kernel).modules}
    for name, module in modules.items():
        assert Path(module.content_path).read_bytes() == IMAGE[f"lib/modules/1.0/{name}.ko"]
        assert module.file_bytes == len(IMAGE[f"lib/modules/1.0/{name}.ko"])
    assert {name for name, module in modules.items() if module.debug is not None} == debug
    assert len(files_below(mine)) == 1 + 3 + len(debug)
    # A base that was not the first choice is taken out when it is asked for.
    other = stage.base(kernel, kernel.bases[1])
    assert Path(other.content_path).read_bytes() == b"with dwarf"
    stage.drop(kernel)
    assert files_below(mine) == {"thesis.txt": b"of years"}
    stage.close()
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"], "and nothing else is touched"


def test_the_base_is_there_before_the_rest(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel,) = kernels(given / "image.deb")
    seen, go_on = threading.Event(), threading.Event()
    real = packages._unpack_one

    def slowly(found: PackagedFile, target: str) -> str | None:
        if seen.is_set():
            assert go_on.wait(PATIENCE)
        seen.set()
        return real(found, target)

    monkeypatch.setattr(packages, "_unpack_one", slowly)
    stage = PackageUnpacker(str(tmp_path / "work"))
    stage.prepare(kernel)
    assert Path(stage.base(kernel, kernel.bases[0]).content_path).read_bytes() == b"image"
    go_on.set()
    assert all(module.problem is None for module in stage.modules(kernel).modules)
    stage.close()


def test_what_goes_wrong_reaches_whoever_waits(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel,) = kernels(given / "image.deb")
    monkeypatch.setattr(packages, "SPARE_BYTES", 1 << 60)
    stage = PackageUnpacker(str(tmp_path / "work"))
    stage.prepare(kernel)
    with pytest.raises(NoRoomError, match="--work-folder"):
        stage.base(kernel, kernel.bases[0])
    with pytest.raises(NoRoomError, match="--work-folder"):
        stage.modules(kernel)
    stage.close()
    blocked = PackageUnpacker("/proc/nowhere")
    blocked.prepare(kernel)
    with pytest.raises(NoRoomError, match="cannot write /proc/nowhere"):
        blocked.modules(kernel)
    blocked.close()


def test_what_is_not_packaged_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    for name in ("vmlinux", "a.ko"):
        (tmp_path / "k" / name).write_bytes(b"x")
    (kernel,) = kernels(tmp_path / "k")
    stage = staging.PackageUnpacker(str(tmp_path / "work"))
    stage.prepare(kernel)
    assert stage.modules(kernel) == kernel and stage.base(kernel, kernel.bases[0]).unpacked is None
    stage.drop(kernel)
    stage.close()
    assert not (tmp_path / "work").exists()
