"""Protects what a user of ``splitbtf dedup`` sees: output, JSON, messages, exit codes."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import splitbtf
from support.paths import DEMO, ROOT
from support.trees import SMALL

pytestmark = pytest.mark.slow

BASE = DEMO / "vmlinux.btf.zst"
KEYS = {
    "modules", "failed", "bytes_in", "bytes_out", "types_in", "types_out", "left_types",
    "left_bytes", "kept_by_arrays", "modules_of_arrays", "base_types", "base_bytes",
    "repeated_types", "repeated_bytes", "index_seconds", "work_seconds", "failures", "output",
}  # fmt: skip


def test_a_folder_and_the_summary(small: Path, tmp_path: Path) -> None:
    done = splitbtf("dedup", "-B", BASE, "-o", tmp_path / "out", small)
    assert done.code == 0, done.err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{name}.btf" for name in SMALL]
    lines = done.out.splitlines()
    assert lines[0] == "5 modules done"
    assert lines[1] == "  vmlinux   4.11 MB    (95,068 types)"
    assert re.fullmatch(r"  modules +\d+ kB -> [\d.]+ kB +\([\d.]+ times smaller\)", lines[2])
    assert re.fullmatch(r"  types +[\d,]+ -> [\d,]+ +\([\d.]+ times smaller\)", lines[3])
    assert lines[4] == "  largest afterwards:"
    assert re.fullmatch(r"  took [\d.]+ s \(.+B/s\)", lines[-2])
    assert lines[-1] == f"  split BTF: {tmp_path}/out/"


def test_json_and_no_output(small: Path, tmp_path: Path) -> None:
    done = splitbtf("dedup", "-B", BASE, "--no-output", "--json", *sorted(small.glob("*.btf.zst")))
    assert set(done.json) == KEYS
    # vmlinux was named itself: then it is an input, and standalone BTF like any other.
    assert done.json["modules"] == len(SMALL) + 1 and done.json["output"] is None
    done = splitbtf("dedup", "-B", BASE, "--no-output", "--json", small)
    facts = done.json
    assert done.code == 0 and facts["modules"] == len(SMALL) and facts["failures"] == []
    assert facts["bytes_in"] > 5 * facts["bytes_out"] > 0
    assert facts["types_in"] > 5 * facts["types_out"] > 0
    assert facts["work_seconds"] > 0 and facts["index_seconds"] > 0


def test_failed_inputs(small: Path, tmp_path: Path) -> None:
    (small / "bad.btf").write_bytes(b"\x9f\xeb")
    done = splitbtf("dedup", "-B", BASE, "-o", tmp_path / "out", small)
    assert done.code == 1
    assert done.out.splitlines()[0] == "5 modules done, 1 failed"
    assert f"    {small}/bad.btf, header" in done.out
    facts = splitbtf("dedup", "-B", BASE, "--no-output", "--json", small).json
    (failure,) = facts["failures"]
    assert failure["file"] == f"{small}/bad.btf" and failure["error_kind"] == "bad_btf"
    assert "2 bytes" in failure["error"] and failure["section"] == "header"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dedup",), "required"),
        (("dedup", "-B", BASE, "x.btf"), "--output --no-output"),
        (("dedup", "-B", BASE, "--no-output", "missing.btf"), "no such file or folder: missing"),
        (("dedup", "-B", "missing", "--no-output", DEMO), "missing: cannot read the file: No such"),
        (("dedup", "-B", ROOT / "LICENSE", "--no-output", DEMO), "LICENSE, header"),
        (("dedup", "-B", BASE, "-o", "/proc/nothing", DEMO), "cannot write /proc/nothing"),
        (("nonsense",), "no command 'nonsense'; there are: "),
    ],
)  # fmt: skip
def test_nothing_could_be_done(arguments: tuple[object, ...], message: str) -> None:
    done = splitbtf(*arguments)
    assert done.code == 2 and done.out == ""
    assert message in done.err and "Traceback" not in done.err, done.err


def test_neither_ray_nor_arrow_is_imported(small: Path) -> None:
    code = (
        "import sys; from jobs.cli import main; "
        f"code = main(['dedup', '-B', {str(BASE)!r}, '--no-output', {str(small)!r}]); "
        "print(code, sorted({'ray', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_the_reader_of_our_output_may_go_away(small: Path) -> None:
    command = f"{sys.executable} -m jobs.cli dedup -B {BASE} --no-output --json {small} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_progress_on_a_terminal(small: Path) -> None:
    ours, theirs = os.openpty()
    named = ("-B", str(BASE), "--no-output", str(DEMO))
    command = [sys.executable, "-m", "jobs.cli", "dedup", *named]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "68 of 68 modules" in drawn and drawn.endswith("\r\x1b[K")


def test_an_input_is_not_written_over(small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.btf").write_bytes(gzip.compress(b"what nobody has elsewhere"))
    for where in (tmp_path, tmp_path / "alias"):
        done = splitbtf("dedup", "-B", BASE, "-o", where, tmp_path / "x.btf")
        assert done.code == 2 and "x.btf is an input, which would be replaced" in done.err
        (tmp_path / "alias").unlink(missing_ok=True)
        (tmp_path / "alias").symlink_to(tmp_path)
    assert gzip.decompress((tmp_path / "x.btf").read_bytes()) == b"what nobody has elsewhere"
