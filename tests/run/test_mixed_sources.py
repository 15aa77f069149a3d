"""Protects: every kind of source and form of BTF, mixed in one run, gives what the module's plain
standalone BTF gives, and every input has its row."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import btf
from pipeline.store.output import read_table
from support.commands import splitbtf
from support.trees import small_tree, small_vmlinux
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo

pytestmark = pytest.mark.slow

MODULES = ("8255", "act_bpf", "hid-elecom", "nls_cp949", "xt_bpf")


def module(name: str, release: str, **sections: bytes) -> bytes:
    info = modinfo(name=name.replace("-", "_"), vermagic=f"{release} SMP")
    return elf({**sections, ".modinfo": info})


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, object]]:
    rows = read_table(out, "modules").to_pylist()
    return {(row["kernel"], row["module"]): row for row in rows}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Split BTF of the modules, made of their raw standalone BTF."""
    folder = tmp_path_factory.mktemp("expected")
    small_tree(folder / "k", MODULES)
    done = splitbtf("run", folder / "k", "-o", folder / "out", "--engine", "local")
    assert done.code == 0, done.err
    files = (folder / "out/btf/kernel=k").glob("*.btf")
    return {path.stem: path.read_bytes() for path in files}


def test_one_run_of_everything(
    tmp_path: Path, demo_btf: Callable[[str], bytes], expected: dict[str, bytes]
) -> None:
    base = small_vmlinux()
    vmlinux = elf({".BTF": base, ".rodata": b"Linux version 1.0-deb (x@y)\0"})
    standalone = {name: demo_btf(name) for name in MODULES}
    squeeze: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".xz": debwriter.XZ,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }

    # A package whose base is a compressed kernel image, with modules in every compression.
    files = {
        f"lib/modules/1.0-deb/kernel/{name}.ko{suffix}": squeeze[suffix](
            module(name, "1.0-deb", **{".BTF": standalone[name]})
        )
        for name, suffix in zip(MODULES, squeeze, strict=False)
    }
    files["boot/vmlinuz-1.0-deb"] = b"MZ" + bytes(4000) + gzip.compress(vmlinux)
    (tmp_path / "image.deb").write_bytes(debwriter.deb(files))
    # What BTFHub publishes, and modules with split BTF beside it.
    hub = tmp_path / "2.0-hub.btf.tar.xz"
    hub.write_bytes(debwriter.XZ(debwriter.tar({"2.0-hub.btf": base})))
    folder = tmp_path / "lib/modules/2.0-hub/kernel"
    folder.mkdir(parents=True)
    for name in MODULES:
        (folder / f"{name}.ko").write_bytes(module(name, "2.0-hub", **{".BTF": expected[name]}))
    # As sysfs has it.
    (tmp_path / "sys").mkdir()
    for name, content in {"vmlinux": base, "xt_bpf": expected["xt_bpf"]}.items():
        (tmp_path / "sys" / name).write_bytes(content)
    # A package of a kernel whose image is missing.
    lost = {"lib/modules/3.0-lost/kernel/8255.ko": module("8255", "3.0-lost")}
    (tmp_path / "lost.deb").write_bytes(debwriter.deb(lost))

    out = tmp_path / "out"
    sources = [tmp_path / name for name in ("image.deb", hub.name, "lib", "sys", "lost.deb")]
    done = splitbtf("run", *sources, "-o", out, "--engine", "local", "--json")
    assert done.code == 1, done.err
    rows = rows_of(out)
    told = {key: (row["form"], row["error_kind"]) for key, row in rows.items()}
    assert told == {
        **{("1.0-deb", name): ("standalone", None) for name in MODULES[:4]},
        **{("2.0-hub", name): ("split", None) for name in MODULES},
        ("sys", "xt_bpf"): ("split", None),
        ("3.0-lost", "8255"): (None, "no_base"),
    }
    for kernel, name in told:
        if kernel != "3.0-lost":
            found = (out / f"btf/kernel={kernel}/{name}.btf").read_bytes()
            # Dedup once more of split BTF changes nothing here: libbpf had left nothing to gain.
            assert found == expected[name], (kernel, name)
    kernels = {row["kernel"]: row for row in read_table(out, "kernels").to_pylist()}
    assert kernels["1.0-deb"]["base_source"] == "boot/vmlinuz-1.0-deb"
    assert kernels["2.0-hub"]["base_source"] == "2.0-hub.btf"
    assert kernels["3.0-lost"]["base_sha256"] is None and kernels["3.0-lost"]["failed"] == 1
    assert {kernels[name]["release"] for name in ("1.0-deb", "2.0-hub")} == {"1.0-deb", "2.0-hub"}
    assert [failure["error_kind"] for failure in done.json["failures"]] == ["no_base"]


def test_modules_from_elsewhere_on_a_named_base(
    tmp_path: Path, demo_btf: Callable[[str], bytes], expected: dict[str, bytes]
) -> None:
    """Out-of-tree modules: with BTF of their own, with a distilled base, and with nothing."""
    base = btf.parse(small_vmlinux())
    split = btf.parse(expected["act_bpf"], base)
    small, moved = btf.distill_base(split)
    release = "1.0-here"
    files = {
        "plain.ko": module("plain", release, **{".BTF": demo_btf("xt_bpf")}),
        "distilled.ko": module(
            "distilled", "0.9-built-before",
            **{".BTF": moved.to_bytes(), ".BTF.base": small.to_bytes()},
        ),
        "bare.ko": module("bare", release),
    }  # fmt: skip
    (tmp_path / "extra").mkdir()
    for name, content in files.items():
        (tmp_path / "extra" / name).write_bytes(content)
    vmlinux = tmp_path / f"vmlinux-{release}"
    vmlinux.write_bytes(elf({".BTF": base.to_bytes()}))
    out = tmp_path / "out"
    done = splitbtf("run", tmp_path / "extra", "-B", vmlinux, "-o", out, "--engine", "local")
    assert done.code == 1, done.err
    told = {key: (row["form"], row["error_kind"]) for key, row in rows_of(out).items()}
    assert told == {
        (release, "plain"): ("standalone", None),
        (release, "distilled"): ("distilled", None),
        (release, "bare"): (None, "no_btf"),
    }
    assert (out / f"btf/kernel={release}/plain.btf").read_bytes() == expected["xt_bpf"]
    kept = btf.parse((out / f"btf/kernel={release}/distilled.btf").read_bytes(), base)
    assert kept.type_count == split.type_count


def test_identical_modules_on_identical_bases_are_done_once(
    tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    """The same modules in two kernels: the second is put together of what the first gave."""
    for name, modules in (("one", MODULES), ("two", MODULES[1:])):
        small_tree(tmp_path / name, modules)
    (tmp_path / "two/other.btf").write_bytes(demo_btf("cfb"))
    out = tmp_path / "out"
    done = splitbtf(
        "run", tmp_path / "one", tmp_path / "two", "-o", out, "--engine", "local", "--json"
    )
    assert done.code == 0, done.err
    facts = {kernel["kernel"]: kernel for kernel in done.json["kernels"]}
    assert (facts["one"]["worked"], facts["two"]["worked"]) == (5, 1)
    for name in MODULES[1:]:
        one, two = (out / f"btf/kernel={kernel}/{name}.btf" for kernel in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    alone = tmp_path / "alone"
    splitbtf("run", tmp_path / "two", "-o", alone, "--engine", "local")
    for table in ("modules", "types"):
        assert read_table(out, table, "two").equals(read_table(alone, table))


def test_a_damaged_package_loses_nothing_silently(
    tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    """What comes before the damage is done; every other file of the package has its row."""
    files = {"boot/vmlinux-1.0.btf": small_vmlinux()}
    for name in MODULES:
        files[f"lib/modules/1.0/{name}.ko"] = module(name, "1.0", **{".BTF": demo_btf(name)})
    whole = debwriter.deb(files, compression="")
    (tmp_path / "x.deb").write_bytes(whole[: whole.index(demo_btf("nls_cp949"))])
    out = tmp_path / "out"
    done = splitbtf("run", tmp_path / "x.deb", "-o", out, "--engine", "local")
    assert done.code == 1, done.err
    rows = rows_of(out)
    assert {name for _, name in rows} == {*MODULES, "x.deb"}
    lost = {name for (_, name), row in rows.items() if row["error_kind"] == "unreadable"}
    assert lost == {"nls_cp949", "xt_bpf", "x.deb"}
    for name in lost:
        assert "bytes are missing" in str(rows["1.0", name]["error"])
    assert not (out / ".staging").exists(), "what was unpacked is gone"
