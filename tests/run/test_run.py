"""Protects: the same bytes from any engine; bad inputs are rows; nothing leaves OUT.

These run the whole command line on the whole demo, each engine once.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import btf
from pipeline.engine.on_ray import OnRay
from pipeline.store.output import read_table
from pipeline.work.batch import work
from support import btfwriter
from support.commands import splitbtf
from support.paths import DEMO
from support.trees import files_below, results_of, small_tree
from support.writers.elfwriter import elf, modinfo

pytestmark = pytest.mark.slow

ENGINES = {
    "local": ("--engine", "local"),
    "local, 2 workers": ("--engine", "local", "--workers", 2),
    "ray, 1 worker": ("--workers", 1),
    "ray, 2 workers": ("--workers", 2),
    "ray, 4 workers": ("--workers", 4),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, run without any workers."""
    out = tmp_path_factory.mktemp("reference")
    done = splitbtf("run", DEMO, "-o", out, *ENGINES["local"])
    assert done.code == 0, done.err
    return out


def test_the_reference_is_libbpf_s(reference: Path) -> None:
    with (DEMO / "golden.tsv").open(newline="") as file:
        golden = list(csv.DictReader(file, delimiter="\t"))
    for row in golden:
        content = (reference / f"btf/kernel=demo/{row['module']}.btf").read_bytes()
        types = content[24 : 24 + int(row["type_len"])]
        strings = content[24 + int(row["type_len"]) :]
        assert hashlib.sha256(types).hexdigest() == row["type_sha256"], row["module"]
        assert hashlib.sha256(strings).hexdigest() == row["str_sha256"], row["module"]
    modules = read_table(reference, "modules")
    assert modules["module"].to_pylist() == sorted(row["module"] for row in golden)
    digests = {row["module"]: row["input_sha256"] for row in golden}
    found = zip(modules["module"].to_pylist(), modules["input_sha256"].to_pylist(), strict=True)
    assert dict(found) == digests


@pytest.mark.parametrize(
    "name",
    [
        "local, 2 workers",
        pytest.param("ray, 1 worker", marks=pytest.mark.long),
        "ray, 2 workers",
        pytest.param("ray, 4 workers", marks=pytest.mark.long),
    ],
)
def test_every_engine_gives_the_same_bytes(name: str, reference: Path, tmp_path: Path) -> None:
    done = splitbtf("run", DEMO, "-o", tmp_path / "out", "--json", *ENGINES[name])
    assert done.code == 0, done.err
    assert results_of(tmp_path / "out") == results_of(reference)
    facts = done.json
    assert facts["engine"] == name.split(",")[0]
    assert facts["workers"] == int(name.split()[1])
    (row,) = read_table(tmp_path / "out", "runs").to_pylist()
    assert row["crashes"] == 0 and row["batches"] > 1


@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
def test_bpftool_reads_every_file(reference: Path) -> None:
    folder = reference / "btf" / "kernel=demo"
    modules = [path for path in sorted(folder.iterdir()) if path.name != "vmlinux.btf"]
    assert len(modules) >= 60
    for path in modules:
        command = ["bpftool", "btf", "dump", "file", str(path), "-B", str(folder / "vmlinux.btf")]
        dumped = subprocess.run(command, capture_output=True, text=True)
        assert dumped.returncode == 0 and not dumped.stderr, (path.name, dumped.stderr)
        split = read_table_row(reference, path.stem)
        assert dumped.stdout.count("\n[") + dumped.stdout.startswith("[") == split["types_out"]


def read_table_row(out: Path, module: str) -> dict[str, Any]:
    rows = read_table(out, "modules").to_pylist()
    (row,) = [row for row in rows if row["module"] == module]
    return row


def other_kernel_s_module() -> bytes:
    """Standalone BTF of a module whose struct module is not that of the demo's kernel."""
    writer = btfwriter.Writer()
    char = writer.int("char", 1)
    writer.struct("module", 16, [("state", char, 0), ("something_else", char, 64)])
    return writer.to_bytes()


@pytest.fixture
def zoo(tmp_path: Path, demo_btf: Callable[[str], bytes]) -> Path:
    """The demo's base, sound modules, and everything that can be wrong with an input."""
    root = small_tree(tmp_path / "zoo", whole=True)
    good = demo_btf("hid-elecom")
    files = {
        "empty.btf": b"",
        "truncated.btf": good[: len(good) // 2],
        "text.btf": b"This is no BTF.\n",
        "no-btf.ko": elf({".modinfo": modinfo(name="no_btf"), ".text": b"\x90"}),
        "other-kernel.btf": other_kernel_s_module(),
        "escapes.ko": elf({".BTF": good, ".modinfo": modinfo(name="../../escaped")}),
        "a/same.btf": good,
        "b/same.btf": demo_btf("act_bpf"),
        "truncated.btf.zst": (DEMO / "modules/xt_bpf.btf.zst").read_bytes()[:-100],
        "fine.ko": elf(
            {".BTF": good, ".modinfo": modinfo(name="fine", depends="hid,usbcore",
                                               vermagic="6.1.0-50-cloud-amd64 SMP mod_unload")}
        ),
    }  # fmt: skip
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    (root / "dangling.btf").symlink_to("nowhere")
    os.mkfifo(root / "pipe.btf")
    (root / "notes.txt").write_text("no module by its name\n")
    return root


EXPECTED = {  # module: (error kind, what the message says, section, offset is known)
    "dangling": ("unreadable", "No such file or directory", None, False),
    "empty": ("bad_btf", "the file is empty", "header", False),
    "escapes": ("bad_name", "'../../escaped'", ".modinfo", False),
    "no-btf": ("no_btf", "without a .BTF section", ".BTF", False),
    "other-kernel": ("wrong_base", "another kernel", "types", False),
    "pipe": ("unreadable", "no regular file", None, False),
    "text": ("bad_btf", "not BTF", "header", True),
    "truncated~2": ("compression", "zstd", None, False),
}


@pytest.mark.parametrize(
    "engine",
    ["local", "local, 2 workers", pytest.param("ray, 2 workers", marks=pytest.mark.long)],
)
def test_bad_inputs_are_rows(engine: str, zoo: Path, tmp_path: Path, reference: Path) -> None:
    before = files_below_but(tmp_path, "out")
    out = tmp_path / "out"
    done = splitbtf("run", zoo, "-o", out, "--json", *ENGINES[engine])
    assert done.code == 1, done.err
    rows = {row["module"]: row for row in read_table(out, "modules").to_pylist()}
    failed = {name: row for name, row in rows.items() if row["status"] == "failed"}
    for name, (kind, message, section, has_offset) in EXPECTED.items():
        row = failed.pop(name)
        assert row["error_kind"] == kind and message in row["error"], row
        assert row["error_section"] == section, row
        assert (row["error_offset"] is not None) == has_offset, row
    row = failed.pop("truncated")
    assert row["error_kind"] == "bad_btf" and row["error_section"] == "header"
    assert not failed

    sound = {name for name, row in rows.items() if row["status"] == "done"}
    assert {"same@a", "same@b", "fine"} < sound and len(sound) == 8
    fine = rows["fine"]
    assert fine["depends"] == ["hid", "usbcore"] and fine["release"] == "6.1.0-50-cloud-amd64"
    unaffected = results_of(reference)
    for name, row in rows.items():
        path = out / f"btf/kernel=zoo/{name}.btf"
        assert path.exists() == (row["status"] == "done")
        if (same := unaffected.get(f"btf/kernel=demo/{name}.btf")) is not None:
            assert path.read_bytes() == same
    assert (out / "btf/kernel=zoo/same@a.btf").read_bytes() == unaffected[
        "btf/kernel=demo/hid-elecom.btf"
    ]

    facts = done.json
    assert facts["failed"] == len(EXPECTED) + 1 == len(facts["failures"])
    assert {failure["module"] for failure in facts["failures"]} == {*EXPECTED, "truncated"}
    assert all(Path(failure["file"]).is_absolute() for failure in facts["failures"])
    assert files_below_but(tmp_path, "out") == before, "something was written outside OUT"


def files_below_but(folder: Path, skipped: str) -> dict[str, bytes]:
    return {
        path: data
        for path, data in files_below(folder).items()
        if not path.startswith(f"{skipped}/")
    }


def test_split_btf_of_another_base_is_refused(
    reference: Path, tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    """A split file is at home on its own base only, whichever engine or command gets it."""
    base = btf.parse(demo_btf("vmlinux"))
    writer = btfwriter.Writer()
    char = writer.int("char", 1)
    for number in range(50):
        writer.struct(f"filler_{number}", 1, [("c", char, 0)])
    other = btf.BaseIndex.build(btf.parse(writer.to_bytes()))
    split_elsewhere = btf.dedup_split(btf.parse(demo_btf("xt_bpf")), other).btf.to_bytes()
    tree = small_tree(tmp_path / "tree", ["act_bpf"], whole=True)
    (tree / "elsewhere.btf").write_bytes(split_elsewhere)
    shutil.copy(reference / "btf/kernel=demo/xt_bpf.btf", tree / "at-home.btf")
    out = tmp_path / "out"
    done = splitbtf("run", tree, "-o", out, "--engine", "local")
    assert done.code == 1
    row = read_table_row(out, "elsewhere")
    assert row["status"] == "failed" and row["error_kind"] == "wrong_base", row
    assert "another base" in row["error"]
    home = read_table_row(out, "at-home")
    assert home["status"] == "done" and home["form"] == "split"
    assert btf.parse((out / "btf/kernel=tree/at-home.btf").read_bytes(), base).type_count


def test_ray_listens_on_loopback_only_and_cleans_up() -> None:
    executor = OnRay(1, None, work)
    assert executor._folder is not None
    folder = Path(executor._folder.path)
    assert folder.stat().st_mode & 0o777 == 0o700, "others can enter it"
    try:
        sockets = listening_sockets(os.getpid())
        assert len(sockets) >= 3 and folder.is_dir(), "Ray was not found"
        assert {address for address in sockets if not is_loopback(address)} == set()
    finally:
        executor.close()
    assert not folder.exists()


def listening_sockets(root: int) -> list[str]:
    """Addresses on which a process or one below it listens, as /proc/net has them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = entry.read_text().rsplit(")", 1)[1].split()[1]
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    todo, inodes = [root], set()
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        for link in Path(f"/proc/{process}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1].split(":")[0])
    return found


def is_loopback(address: str) -> bool:
    """127.0.0.1, ::1 or ::ffff:127.0.0.1, in the words of /proc/net."""
    return address in ("0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F")
