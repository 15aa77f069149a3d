"""Protects merge: libbpf's bytes for many inputs, where each type went, and the command."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import btf
from support import handmade, marks, vectors
from support.btfwriter import Writer
from support.commands import splitbtf
from support.modes import ROWS, reference
from support.oracles import naive_btf, oracle_libbpf
from support.paths import DEMO
from support.trees import SMALL, small_tree
from support.writers.elfwriter import elf

DemoBtf = Callable[[str], bytes]


@pytest.mark.parametrize("name", marks.vector_names())
def test_bytes_are_libbpf_s(name: str) -> None:
    case = vectors.build(name)
    files = case.inputs("merge")
    result = btf.merge([btf.parse(data) for data in files])
    expected = vectors.expected(ROWS[name], "merge")
    if not any(expected):
        by_naive = reference("merge", files)
        expected = vectors.section_facts(by_naive.types, by_naive.strings)
    # libbpf's empty BTF has the host's byte order, ours that of the inputs: compare the words.
    words = result.btf.words.astype("<u4").tobytes()
    assert vectors.section_facts(words, result.btf.string_section()) == expected
    assert result.btf.byteorder == btf.parse(files[0]).byteorder


@pytest.mark.parametrize("name", ["all-kinds-known", "all-kinds-new-be", "seed-3", "seed-16"])
def test_id_maps_say_where_each_type_went(name: str) -> None:
    case = vectors.build(name)
    files = case.inputs("merge")
    result = btf.merge([btf.parse(data) for data in files])
    whole = reference("merge", files).id_map
    first = 1
    for data, id_map in zip(files, result.id_maps, strict=True):
        count = btf.parse(data).type_count
        assert len(id_map) == count + 1 and id_map[0] == 0
        expected = [whole[first + own] for own in range(count)]
        assert id_map[1:].tolist() == expected
        first += count


@pytest.mark.parametrize("name", ["all-kinds-known", "all-kinds-known-be", "seed-2", "seed-5"])
def test_one_module_merged_onto_a_base_is_split_dedup(name: str) -> None:
    case = vectors.build(name)
    base = btf.parse(case.base)
    index = btf.BaseIndex.build(base)
    module = btf.parse(case.module)
    expected = btf.dedup_split(module, index)
    for given in (base, index):
        result = btf.merge([module], given)
        assert result.btf.to_bytes() == expected.btf.to_bytes()
        assert result.id_maps[0].tolist() == expected.id_map.tolist()


def test_split_and_standalone_onto_a_base() -> None:
    base_writer = Writer()
    handmade.every_kind(base_writer)
    base = btf.parse(base_writer.to_bytes())
    b = btf.Builder(base)
    b.add_struct("mine", 8, [("next", b.next_id + 1, 0)])
    b.add_ptr(b.next_id - 1)
    split = b.build()
    alone = btf.Builder()
    alone.add_struct("mine", 8, [("next", 2, 0)])
    alone.add_ptr(1)
    alone.add_int("int", 4, btf.Encoding.SIGNED)
    alone.add_typedef("another", 3)
    result = btf.merge([split, split, alone.build()], base)
    first = base.type_end
    typedef: Any = result.btf[first + 2]
    assert [t.name for t in result.btf.own_types()] == ["mine", "", "another"]
    assert result.btf.base is base and typedef.type == base.find("int")
    assert [m[-2:].tolist() for m in result.id_maps[:2]] == [[first, first + 1]] * 2
    assert result.id_maps[2].tolist() == [0, first, first + 1, base.find("int").id, first + 2]
    assert result.id_maps[0][:first].tolist() == list(range(first)), "the base keeps its ids"


def test_nothing_and_empty_inputs() -> None:
    assert btf.merge([]).btf.to_bytes() == Writer().to_bytes()
    empty = btf.Builder().build()
    one = btf.Builder()
    one.add_int("int", 4)
    result = btf.merge([empty, one.build(), empty])
    assert result.btf.type_count == 1 and [len(m) for m in result.id_maps] == [1, 2, 1]


def test_errors_name_the_input() -> None:
    circle = btf.Builder()
    circle.add_int("int", 4)
    circle.add_ptr(3)
    circle.add_const(2)
    sound = btf.Builder()
    sound.add_int("int", 4)
    sources = [sound.build(path="sound"), circle.build(path="circle")]
    with pytest.raises(btf.BtfError, match=r"circle, types section, offset 16, type \[2\]"):
        btf.merge(sources)
    split = btf.Builder(sources[0])
    split.add_ptr(1)
    with pytest.raises(btf.UnsupportedError, match="its own base"):
        btf.merge([split.build()])
    big = btf.Builder(byteorder="big").build()
    with pytest.raises(btf.UnsupportedError, match="big-endian"):
        btf.merge([sources[0], big])


@pytest.mark.slow
def test_the_demo_kernel_as_one_blob(demo_btf: DemoBtf, tmp_path: Path) -> None:
    """vmlinux and all modules, against the installed libbpf where there is one."""
    modules = sorted(path.name.removesuffix(".btf.zst") for path in (DEMO / "modules").iterdir())
    names = ["vmlinux", *modules]
    files = [demo_btf(name) for name in names]
    sources = [btf.parse(data, path=name) for name, data in zip(names, files, strict=True)]
    result = btf.merge(sources)
    assert result.btf.type_count == 127_028
    for source, id_map in zip(sources, result.id_maps, strict=True):
        for t in (source[1], source[source.type_end // 2], source[source.type_end - 1]):
            assert result.btf[int(id_map[t.id])].name == t.name
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("libbpf's headers or a compiler are not installed")
    theirs = oracle.run("merge", files)
    assert result.btf.type_section() == theirs.types
    assert result.btf.string_section() == theirs.strings


# ------------------------------------------------------------------------------- command


@pytest.mark.slow
def test_command(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.btf"
    done = splitbtf("merge", small, "-o", out)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"{len(SMALL) + 1} files merged into {out}"
    assert lines[1].startswith("  BTF ") and lines[2].startswith("  types ")
    files = [small / "vmlinux.btf.zst", *(small / f"{name}.btf.zst" for name in sorted(SMALL))]
    again = tmp_path / "again.btf"
    done = splitbtf("merge", *files, "-o", again, "--json")
    assert done.code == 0 and again.read_bytes() == out.read_bytes()
    facts = done.json
    assert set(facts) == {"files", "bytes_in", "bytes_out", "types_in", "types_out",
                          "read_seconds", "work_seconds", "output"}  # fmt: skip
    assert facts["files"] == len(files) and facts["output"] == str(again)
    assert facts["types_in"] > facts["types_out"] == btf.parse(out.read_bytes()).type_count
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_command_onto_a_base(tmp_path: Path, demo_btf: DemoBtf) -> None:
    small = small_tree(tmp_path / "small", whole=True)
    out, base = tmp_path / "modules.btf", small / "vmlinux.btf.zst"
    done = splitbtf("merge", small, "-B", base, "-o", out)
    assert done.code == 0 and done.out.startswith(f"{len(SMALL)} files merged"), done.err
    merged = btf.parse(out.read_bytes(), btf.parse(demo_btf("vmlinux")))
    sources = [btf.parse(demo_btf(name)) for name in sorted(SMALL)]
    assert merged.to_bytes() == btf.merge(sources, merged.base).btf.to_bytes()
    # And once more, now from split BTF and an ELF file.
    module = tmp_path / "module.ko"
    module.write_bytes(elf({".BTF": demo_btf(SMALL[0])}))
    done = splitbtf("merge", out, module, "-B", base, "-o", tmp_path / "again.btf")
    assert done.code == 0, done.err
    assert (tmp_path / "again.btf").read_bytes() == out.read_bytes()


@pytest.mark.slow
def test_command_says_what_is_wrong(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.btf"
    (small / "bad.btf").write_bytes(b"\x9f\xeb")
    done = splitbtf("merge", small, "-o", out)
    assert done.code == 2 and "bad.btf, header: " in done.err and not out.exists()
    (small / "bad.btf").unlink()
    split = tmp_path / "split.btf"
    assert splitbtf("merge", small, "-B", small / "vmlinux.btf.zst", "-o", split).code == 0
    done = splitbtf("merge", split, "-o", out)
    assert done.code == 2 and "name its base, usually vmlinux, with -B" in done.err
    done = splitbtf("merge", tmp_path / "none.btf", "-o", out)
    assert done.code == 2 and "no such file" in done.err
    empty = tmp_path / "empty"
    empty.mkdir()
    done = splitbtf("merge", empty, "-o", out)
    assert done.code == 2 and "no BTF in the folders" in done.err
    done = splitbtf("merge", small, "-o", tmp_path / "no" / "where.btf")
    assert done.code == 2 and "cannot write" in done.err


@pytest.mark.slow
def test_bpftool_reads_the_result(small: Path, tmp_path: Path) -> None:
    import shutil

    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin")
    if bpftool is None:
        pytest.skip("bpftool is not installed")
    out = tmp_path / "all.btf"
    assert splitbtf("merge", small, "-o", out).code == 0
    command = [bpftool, "-j", "btf", "dump", "file", str(out)]
    types = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    assert len(types) == btf.parse(out.read_bytes()).type_count


def test_inputs_stay_as_they_were() -> None:
    case = vectors.build("seed-3")
    sources = [btf.parse(case.base), btf.parse(case.module)]
    btf.merge(sources)
    assert [s.to_bytes()[struct.calcsize("<HBBI4I"):] for s in sources] == [
        data[24:] for data in (case.base, case.module)
    ]  # fmt: skip
    assert naive_btf.parse(sources[0].to_bytes()).types
