"""Protects what a user of ``splitbtf dump`` sees: output, messages, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import btf
from jobs.cli import main
from support import btfwriter as bw
from support import dumping
from support.commands import Finished, splitbtf
from support.paths import DEMO, ROOT
from support.writers import elfwriter

BASE = DEMO / "vmlinux.btf.zst"


Here = Callable[..., Finished]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process, which has its imports behind it."""

    def run(*arguments: object) -> Finished:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as wrong_usage:
            code = int(wrong_usage.code or 0)
        return Finished(code, *capsys.readouterr())

    return run


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    path = tmp_path / "act_bpf.btf"
    path.write_bytes(dumping.split("act_bpf").to_bytes())
    return path


@pytest.mark.slow
def test_formats_of_split_btf(split_file: Path, here: Here) -> None:
    types = dumping.split("act_bpf")
    done = splitbtf("dump", split_file, "-B", BASE)
    assert done.code == 0, done.err
    assert done.out == "".join(btf.dump_raw(types))
    expected = "".join(btf.dump_json(types))
    assert here("dump", "--format", "json", "-B", BASE, split_file).out == expected
    c = here("dump", "--format", "c", "--asserts", "-B", BASE, split_file).out
    assert c == "".join(btf.dump_c(types, asserts=True)) and "_Static_assert" in c
    assert "_Static_assert" not in here("dump", "--format", "c", "-B", BASE, split_file).out


def test_compressed_and_elf(tmp_path: Path, here: Here) -> None:
    name = "8255"
    expected = "".join(btf.dump_raw(dumping.standalone(name)))
    assert here("dump", DEMO / "modules" / f"{name}.btf.zst").out == expected
    module = tmp_path / "8255.ko"
    module.write_bytes(elfwriter.elf({".BTF": dumping.standalone(name).to_bytes()}))
    assert here("dump", module).out == expected


def test_distilled_base_is_enough(tmp_path: Path, here: Here) -> None:
    w = bw.Writer()
    w.int("int", 4)
    s = bw.Writer(base=w)
    s.typedef("own", 1)
    module = tmp_path / "m.ko"
    module.write_bytes(elfwriter.elf({".BTF": s.to_bytes(), ".BTF.base": w.to_bytes()}))
    assert here("dump", module).out == "[2] TYPEDEF 'own' type_id=1\n"


def test_chosen_types(split_file: Path, here: Here) -> None:
    """Of the base too; those of a name that are defined."""
    types = dumping.split("act_bpf")
    lines = {line.split()[0]: line for line in "".join(btf.dump_raw(types)).splitlines()}
    head = btf.parse(dumping.base().to_bytes()).find("list_head", "struct")
    own = types.find("tcf_bpf", "struct")
    wanted = ("--type", "struct tcf_bpf", "--type", head.id, "--type", "tcf_bpf")
    done = here("dump", "-B", BASE, split_file, *wanted)
    shown = done.out.splitlines()
    assert shown[0] == lines[f"[{own.id}]"] and f"[{head.id}] STRUCT 'list_head'" in done.out
    assert sum(line.startswith("[") for line in shown) == 2
    in_json = here("dump", "--format", "json", "-B", BASE, split_file, *wanted).out
    assert [one["id"] for one in json.loads(in_json)["types"]] == [own.id, head.id]
    c = here("dump", "--format", "c", "-B", BASE, split_file, *wanted).out
    assert "struct tcf_bpf {" in c and "struct tc_action {" in c and "struct list_head {" in c
    assert c == "".join(btf.dump_c(types, roots=[own.id, head.id]))
    assert "struct tcf_bpf_cfg {" not in c


def test_several_files(tmp_path: Path, here: Here) -> None:
    """As what merge makes of them."""
    base, index = dumping.base(), btf.BaseIndex.build(dumping.base())
    files = []
    for name in ("act_bpf", "8255"):
        files.append(tmp_path / f"{name}.btf")
        files[-1].write_bytes(dumping.split(name).to_bytes())
    merged = btf.merge([btf.parse(f.read_bytes(), base) for f in files], index).btf
    assert here("dump", "-B", BASE, *files).out == "".join(btf.dump_raw(merged))
    root = here("dump", "--format", "c", BASE, *files, "--type", "tcf_bpf").out
    whole = btf.merge([btf.parse(f.read_bytes(), base) for f in files], base, standalone=True).btf
    assert root == "".join(btf.dump_c(whole, roots=[whole["tcf_bpf"].id]))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    w = bw.Writer()
    w.fwd(b"\xff\xfe")
    path = tmp_path / "x.btf"
    path.write_bytes(w.to_bytes())
    command = [sys.executable, "-m", "jobs.cli", "dump", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.stdout == rb"[1] FWD '\xff\xfe' fwd_kind=struct" + b"\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dump",), "required: FILE"),
        (("dump", "nothing.btf"), "nothing.btf: cannot read the file: No such file"),
        (("dump", ROOT / "LICENSE"), "LICENSE, header, offset 0: not BTF"),
        (("dump", ROOT / ".ci"), "no BTF"),
        (("dump", BASE, "--type", "list_hea"), "no type 'list_hea'; the nearest names: list_head"),
        (("dump", BASE, "--type", "union list_head"), "no type 'list_head', only as STRUCT"),
        (("dump", BASE, "--type", "9999999"), "no type [9999999]"),
        (("dump", BASE, "--asserts"), "--asserts needs --format c"),
        (("dump", BASE, "--format", "xml"), "invalid choice"),
        (("dump", BASE, "-B", BASE), "standalone BTF, not split: dump it without a base (-B)"),
        (("dump", BASE, "-B", "nothing"), "nothing: cannot read the file"),
    ],
)  # fmt: skip
def test_nothing_could_be_done(arguments: tuple[object, ...], message: str, here: Here) -> None:
    done = here(*arguments)
    assert done.code == 2 and done.out == ""
    assert message in done.err, done.err


def test_split_without_its_base_or_with_another(split_file: Path, here: Here) -> None:
    done = here("dump", split_file)
    assert done.code == 2 and "name its base, usually vmlinux, with -B" in done.err
    done = here("dump", split_file, "-B", DEMO / "modules" / "8255.btf.zst")
    assert done.code == 2 and "belongs to another base" in done.err and done.out == ""


def test_what_c_has_not_got_is_an_error(tmp_path: Path, here: Here) -> None:
    w = bw.Writer()
    w.typedef("t", 2)
    w.ptr(2)
    path = tmp_path / "cycle.btf"
    path.write_bytes(w.to_bytes())
    assert here("dump", path).code == 0
    done = here("dump", "--format", "c", path)
    assert done.code == 2 and done.out == ""
    assert "cycle.btf, types section, type [2]" in done.err and "C has no such type" in done.err


def test_what_compiles_is_announced(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("dump", BASE, "--format", "c", "--type", "list_head")
    known = here(*arguments)
    assert known.code == 0 and known.err == ""
    monkeypatch.setattr("btf.dump.c.is_stored", lambda function: False)
    first = here(*arguments)
    assert (first.code, first.out) == (0, known.out)
    assert "compiling what writes C, once, about 10 s" in first.err


def test_the_reader_may_go_away() -> None:
    command = f"{sys.executable} -m jobs.cli dump {BASE} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("[1] ") and done.stderr == ""
