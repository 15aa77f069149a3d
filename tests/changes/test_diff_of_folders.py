"""Protects ``splitbtf diff`` of folders and packages: whole kernels without an output folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.analysis.changes.blocks import Block
from pipeline.analysis.changes.rows import MEMBER_COLUMNS, Rows
from support import btfwriter as bw
from support.commands import splitbtf
from support.kernels import INT, LONG, Make, kernel
from support.runs import run_on
from support.writers.debwriter import deb

pytestmark = pytest.mark.slow


def base(size: int) -> Make:
    def types(w: bw.Writer) -> None:
        w.struct("shared", size, [("a", INT, 0)])
        w.func("in_vmlinux", w.func_proto(0, [("x", w.next_id - 1)]))

    return types


def module(prototype: int) -> Make:
    def types(w: bw.Writer) -> None:
        w.struct("own", 16, [("a", INT, 0), ("b", prototype, 64)])
        w.func("probe", w.func_proto(0, [("x", prototype)]))

    return types


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    old = kernel(tmp_path / "old", {"snd-one": module(INT), "gone": module(INT)}, base(4))
    new = kernel(tmp_path / "new", {"snd_one": module(LONG), "fresh": module(INT)}, base(8))
    return old, new


def facts_of(*arguments: object) -> tuple[Any, Any]:
    facts = splitbtf("diff", *arguments, "--json").json
    return facts["objects"], facts["changes"]


def packed(folder: Path) -> Path:
    target = folder.with_suffix(".tar.gz")
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder, folder.name)
    return target


def without_a_name(folder: Path) -> Path:
    """A package that only its content tells."""
    target = folder.with_suffix(".bin")
    target.write_bytes(deb({f"{folder.name}/{p.name}": p.read_bytes() for p in folder.iterdir()}))
    return target


def copied(folder: Path) -> Path:
    """An output folder of that kernel."""
    return run_on(folder, folder.with_name(f"out-{folder.name}"))


def manifest(folder: Path) -> Path:
    target = folder.with_suffix(".toml")
    target.write_text(f'format = 1\nname = "{folder.name}"\n[[file]]\npath = "{folder.name}"\n')
    return target


def test_the_same_as_of_their_output_folder(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    old, new = folders
    for folder in folders:
        run_on(folder, tmp_path / "out")
    expected = facts_of("--in", tmp_path / "out", "old", "new")
    assert [one["object"] for one in expected[0]] == ["vmlinux", "fresh", "gone", "snd_one"]
    assert {"own", "probe", "shared"} <= {change["name"] for change in expected[1]}
    for form in (packed, copied, manifest, without_a_name):
        assert facts_of(form(old), new) == expected, form
    assert facts_of(packed(old), manifest(new)) == facts_of(old, new) == expected
    assert facts_of(old, new, "--module", "snd*") == tuple(
        [one for one in part if one["object"] == "snd_one"] for part in expected
    )


def test_modules_on_bases_that_are_named(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    expected = facts_of(*folders)
    bases = []
    for folder in folders:
        bases.append(shutil.move(folder / "vmlinux.btf", tmp_path / f"vmlinux-{folder.name}.btf"))
    done = splitbtf("diff", *folders)
    assert done.code == 2 and "no vmlinux of these modules" in done.err and "--base" in done.err
    assert facts_of(*folders, "-B", bases[0], "-B", bases[1]) == expected


def test_standalone_modules_with_bases_are_deduplicated(folders: tuple[Path, Path]) -> None:
    old, new = folders
    files = old / "snd-one.btf", new / "snd_one.btf"
    names = {change["name"] for change in facts_of(*files)[1]}
    assert names == {"own", "probe"}
    objects, changes = facts_of(*files, "-B", old / "vmlinux.btf", "-B", new / "vmlinux.btf")
    expected = [[one for one in part if one["object"] == "snd_one"] for part in facts_of(old, new)]
    assert [objects, changes] == expected


def test_a_file_is_compared_with_its_object_of_a_kernel(folders: tuple[Path, Path]) -> None:
    old, new = folders
    objects, changes = facts_of(old / "vmlinux.btf", new)
    assert [one["object"] for one in objects] == ["vmlinux"]
    assert {change["name"] for change in changes} == {"shared", "in_vmlinux"}
    objects, _ = facts_of(old, new / "snd_one.btf", "-B", old / "vmlinux.btf")
    assert [(one["object"], one["status"]) for one in objects] == [("snd-one", "both")]
    one_base = facts_of(
        old / "snd-one.btf", new, "-B", old / "vmlinux.btf"
    )  # the kernel has its own
    both = facts_of(old, new, "--module", "snd*")
    assert one_base == both
    objects, _ = facts_of(old / "gone.btf", new, "-B", old / "vmlinux.btf")
    assert [(one["object"], one["status"]) for one in objects] == [("gone", "removed")]


@pytest.mark.parametrize("stored", [False, True])
def test_what_cannot_be_read_is_told_and_not_compared(
    tmp_path: Path, folders: tuple[Path, Path], stored: bool
) -> None:
    """Its names are not taken for removed."""
    (folders[1] / "snd_one.btf").write_bytes(b"no BTF")
    arguments: list[object] = [*folders]
    if stored:
        for folder in folders:
            run_on(folder, tmp_path / "out")
        arguments = ["--in", tmp_path / "out", "old", "new"]
    done = splitbtf("diff", *arguments, "--json")
    assert done.code == 1
    assert "snd_one of" in done.err and "cannot be compared" in done.err
    assert [one["object"] for one in done.json["objects"]] == ["vmlinux", "fresh", "gone"]
    assert "snd_one" not in {change["object"].replace("-", "_") for change in done.json["changes"]}
    (unread,) = done.json["unread"]
    assert unread["object"] == "snd_one" and unread["in"] == done.json["new"] and unread["error"]
    done = splitbtf("diff", *arguments, "--module", "vmlinux")
    assert done.code == 0 and not done.err.count("snd_one")


def test_one_kernel_a_side(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    old, new = folders
    done = splitbtf("diff", tmp_path, new)
    assert done.code == 2 and "2 kernels, new, old" in done.err and "--in" in done.err
    for folder in folders:
        run_on(folder, tmp_path / "out")
    done = splitbtf("diff", tmp_path / "out", old)
    assert done.code == 2 and f"--in {tmp_path / 'out'} OLD NEW" in done.err
    assert splitbtf("diff", tmp_path / "nowhere", old).code == 2


def test_members_of_a_type_that_are_stored_in_two_pieces() -> None:
    """Where the members of a struct begin in one row group of Parquet and end in the next."""

    def members(*ids: int) -> pa.Table:
        rows = [
            dict.fromkeys(MEMBER_COLUMNS, 0) | {"global_id": i, "name": f"m{at}", "type": "int"}
            for at, i in enumerate(ids)
        ]
        return pa.Table.from_pylist(rows)

    pieces = [members(1, 2, 2), members(2, 2), members(2, 3)]
    blocks = []
    for piece in pieces:
        ids = piece["global_id"].to_pylist()
        blocks.append(Block(ids[0], ids[-1], piece.select))
    rows = Rows([], blocks)
    found = rows.members([1, 2, 3])
    assert [member.name for member in found[2]] == ["m1", "m2", "m0", "m1", "m0"]
    assert [len(found[i]) for i in (1, 3)] == [1, 1]
