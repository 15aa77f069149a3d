"""Protects merge of vmlinux with split modules: one standalone BTF, the same graph of types, and
the bytes that standalone modules give; from files, folders, packages and what a run wrote."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btf
import pipeline.merge
from btf import merging
from btf.edit.fields import fields
from pipeline.model.records import FileInput
from pipeline.work.open import open_file
from support import handmade, marks, vectors
from support.btfwriter import Writer, assemble
from support.commands import splitbtf
from support.modes import reference
from support.oracles import naive_btf
from support.oracles.walker import walk
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo

DemoBtf = Callable[[str], bytes]


def checked(base: bytes, splits: list[bytes]) -> bytes:
    """Merge split BTF with its base, and follow every type of all of them into the result."""
    below = btf.parse(base)
    found = btf.merge([btf.parse(split, below) for split in splits], below, standalone=True)
    assert found.btf.base is None and len(found.id_maps) == len(splits)
    plain_base = naive_btf.parse(base)
    inputs = [(plain_base, found.id_maps[0][: below.type_end].tolist())]
    for split, id_map in zip(splits, found.id_maps, strict=True):
        inputs.append((naive_btf.parse(split, plain_base), id_map.tolist()))
    result: bytes = found.btf.to_bytes()
    walked = walk(inputs, naive_btf.parse(result), strict=False)
    assert walked.types == sum(len(source.types) for source, _ in inputs)
    return result


@pytest.mark.parametrize("name", [*marks.vector_names()[::8], "all-kinds-known-be", "seed-5"])
def test_the_graph_and_libbpf_s_bytes(name: str) -> None:
    """Ids and offsets of split BTF go on from its base's: both after each other are plain BTF, and
    the result is what libbpf makes of that."""
    case = vectors.build(name)
    base = btf.parse(case.base)
    split = btf.parse(case.split, base)
    order = "<" if base.byteorder == "little" else ">"
    types = base.type_section() + split.type_section()
    plain = assemble(types, base.string_section() + split.string_section(), order)
    found = btf.parse(checked(case.base, [case.split]))
    expected = reference("merge", [plain])
    assert found.words.astype("<u4").tobytes() == expected.types
    assert found.string_section() == expected.strings


def standalone(names: tuple[str, ...]) -> bytes:
    """A module with some of its own, and with types of the base."""
    writer = Writer()
    handmade.every_kind(writer)
    for name in names:
        writer.struct(name, 8, [("next", writer.next_id + 1, 0)])
        writer.ptr(writer.next_id - 1)
    return writer.to_bytes()


MODULES = {"one": standalone(("a", "b")), "two": standalone(("b", "c")), "three": standalone(())}


def kernel() -> tuple[bytes, dict[str, bytes]]:
    """vmlinux, and its modules as split BTF."""
    base = standalone(("v",))
    index = btf.BaseIndex.build(btf.parse(base))
    split = {n: btf.dedup_split(btf.parse(m), index).btf.to_bytes() for n, m in MODULES.items()}
    return base, split


def test_as_of_standalone_modules() -> None:
    base, split = kernel()
    expected = btf.merge([btf.parse(data) for data in (base, *MODULES.values())]).btf.to_bytes()
    assert checked(base, list(split.values())) == expected


@pytest.mark.slow
def test_as_of_standalone_modules_of_the_demo(demo_btf: DemoBtf) -> None:
    base = btf.parse(demo_btf("vmlinux"))
    index = btf.BaseIndex.build(base)
    modules = [btf.parse(demo_btf(name)) for name in ("xfs", "8255")]
    split = [btf.dedup_split(module, index).btf for module in modules]
    found = btf.merge(split, base, standalone=True).btf
    assert found.to_bytes() == btf.merge([base, *modules]).btf.to_bytes()


def shifted(types: btf.BTF, base: btf.BTF | None = None) -> btf.BTF:
    """The same with a string in front that nothing uses: all others lie further back."""
    words = types.words.copy()
    names, _ = fields(words, types.offsets[:-1], types.offsets[1:])
    words[names] += np.where(words[names] != 0, np.uint32(len(b"unused\0")), np.uint32(0))
    text = types.string_section()
    strings = np.frombuffer(text if base is not None else b"\0unused" + text, np.uint8)
    return btf.BTF(words, types.offsets, strings, base, types.byteorder)


@pytest.mark.parametrize("name", marks.vector_names()[::8])
def test_a_base_whose_strings_lie_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order in the result is that of use; each source is a batch."""
    monkeypatch.setattr(merging._Sum, "has_batch", lambda self: True)
    case = vectors.build(name)
    base = btf.parse(case.base)
    split = btf.parse(case.split, base)
    expected = btf.merge([split, split], base, standalone=True).btf.to_bytes()
    moved = shifted(base)
    found = btf.merge([shifted(split, moved)] * 2, moved, standalone=True).btf.to_bytes()
    assert found == expected


def test_without_a_base_nothing_changes() -> None:
    sources = [btf.parse(data) for data in MODULES.values()]
    found = btf.merge(sources, standalone=True).btf.to_bytes()
    assert found == btf.merge(sources).btf.to_bytes()


# ------------------------------------------------------------------------------- command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with vmlinux and three modules: split, in ELF, and standalone."""
    base, split = kernel()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "vmlinux.btf").write_bytes(base)
    (folder / "one.btf").write_bytes(split["one"])
    (folder / "two.ko").write_bytes(elf({".BTF": split["two"], ".modinfo": modinfo(name="two")}))
    (folder / "three.btf").write_bytes(MODULES["three"])
    return folder


def test_nothing_is_decompressed_twice(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs are gone through twice where there are several batches."""
    packed = tmp_path / "packed"
    packed.mkdir()
    for file in files.iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert splitbtf("merge", files, "-o", tmp_path / "all.btf").code == 0
    monkeypatch.setattr(merging._Sum, "has_batch", lambda self: True)
    opened: list[str] = []

    def count(file: FileInput, *rest: Any) -> btf.Module:
        opened.append(file.path)
        return open_file(file, *rest)

    monkeypatch.setattr(pipeline.merge, "open_file", count)
    assert splitbtf("merge", packed, "-o", tmp_path / "again.btf").code == 0
    assert len(opened) == len(set(opened)) == 4
    assert (tmp_path / "again.btf").read_bytes() == (tmp_path / "all.btf").read_bytes()


@pytest.mark.slow
def test_whatever_the_files_come_in(files: Path, tmp_path: Path) -> None:
    base = files / "vmlinux.btf"
    modules = [files / name for name in ("one.btf", "three.btf", "two.ko")]
    plain = [base.read_bytes(), *(MODULES[name] for name in ("one", "three", "two"))]
    expected = btf.merge([btf.parse(data) for data in plain]).btf.to_bytes()
    packed = tmp_path / "linux.deb"
    names = {f"lib/modules/1.0/{file.name}": file.read_bytes() for file in (base, *modules)}
    packed.write_bytes(debwriter.deb(names))
    assert splitbtf("run", files, "-o", tmp_path / "run", "--engine", "local").code == 0
    (written,) = (tmp_path / "run/btf").iterdir()
    out = tmp_path / "all.btf"
    for given in (
        [base, *modules], [*modules, base], [files], [packed], [written], [tmp_path / "run"],
    ):  # fmt: skip
        done = splitbtf("merge", *given, "-o", out)
        assert done.code == 0 and done.out.startswith("4 files merged"), done.err
        assert out.read_bytes() == expected
        out.unlink()


def test_debug_information_beside_a_module(files: Path, tmp_path: Path) -> None:
    """The file that has it is no module of its own."""
    assert splitbtf("merge", files, "-o", tmp_path / "all.btf").code == 0
    (files / "two.ko.debug").write_bytes(elf({".debug_info": b"x"}))
    done = splitbtf("merge", files, "-o", tmp_path / "again.btf")
    assert done.code == 0 and done.out.startswith("4 files merged"), done.err
    assert (tmp_path / "again.btf").read_bytes() == (tmp_path / "all.btf").read_bytes()


def test_a_base_of_any_name(files: Path, tmp_path: Path) -> None:
    (files / "vmlinux.btf").rename(files / "kernel.btf")
    given = [files / name for name in ("kernel.btf", "one.btf")]
    done = splitbtf("merge", *given, "-o", tmp_path / "all.btf")
    assert done.code == 0, done.err
    assert btf.parse((tmp_path / "all.btf").read_bytes()).base is None
    done = splitbtf("merge", *reversed(given), "-o", tmp_path / "no.btf")
    assert done.code == 2 and "one.btf: split BTF: name its base" in done.err


def test_a_base_that_is_named_twice(files: Path, tmp_path: Path) -> None:
    """With -B the output continues it, and what it has is no part of it: that is said."""
    base = files / "vmlinux.btf"
    done = splitbtf("merge", base, files / "one.btf", "-B", base, "-o", tmp_path / "split.btf")
    assert done.code == 0 and "vmlinux.btf is the base: what it has is not merged" in done.err
    split = btf.parse((tmp_path / "split.btf").read_bytes(), btf.parse(base.read_bytes()))
    assert split.to_bytes() == (files / "one.btf").read_bytes()


def test_several_kernels_are_refused(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "vmlinux-2.0.btf").write_bytes((files / "vmlinux.btf").read_bytes())
    (other / "vmlinux-3.0.btf").write_bytes((files / "vmlinux.btf").read_bytes())
    out = tmp_path / "all.btf"
    done = splitbtf("merge", other, "-o", out)
    assert done.code == 2 and "holds 2 kernels: " in done.err and "vmlinux-3.0.btf" in done.err
    done = splitbtf("merge", files, other / "vmlinux-2.0.btf", "-o", out)
    assert done.code == 2 and "split BTF continues one vmlinux, but these are" in done.err
    assert not out.exists()


def test_a_module_of_another_kernel(files: Path, tmp_path: Path) -> None:
    """Its split BTF does not fit, or it says so itself."""
    writer = Writer()
    writer.int("int", 4)
    (files / "vmlinux.btf").write_bytes(writer.to_bytes())
    done = splitbtf("merge", files, "-o", tmp_path / "all.btf")
    assert done.code == 2 and "another base" in done.err, done.err
