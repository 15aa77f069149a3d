"""Protects: the files that ``splitbtf layers`` writes hold the same types as the star, each once.

Files are read by naive.py and told apart by naive_classes.py, which know nothing of ours; libbpf
and bpftool read them too, where installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btf
from btf.layers.chains import chain
from btf.layers.shared import share
from support import btfwriter as bw
from support import vectors
from support.commands import splitbtf
from support.oracles import naive_btf, naive_classes, oracle_libbpf
from support.paths import DEMO
from support.runs import run_on
from support.trees import files_below
from support.writers.elfwriter import elf, modinfo

pytestmark = pytest.mark.slow

STAYING = (naive_btf.FUNC, naive_btf.VAR, naive_btf.DATASEC, naive_btf.DECL_TAG)


def reread(layer: btf.BTF, known: dict[int, naive_btf.Btf]) -> naive_btf.Btf:
    """A BTF and its bases by way of their bytes, read by naive.py; bases are read once."""
    if id(layer) not in known:
        base = reread(layer.base, known) if layer.base is not None else None
        known[id(layer)] = naive_btf.parse(layer.to_bytes(), base)
    return known[id(layer)]


def assert_same_graph(star: naive_btf.Btf, moved: naive_btf.Btf, new_ids: Sequence[int]) -> None:
    """Every record is the one that stands at its new id, with references followed to new ids.

    So no walk tells a type from what it has become. The base's types keep their ids.
    """
    below = star.start_id
    there = moved.all_types()
    assert len(new_ids) == len(star.types)
    for words, new_id in zip(star.types, new_ids, strict=True):
        found = there[new_id]
        ids, strings = set(naive_btf.id_words(words)), set(naive_btf.string_words(words))
        assert len(found) == len(words)
        for at, (old, new) in enumerate(zip(words, found, strict=True)):
            if at in ids:
                assert new == (old if old < below else new_ids[old - below])
            elif at in strings:
                assert moved.text(new) == star.text(old)
            else:
                assert new == old


def assert_all_same(
    star: Sequence[btf.BTF], moved: Sequence[btf.BTF], ids: Sequence[Any]
) -> dict[int, naive_btf.Btf]:
    """All modules are the same graph; returns what ``reread`` knows."""
    known: dict[int, naive_btf.Btf] = {}
    for old, new, new_ids in zip(star, moved, ids, strict=True):
        assert_same_graph(reread(old, known), reread(new, known), new_ids.tolist())
        own = [i for i in new_ids.tolist() if i >= new.start_id]
        assert own == list(range(new.start_id, new.type_end)), "kept types keep their order"
    return known


def assert_strings_once(layer: btf.BTF, known: dict[int, naive_btf.Btf]) -> None:
    """Own strings are all used, and none is there already."""
    own = layer.string_section().split(b"\0")[:-1]
    seen = Counter(own)
    for level in layer.levels[:-1]:
        seen.update(set(own).intersection(level.string_section().split(b"\0")))
    assert all(seen[text] == 1 for text in own)
    parsed = reread(layer, known)
    used = {words[at] for words in parsed.types for at in naive_btf.string_words(words)}
    assert {parsed.text(at) for at in used if at >= parsed.start_str} == set(own)


@pytest.fixture(scope="module")
def demo_star(demo_btf: Callable[[str], bytes]) -> list[btf.BTF]:
    """Some of the demo's modules that have much in common, as split BTF."""
    index = btf.BaseIndex.build(btf.load_base(demo_btf("vmlinux")))
    names = ("comedi", "comedi_8255", "8255", "cb_pcidda", "hid", "hid-elecom", "hid-steam",
             "ip_set", "ip6_tables", "ip6t_rt", "dm-mirror", "comedi_pci")  # fmt: skip
    opened = (btf.open_module(demo_btf(name), index) for name in names)
    return [btf.dedup_module(module, index).btf for module in opened]


def test_demo_types_are_the_same(demo_star: list[btf.BTF]) -> None:
    layers = share(demo_star)
    assert layers.shared.type_count > 50
    known = assert_all_same(demo_star, layers.modules, layers.new_ids)
    for layer in (layers.shared, *layers.modules):
        assert_strings_once(layer, known)
    before = sum(len(module.to_bytes()) for module in demo_star)
    after = sum(len(module.to_bytes()) for module in [layers.shared, *layers.modules])
    assert after < before


def test_demo_fingerprints_are_the_same(demo_star: list[btf.BTF]) -> None:
    """The fingerprints that the tables hold are those of the types where they are now."""
    base = demo_star[0].base
    assert base is not None
    on_base = btf.BaseFingerprints.build(base)
    layers = share(demo_star)
    on_shared = btf.BaseFingerprints.build(layers.shared)
    for old, new, ids in zip(demo_star, layers.modules, layers.new_ids, strict=True):
        all_new = np.concatenate([on_shared.values, btf.fingerprints(new, on_shared)])
        assert np.array_equal(btf.fingerprints(old, on_base), all_new[ids])


def test_demo_chains(demo_star: list[btf.BTF]) -> None:
    depends = [[], [0], [1, 0], [11, 0], [], [4], [4], [], [], [8], [], [0]]
    chains = chain(demo_star, depends)
    known = assert_all_same(demo_star, chains.modules, chains.new_ids)
    for number, (module, parent) in enumerate(zip(chains.modules, chains.parents, strict=True)):
        assert parent is None or parent in depends[number]
        expected = demo_star[0].base if parent is None else chains.modules[parent]
        assert module.base is expected
        assert_strings_once(module, known)
    assert sum(parent is not None for parent in chains.parents) > 3


def split_seeds(first: int) -> list[btf.BTF]:
    """Split BTF of generated modules on one base, one of them twice."""
    order = vectors.knobs_of(first).order
    seeds = [seed for seed in range(first, first + 6) if vectors.knobs_of(seed).order == order]
    index = btf.BaseIndex.build(btf.load_base(vectors.generate(first).base))
    opened = [btf.open_module(vectors.generate(s).module, index) for s in [*seeds, first]]
    return [btf.dedup_module(module, index).btf for module in opened]


def expected_shared(
    star: dict[str, naive_btf.Btf], classes: dict[Any, int], at_least: int
) -> set[int]:
    """Classes that a shared layer has to hold, worked out type by type."""
    holders: dict[int, set[str]] = {}
    leads_to: dict[int, set[int]] = {}
    kinds: dict[int, int] = {}
    for (name, type_id), number in classes.items():
        words = star[name].types[type_id - star[name].start_id]
        holders.setdefault(number, set()).add(name)
        kinds[number] = naive_btf.kind_of(words)
        targets = {words[at] for at in naive_btf.id_words(words)}
        own = {classes[name, target] for target in targets if target >= star[name].start_id}
        leads_to.setdefault(number, set()).update(own)
    shared = {n for n in holders if len(holders[n]) >= at_least and kinds[n] not in STAYING}
    while any(leads_to[number] - shared for number in shared):
        shared = {number for number in shared if not leads_to[number] - shared}
    return shared


@pytest.mark.parametrize("at_least", [2, 3])
@pytest.mark.parametrize("first", range(0, 24, 6))
def test_generated(first: int, at_least: int) -> None:
    modules = split_seeds(first)
    layers = share(modules, min_modules=at_least)
    assert_all_same(modules, layers.modules, layers.new_ids)

    known: dict[int, naive_btf.Btf] = {}
    star = {f"star{i}": reread(module, known) for i, module in enumerate(modules)}
    moved = {f"moved{i}": reread(module, known) for i, module in enumerate(layers.modules)}
    shared = {"shared": reread(layers.shared, known)}
    classes = naive_classes.classes({**star, **moved, **shared}, base_by_id=True)
    in_star = {place: number for place, number in classes.items() if place[0] in star}
    held = [number for place, number in classes.items() if place[0] == "shared"]
    assert len(held) == len(set(held)), "each once"
    assert set(held) == expected_shared(star, in_star, at_least)
    for i in range(len(modules)):
        before = {number for place, number in classes.items() if place[0] == f"star{i}"}
        after = {number for place, number in classes.items() if place[0] == f"moved{i}"}
        assert after == before - set(held)


def test_generated_chains() -> None:
    for first in (0, 6, 12):
        modules = split_seeds(first)
        last = len(modules) - 1
        chains = chain(modules, [[last, 1], *([] for _ in modules[1:])])
        assert_all_same(modules, chains.modules, chains.new_ids)
        assert chains.parents[0] == last, "the same module once more has all its types"
        own = chains.modules[0].own_kinds
        assert set(own.tolist()) <= set(STAYING), "so only what belongs to the module stays"


def star_of(*writers: bw.Writer, base: bw.Writer) -> list[btf.BTF]:
    parsed = btf.parse(base.to_bytes())
    return [btf.parse(writer.to_bytes(), parsed) for writer in writers]


def small_base() -> tuple[bw.Writer, Any]:
    base = bw.Writer()
    return base, base.int("int", 4)


def test_what_belongs_to_a_module_stays() -> None:
    """A tag would otherwise tag a struct for the module that has it without."""
    base, integer = small_base()
    writers = []
    for tagged in (True, True, False):
        w = bw.Writer(base=base)
        driver = w.struct("driver", 4, [("a", integer, 0)])
        if tagged:
            w.decl_tag("important", driver)
        w.datasec(".data", 4, [(w.var("counter", integer), 0, 4)])
        w.func("start", w.func_proto(0, [("d", w.ptr(driver))]))
        writers.append(w)
    star = star_of(*writers, base=base)
    layers = share(star)
    assert sorted(btf.KIND_NAMES[kind] for kind in layers.shared.own_kinds) == [
        "FUNC_PROTO", "PTR", "STRUCT"
    ]  # fmt: skip
    assert [module.type_count for module in layers.modules] == [4, 4, 3]
    assert_all_same(star, layers.modules, layers.new_ids)


def test_nothing_to_share() -> None:
    base, integer = small_base()
    writers = []
    for name in ("one", "two"):
        w = bw.Writer(base=base)
        w.struct(name, 4, [("a", integer, 0)])
        writers.append(w)
    star = star_of(*writers, base=base)
    layers = share(star)
    assert layers.shared.type_count == 0 and not len(layers.shared.strings)
    assert [m.to_bytes() for m in layers.modules] == [m.to_bytes() for m in star]


def test_names_in_the_middle_of_strings() -> None:
    base, integer = small_base()
    writers = []
    for own in (b"my_driver", b"a_driver"):
        w = bw.Writer(base=base)
        inside = w.string(own) + own.index(b"driver")
        struct = w.struct("x", 4, [("a", integer, 0)])
        w.patch(struct, 0, inside)
        writers.append(w)
    star = star_of(*writers, base=base)
    layers = share(star)
    assert layers.shared.string_section() == b"driver\0a\0"
    assert_all_same(star, layers.modules, layers.new_ids)


def test_a_circle_of_dependencies_ends() -> None:
    base, integer = small_base()
    writers = []
    for _ in range(3):
        w = bw.Writer(base=base)
        w.struct("driver", 4, [("a", integer, 0)])
        writers.append(w)
    star = star_of(*writers, base=base)
    chains = chain(star, [[1], [2], [0]])
    assert chains.parents == [1, 2, None]
    assert_all_same(star, chains.modules, chains.new_ids)
    assert [module.type_count for module in chains.modules] == [0, 0, 1]


def test_modules_of_different_bases_are_refused() -> None:
    base, integer = small_base()
    w = bw.Writer(base=base)
    w.struct("driver", 4, [("a", integer, 0)])
    star = star_of(w, base=base) + star_of(w, base=base)
    with pytest.raises(ValueError, match="on one base"):
        share(star)


# ------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel of .ko files: `top` needs `mid-dle`, which needs `low`; `alone` needs nothing."""
    source = tmp_path_factory.mktemp("layers") / "kernel"
    source.mkdir()
    base, _ = small_base()
    (source / "vmlinux.btf").write_bytes(base.to_bytes())
    needs = {"low": "", "mid-dle": "low", "top": "mid_dle,low", "alone": ""}
    for number, (name, depends) in enumerate(needs.items()):
        w = bw.Writer()
        integer = w.int("int", 4)
        for size in range(min(number, 2) + 1):
            w.struct(f"driver{size}", 4 + 4 * size, [("field", integer, 0)])
        info = modinfo(name=name.replace("-", "_"), vermagic="6.1.0 SMP", depends=depends)
        content = elf({".BTF": w.to_bytes(), ".modinfo": info})
        (source / f"{name}.ko").write_bytes(content)
    return run_on(source, source.parent / "out")


def sizes(folder: Path) -> dict[str, int]:
    return {path: len(data) for path, data in files_below(folder).items() if path.endswith(".btf")}


def test_files_are_what_the_table_says(out: Path, tmp_path: Path) -> None:
    done = splitbtf("layers", out, "-o", tmp_path, "--json")
    assert done.code == 0, done.err
    (facts,) = done.json
    folder = Path(facts["folder"])
    assert folder == tmp_path / "kernel=kernel"
    written = sizes(folder)
    assert set(written) == {"vmlinux.btf", "shared.btf"} | {
        f"modules/{name}.btf" for name in ("low", "mid-dle", "top", "alone")
    }
    assert written.pop("vmlinux.btf") == facts["base_bytes"]
    assert facts["layouts"]["shared"]["bytes"] == sum(written.values())
    star = sizes(out / "btf" / "kernel=kernel")
    assert facts["layouts"]["star"]["bytes"] == sum(star.values()) - star["vmlinux.btf"]
    described = json.loads((folder / "layers.json").read_text())
    assert described["bases"]["shared.btf"] == "vmlinux.btf"
    assert described["bases"]["modules/top.btf"] == "shared.btf"
    assert described["min_modules"] == 2

    first = files_below(folder)
    assert splitbtf("layers", out, "-o", tmp_path).code == 0
    assert files_below(folder) == first, "the same again, in place of what was there"
    done = splitbtf("layers", out, "-o", tmp_path, "--by", "depends", "--json")
    (facts,) = done.json
    written = sizes(folder)
    assert "shared.btf" not in written
    assert facts["layouts"]["depends"]["bytes"] == sum(written.values()) - facts["base_bytes"]
    bases = json.loads((folder / "layers.json").read_text())["bases"]
    assert bases == {
        "modules/alone.btf": "vmlinux.btf",
        "modules/low.btf": "vmlinux.btf",
        "modules/mid-dle.btf": "modules/low.btf",
        "modules/top.btf": "modules/mid-dle.btf",
    }


PROC = "top 16384 0 - Live 0x0000000000000000\nnope 1 0 - Live 0x0\nalone 1 0 - Live 0x0\n"
LSMOD = "Module                  Size  Used by\ntop   16384  0\nnope  1  0\nalone  1  0\n"


@pytest.mark.parametrize("text", [PROC, LSMOD], ids=["proc", "lsmod"])
def test_loaded(text: str, out: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(text)
    listed = ("--loaded", tmp_path / "list", "--json")
    star = sizes(out / "btf" / "kernel=kernel")
    (facts,) = splitbtf("layers", out, "-o", tmp_path / "a", *listed).json
    assert (facts["loaded"], facts["not_there"]) == (2, ["nope"])
    layouts = facts["layouts"]
    assert layouts["star"]["loaded_bytes"] == star["top.btf"] + star["alone.btf"]
    written = sizes(tmp_path / "a/kernel=kernel")
    needed: tuple[str, ...] = ("shared.btf", "modules/top.btf", "modules/alone.btf")
    assert layouts["shared"]["loaded_bytes"] == sum(written[name] for name in needed)
    splitbtf("layers", out, "-o", tmp_path / "b", "--by", "depends")
    written = sizes(tmp_path / "b/kernel=kernel")
    needed = ("modules/top.btf", "modules/mid-dle.btf", "modules/low.btf", "modules/alone.btf")
    assert layouts["depends"]["loaded_bytes"] == sum(written[name] for name in needed)


def test_in_words(out: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("nope 1 0 - Live 0x0\n")
    done = splitbtf("layers", out, "-o", tmp_path / "a", "--loaded", tmp_path / "list")
    lines = done.out.splitlines()
    assert lines[0].startswith("kernel: 4 modules, 0 of them loaded, on vmlinux with ")
    assert [line.split()[0] for line in lines[2:5]] == ["star", "shared", "depends"]
    assert "  loaded, but not in this kernel: 1 (nope)" in lines
    assert lines[-1] == f"  written by shared: {tmp_path / 'a'}/kernel=kernel/"


def test_errors(out: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("some words\n")
    (tmp_path / "taken" / "kernel=kernel").mkdir(parents=True)
    (tmp_path / "taken" / "kernel=kernel" / "mine").touch()
    raw = run_on(small, tmp_path / "raw")
    new = tmp_path / "new"
    for arguments, message in (
        ((tmp_path / "empty", "-o", new), "no such folder"),
        ((out, "-o", new, "--kernel", "other"), "no kernel 'other'; there are: kernel"),
        ((out, "-o", new, "--min-modules", "1"), "'1' is no whole number of 2 or more"),
        ((out, "-o", new, "--loaded", tmp_path / "list"), "not a list of loaded modules"),
        ((out, "-o", new, "--loaded", tmp_path / "none"), "cannot read"),
        ((out, "-o", tmp_path / "taken"), "is not of splitbtf layers: remove it"),
        ((out, "-o", "s3://bucket/x"), "folder of this machine only"),
        ((raw, "-o", new, "--by", "depends"), "no module says what it depends on"),
    ):
        done = splitbtf("layers", *arguments)
        assert done.code == 2 and message in done.err, done.err
        assert not new.exists()
    assert (tmp_path / "taken" / "kernel=kernel" / "mine").exists()
    done = splitbtf("layers", raw, "-o", new)
    assert done.code == 0 and "depends: not known" in done.out


# ---------------------------------------------------------------------------- other readers


def libbpf_lines(oracle: oracle_libbpf.Oracle, layer: btf.BTF) -> list[list[str]]:
    """What libbpf says of each type of a chain; the line of void is empty."""
    files = [level.to_bytes() for level in layer.levels]
    lines = oracle.run_two("chain", files)[0].decode().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, layer.type_end))
    return [[], *(line.split(" ")[1:] for line in lines)]


@pytest.fixture(scope="module")
def libbpf() -> oracle_libbpf.Oracle:
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("NOT RUN: the installed libbpf was not asked; needs gcc and libbpf-dev")
    return oracle


def reads_three_levels(oracle: oracle_libbpf.Oracle) -> bool:
    """Whether this libbpf counts the strings of all bases; old ones count those of the nearest.

    The chain is written by hand here, so a fault of ours does not look like an old libbpf.
    """
    base, _ = small_base()
    middle = bw.Writer(base=base)
    middle.enum("middle", 4, [("one", 1)])
    top = bw.Writer(base=middle)
    top.enum("top", 4, [("two", 2)])
    try:
        text = oracle.run_two("chain", [w.to_bytes() for w in (base, middle, top)])[0]
    except oracle_libbpf.Refused:
        return False
    return text.endswith(b"3 6 4 top two\n")


def test_libbpf_reads_the_shared_layer(
    libbpf: oracle_libbpf.Oracle, demo_star: list[btf.BTF]
) -> None:
    shared = share(demo_star).shared
    lines = libbpf_lines(libbpf, shared)[shared.start_id :]
    parsed = reread(shared, {})
    for line, words in zip(lines, parsed.types, strict=True):
        assert (line[0], line[2]) == (str(naive_btf.kind_of(words)), parsed.text(words[0]).decode())


def test_libbpf_reads_all_levels(libbpf: oracle_libbpf.Oracle, demo_star: list[btf.BTF]) -> None:
    if not reads_three_levels(libbpf):
        version = oracle_libbpf.libbpf_version()
        pytest.skip(f"NOT RUN: libbpf {version} misreads strings on a base that has a base")
    layers = share(demo_star)
    chains = chain(demo_star, [[], [0], [1], [11], [], [4], [4], [], [], [8], [], [0]])
    assert max(len(module.levels) for module in chains.modules) >= 4
    for moved in (layers, chains):
        for old, new, ids in zip(demo_star, moved.modules, moved.new_ids, strict=True):
            before, after = libbpf_lines(libbpf, old), libbpf_lines(libbpf, new)
            assert before[old.start_id :] == [after[new_id] for new_id in ids.tolist()]


def test_bpftool_reads_the_shared_layer(demo_star: list[btf.BTF], tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/bin")
    if bpftool is None:
        pytest.skip("NOT RUN: bpftool is not installed")
    shared = share(demo_star).shared
    assert shared.base is not None
    (tmp_path / "base.btf").write_bytes(shared.base.to_bytes())
    (tmp_path / "shared.btf").write_bytes(shared.to_bytes())
    command = [bpftool, "--json", "btf", "dump", "file", str(tmp_path / "shared.btf"),
               "--base-btf", str(tmp_path / "base.btf")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    types = json.loads(done.stdout)["types"]
    assert [t["id"] for t in types] == list(range(shared.start_id, shared.type_end))
    assert [t["kind"] for t in types] == [btf.KIND_NAMES[kind] for kind in shared.own_kinds]


def test_big_endian(tmp_path: Path) -> None:
    out = run_on(DEMO.parent / "demo-s390x", tmp_path / "out")
    assert splitbtf("layers", out, "-o", tmp_path / "layers").code == 0
    (folder,) = (tmp_path / "layers").iterdir()
    base = naive_btf.parse((folder / "vmlinux.btf").read_bytes())
    shared = naive_btf.parse((folder / "shared.btf").read_bytes(), base)
    assert shared.order == ">" and shared.types
    for path in sorted((folder / "modules").iterdir()):
        naive_btf.parse(path.read_bytes(), shared)
