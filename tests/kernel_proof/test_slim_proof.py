"""The parts of the proof of slim modules, without qemu: above all, that it fails when it should."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from kernel_proof import guest, slim

MODULES: list[Any] = [
    SimpleNamespace(stem=name, name=name, depends=depends, btf=name.encode(), btf_ids=ids)
    for name, depends, ids in (
        ("zlib", [], b""),
        ("nf-nat", ["zlib"], b"ids"),
        ("fou", [], b"ids"),
    )
]
REFUSED = "load fou 1 insmod: can't insert '/wrong.ko': Invalid argument\n"


def check(name: str) -> str:
    return f"check {name} {len(name)} {hashlib.sha256(name.encode()).hexdigest()}\n"


def good_run() -> str:
    names = [module.name for module in MODULES]
    return (
        "".join(f"load {name} 0 \n" for name in names)
        + "".join(map(check, names))
        + f"| [ 0.1] fou: loading out-of-tree module\nlog\nunload fou 0 \n{REFUSED}log\nend\n"
    )


def holds(run: str, wanted: int = 3) -> bool:
    return slim.evaluate(list(guest.read_reports(run)), MODULES, "fou", wanted).holds


def test_a_good_run_holds() -> None:
    assert holds(good_run())
    assert not holds(good_run(), 4), "fewer modules than wanted must not do"
    assert holds(good_run().replace(REFUSED, "load fou 0 \n| [ 1.0] BPF: Invalid name\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(check("zlib"), "check zlib 4 abc\n", id="other bytes in sysfs"),
        pytest.param(check("fou"), "check fou absent\n", id="no BTF in sysfs"),
        pytest.param("load zlib 0 \n", "load zlib 1 insmod: x: No such device\n", id="no load"),
        pytest.param("| [ 0.1] ", "| [ 0.1] BPF: Invalid btf_info\n| ", id="complaint"),
        pytest.param(REFUSED, "load fou 0 \n", id="wrong ids are taken"),
        pytest.param(REFUSED + "log\n", "", id="wrong ids never tried"),
        pytest.param("end\n", "", id="guest died"),
    ],
)
def test_a_run_that_shows_less_does_not_hold(old: str, new: str) -> None:
    assert old in good_run()
    assert not holds(good_run().replace(old, new), 2)


def test_a_module_that_cannot_run_here_does_not_count() -> None:
    failure = "load {0} 1 insmod: x: No such device\npackage {0} 1 insmod: x: No such device\n"
    run = good_run().replace("load zlib 0 \n", failure.format("zlib"))
    assert holds(run, 2) and not holds(run, 3)
    run = good_run().replace("load nf-nat 0 \n", failure.format("nf-nat"))
    assert not holds(run, 2), "all that have .BTF_ids have to be loaded"


def test_modules_come_after_those_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slim, "FOLDER_OF", dict.fromkeys(("zlib", "nf-nat", "fou"), "net"))
    by_name = {module.name: module for module in reversed(MODULES)}
    assert [m.name for m in slim.choose(by_name, 0)] == ["fou", "zlib", "nf-nat"]
