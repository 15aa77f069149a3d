"""Protects: an input that was made to do harm is a row that says what is wrong with it; it costs
the modules and the kernels beside it nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import btf
from pipeline.store.output import read_table
from support import btfwriter as bw
from support.commands import splitbtf
from support.runs import run_on
from support.trees import files_below, small_tree


def many_of_one_name(count: int = 300, length: int = 60_000) -> bytes:
    """Structs that share one long name: written out, their names are 260 times the file."""
    w = bw.Writer()
    for size in range(count):
        w.struct("a" * length, size, [])
    return w.to_bytes()


def of_unknown_kind() -> bytes:
    """BTF with a type of kind 20, which only the layout section describes."""
    w = bw.Writer()
    w.int("int", 4)
    w.raw(0, 20 << 24, 0)
    return w.to_bytes(32, layout=[*bw.full_layout(), (0, 8, 0)])


def test_names_that_are_more_than_the_file_are_refused() -> None:
    types = btf.parse(many_of_one_name())
    with pytest.raises(btf.BtfError, match=r"its names, each written out, have more than \d+ byt"):
        btf.check_name_bytes(types)
    small = btf.parse(many_of_one_name(3))
    btf.check_name_bytes(small)
    assert [len(name) for name in np.split(*texts_of(small))] == [60_000] * 3


@pytest.mark.parametrize("command", ["dump", "show", "diff"])
def test_no_command_writes_them_out(command: str, tmp_path: Path) -> None:
    file = tmp_path / "many.btf"
    file.write_bytes(many_of_one_name())
    name, other = ["a" * 60_000] if command == "show" else [], [file] if command == "diff" else []
    done = splitbtf(command, *name, file, *other)
    assert (done.code, done.out) == (2, ""), done.err
    assert "types section: its names, each written out, have more than" in done.err


def texts_of(types: btf.BTF) -> tuple[np.ndarray, np.ndarray]:
    offsets, data = btf.type_names(types)
    assert offsets.dtype == np.int32 and offsets[0] == 0 and offsets[-1] == len(data)
    return data, offsets[1:-1]


@pytest.mark.parametrize("offset", [0xFFFFFFF0, 60_004])
def test_offsets_beyond_the_strings_are_refused(offset: int) -> None:
    types = btf.parse(many_of_one_name(1))
    assert types.str_end <= offset
    with pytest.raises(btf.BtfError, match=f"string offset {offset} is beyond {types.str_end}"):
        btf.texts(types, np.array([0, offset], np.uint32))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a kernel without it."""
    folder = tmp_path_factory.mktemp("alone")
    out = run_on(small_tree(folder / "good"), folder / "out")
    return files_below(out / "btf" / "kernel=good")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [many_of_one_name, of_unknown_kind])
def test_as_a_module_and_as_a_base(
    hostile: Callable[[], bytes], expected: dict[str, bytes], tmp_path: Path
) -> None:
    """In both roles the others give the very files that they give without it."""
    for name in ("bad", "good", "worse"):
        small_tree(tmp_path / "all" / name)
    (tmp_path / "all" / "good" / "hostile.btf").write_bytes(hostile())
    for base in (tmp_path / "all" / "bad").glob("vmlinux*"):
        base.unlink()
    (tmp_path / "all" / "bad" / "vmlinux.btf").write_bytes(hostile())
    done = splitbtf("run", tmp_path / "all", "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "Traceback" not in done.err
    for kernel in ("good", "worse"):
        assert files_below(tmp_path / "out" / "btf" / f"kernel={kernel}") == expected
    rows = read_table(tmp_path / "out", "modules").to_pylist()
    failed = {(row["kernel"], row["module"]): row["error_kind"] for row in rows if row["error"]}
    assert all((row["status"] == "failed") == bool(row["error"]) for row in rows)
    assert all((row["bytes_out"] is None) == bool(row["error"]) for row in rows)
    modules = {row["module"] for row in rows if row["kernel"] == "worse"}
    assert failed == {("good", "hostile"): "bad_btf", **{("bad", m): "no_base" for m in modules}}
