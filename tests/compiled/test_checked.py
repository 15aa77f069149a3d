"""Protects the mode in which compiled functions check: what is out of range is raised and noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import btf
from btf.compiled import jit, target
from btf.format.scan import scan_types
from btf.types import btf as types_btf
from support.btfwriter import Writer
from support.paths import ROOT

pytestmark = pytest.mark.skipif(target.INTERPRETED, reason="functions run interpreted")
ROOM = 1 << 20

FUNCTIONS = """
import sys
import numpy as np
from btf.compiled.instructions import load64, store64
from btf.compiled.jit import CheckFailedError, PreparedCall, compiled

@compiled
def called(values, at):
    return np.int64(values[at])

@compiled
def element(values, rows, at):
    return called(values, at) + np.int64(rows[at, 1])

@compiled
def column(values, rows, at):
    return np.int64(rows[1, at])

@compiled
def stored(values, rows, number):
    values[1] = number
    return 0

@compiled
def cast(values, rows, number):
    return np.int64(np.uint32(number))

@compiled
def part(values, rows, stop):
    return len(values[1:stop])

@compiled
def tail(values, rows, start):
    return len(values[start:])

@compiled
def shifted(values, rows, by):
    return np.int64(1) << by

@compiled
def wide(values, rows, at):
    store64(values, at, load64(values, at))
    return 0

values, rows = np.arange(10, dtype=np.uint8), np.zeros((10, 3), np.uint32)
for name, *numbers in (
    ("element", 0, 9, 10, -1), ("column", 2, 3, -1), ("stored", 255, 256, -1),
    ("cast", 2**32 - 1, 2**32, -1), ("part", 1, 10, 11, 0, -1), ("tail", 10, 11, -1),
    ("shifted", 63, 64, -1), ("wide", 0, 2, 3, -1),
):
    function = globals()[name]
    prepared = PreparedCall(function, values, rows, 0)
    for number in numbers:
        outcomes = []
        prepared.set_argument(2, number)
        for call in (lambda: function(values, rows, number), prepared):
            try:
                outcomes.append(str(call()))
            except CheckFailedError as error:
                outcomes.append(str(error).split(": ")[-1])
        print(name, number, *sorted(set(outcomes)), sep=": ")
"""
OUTCOMES = """
element: 0: 0
element: 9: 9
element: 10: index 10
element: -1: index -1
column: 2: 0
column: 3: index 3
column: -1: index -1
stored: 255: 0
stored: 256: no uint8 is 256
stored: -1: no uint8 is -1
cast: 4294967295: 4294967295
cast: 4294967296: no uint32 is 4294967296
cast: -1: no uint32 is -1
part: 1: 0
part: 10: 9
part: 11: slice to 11
part: 0: 0
part: -1: slice to -1
tail: 10: 0
tail: 11: slice from 11
tail: -1: slice from -1
shifted: 63: -9223372036854775808
shifted: 64: shift by 64
shifted: -1: shift by -1
wide: 0: 0
wide: 2: 0
wide: 3: eight bytes at 3
wide: -1: eight bytes at -1
"""


def run(program: str, folder: Path) -> tuple[str, list[str]]:
    """Output of a program that runs in this mode, and the violations that it leaves."""
    script, violations = folder / "script.py", folder / "violations"
    script.write_text(program)
    env = {
        **os.environ, "SPLITBTF_CHECKED": str(violations), "PYTHONPATH": str(ROOT),
        "SPLITBTF_CACHE_DIR": str(folder / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, violations.read_text().splitlines()


@pytest.mark.slow
def test_what_is_out_of_range_is_raised_and_noted(tmp_path: Path) -> None:
    for _ in range(2):  # compiled, and from the store of machine code
        said, noted = run(FUNCTIONS, tmp_path)
        assert said == OUTCOMES.removeprefix("\n")
        wrong = [said for *_, said in (line.split(": ") for line in said.splitlines())]
        wrong = [said for said in wrong for _ in range(2) if " " in said]  # both ways to call
        assert [line.split(": ", 1)[1] for line in noted] == wrong
        assert all(line.startswith(f"{tmp_path}/script.py:") for line in noted)
        (tmp_path / "violations").unlink()


# -- a check that is broken on purpose

checked_only = pytest.mark.skipif(not target.CHECKED, reason="make test-checked runs it")


def scan_that_lets_all_pass(
    words: np.ndarray, kind_words: np.ndarray, *_: int
) -> np.ndarray | None:
    """As ``scan_types``, with no limit for type ids and names."""
    return scan_types(words, kind_words, ROOM, ROOM)


def types(reference: int) -> bytes:
    """Five types, one of which leads to the id ``reference``."""
    writer = Writer()
    number = writer.int("int", 4)
    writer.ptr(reference)
    writer.typedef("number", number)
    first = writer.struct("first", 16, [("to", number, 0), ("back", writer.next_id, 64)])
    writer.struct("second", 8, [("to", first, 0)])
    return writer.to_bytes()


def fingerprinted(data: bytes) -> object:
    return btf.fingerprints(btf.parse(data))


def deduplicated(data: bytes) -> object:
    return btf.dedup(btf.parse(data))


def indexed(data: bytes) -> object:
    return btf.BaseIndex.build(btf.parse(data))


OPERATIONS = {f.__name__: f for f in (deduplicated, fingerprinted, indexed)}


@checked_only
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_type_id_that_the_scan_lets_pass_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if ``scan`` were wrong: what relies on it leaves an array, and that is seen."""
    OPERATIONS[name](types(reference=5))
    with pytest.raises(btf.BtfError, match=r"refers to type \[6\], the last one is \[5\]"):
        OPERATIONS[name](types(reference=6))
    monkeypatch.setattr(types_btf, "scan_types", scan_that_lets_all_pass)
    monkeypatch.setattr(jit, "CHECKED", str(tmp_path / "violations"))
    OPERATIONS[name](types(reference=5))
    for reference in (6, 1000, 77_777):
        with pytest.raises(jit.CheckFailedError, match=r"\.py:\d+: index \d+"):
            OPERATIONS[name](types(reference))
    OPERATIONS[name](types(reference=5))
    assert len((tmp_path / "violations").read_text().splitlines()) == 3


@checked_only
def test_a_string_offset_that_the_scan_lets_pass_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types_btf, "scan_types", scan_that_lets_all_pass)
    monkeypatch.setattr(jit, "CHECKED", str(tmp_path / "violations"))
    good = types(reference=1)
    strings = btf.parse(good).str_end
    for offset in (strings + 1, 5 * strings, 1 << 19):
        bad = bytearray(good)
        bad[24:28] = offset.to_bytes(4, "little")  # the name of the first type
        with pytest.raises(jit.CheckFailedError, match=r"\.py:\d+: index \d+"):
            deduplicated(bytes(bad))
    assert len((tmp_path / "violations").read_text().splitlines()) == 3
