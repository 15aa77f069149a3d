"""The proof's own parts, without qemu: above all, that it fails when it should.

`make kernel-proof` is the proof itself; it is no part of the test suite.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernel_proof import guest, module_file, prove

BASE = b"base"
OURS = {"one": b"ours 1", "two": b"ours 2", prove.VICTIM: b"ours 3"}
REFUSED = "| [ 9.0] BPF: Invalid name\n| [ 9.1] failed to validate module [hid_steam] BTF: -22\n"


def candidate(stem: str, btf: bytes, depends: tuple[str, ...] = ()) -> prove.Candidate:
    name = module_file.kernel_name(stem)
    module: Any = SimpleNamespace(stem=stem, name=name, depends=list(depends))
    return prove.Candidate(module, "demo", btf, b"")


def check(name: str, btf: bytes) -> str:
    return f"check {name} {len(btf)} {hashlib.sha256(btf).hexdigest()}\n"


def good_run() -> str:
    """What the guest reports when everything is as it should be."""
    victim = module_file.kernel_name(prove.VICTIM)
    names = {stem: module_file.kernel_name(stem) for stem in OURS}
    return (
        check("vmlinux", BASE)
        + "".join(f"load {name} 0 \n" for name in names.values())
        + "".join(check(names[stem], btf) for stem, btf in OURS.items())
        + "| [ 0.1] LSM support for eBPF active\n| [ 1.0] one: loading out-of-tree module\nlog\n"
        + f"unload {victim} 0 \nload {victim} 0 \ncheck {victim} absent\n{REFUSED}log\n"
        + f"unload {victim} 0 \nload {victim} 0 \n{check(victim, OURS[prove.VICTIM])}log\nend\n"
    )


def evaluated(reports: str) -> prove.Proof:
    proof = prove.Proof(kernel="k", splitbtf="s")
    candidates = [candidate(stem, btf) for stem, btf in OURS.items()]
    wrong = candidate(prove.VICTIM, b"wrong")
    prove.evaluate(proof, list(guest.read_reports(reports)), BASE, candidates, wrong)
    return proof


def test_a_good_run_holds() -> None:
    proof = evaluated(good_run())
    assert proof.holds(3), proof
    assert not proof.holds(4), "fewer modules than wanted must not do"
    assert len(proof.wrong_complaints) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(check("two", b"ours 2"), check("two", b"other!"), id="other bytes in sysfs"),
        pytest.param(check("two", b"ours 2"), "check two absent\n", id="no BTF in sysfs"),
        pytest.param(check("two", b"ours 2"), "", id="never checked"),
        pytest.param("load two 0 \n", "load two 1 insmod: x: Exec format error\n", id="no load"),
        pytest.param(check("vmlinux", BASE), check("vmlinux", b"else"), id="another kernel"),
        pytest.param("| [ 1.0] one: ", "| [ 1.0] BPF: [5] STRUCT Invalid\n| ", id="complaint"),
        pytest.param("absent", "6 abc", id="wrong file accepted"),
        pytest.param(REFUSED, "", id="wrong file vanished without a word"),
        pytest.param("check hid_steam absent\n", "", id="wrong file never checked"),
        pytest.param("log\nend\n", "end\n", id="last log missing"),
        pytest.param("end\n", "", id="guest died"),
    ],
)
def test_a_run_that_shows_less_does_not_hold(old: str, new: str) -> None:
    run = good_run()
    assert old in run
    assert not evaluated(run.replace(old, new)).holds(2)


def not_loaded(package_report: str) -> str:
    """A run in which module "one" is not loaded, and what then became of the package's file."""
    failure = "load one 1 insmod: can't insert '/modules/one.ko': No such device\n"
    run = good_run().replace(check("one", b"ours 1"), "check one absent\n")
    return run.replace("load one 0 \n", failure + package_report)


def test_a_module_that_cannot_run_here_is_no_failure_but_proves_nothing() -> None:
    words = "insmod: can't insert '/package/one.ko': No such device"
    proof = evaluated(not_loaded(f"package one 1 {words}\n"))
    assert (proof.count("proven"), proof.count("skipped"), proof.count("failed")) == (2, 1, 0)
    assert "No such device" in proof.verdicts[0].why
    assert proof.holds(2)
    assert not proof.holds(3)


@pytest.mark.parametrize("package_report", ["package one 0 \n", ""])
def test_a_module_that_only_our_btf_keeps_out_is_a_failure(package_report: str) -> None:
    proof = evaluated(not_loaded(package_report))
    assert proof.count("failed") == 1
    assert not proof.holds(2)


def test_a_flawed_module_is_a_failure_though_the_kernel_took_it() -> None:
    flawed = prove.Candidate(candidate("one", b"1").module, "demo", b"1", b"", flaw="two bases")
    report = next(iter(guest.read_reports(check("one", b"1"))))
    (verdict,) = prove.judge([flawed], {"one": "0 "}, {}, {"one": report})
    assert (verdict.outcome, verdict.why) == ("failed", "two bases")


def test_signature_is_cut_off() -> None:
    info = bytes(8) + struct.pack(">I", 5)
    signed = b"ELF..." + b"SIGN!" + info + module_file.SIGNATURE_MAGIC
    assert module_file.without_signature(signed) == b"ELF..."
    assert module_file.without_signature(b"ELF...") == b"ELF..."


def test_initramfs_is_a_cpio_archive(tmp_path: Path) -> None:
    guest.write_initramfs(
        tmp_path / "a.cpio", {"bin/tool": (0o755, b"12345"), "init": (0o755, b"")}
    )
    data = (tmp_path / "a.cpio").read_bytes()
    names, at = [], 0
    while data[at : at + 6] == b"070701":
        values = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name_end = at + 110 + values[11]
        names.append((data[at + 110 : name_end - 1].decode(), oct(values[1]), values[6]))
        at = -(-(-(-name_end // 4) * 4 + values[6]) // 4) * 4
    assert at == len(data)
    assert names == [
        ("bin", "0o40755", 0),
        ("bin/tool", "0o100755", 5),
        ("init", "0o100755", 0),
        ("TRAILER!!!", "0o0", 0),
    ]
