"""Protects against whatever files and folders may hold: a fixed part of what `make fuzz` does.

And that the fuzzer sees what it is there to see: every fault, whose it was, and what of the mutant
it needs.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btf
from fuzz import main, runner
from fuzz.btf_target import BtfTarget
from fuzz.containers import ContainerTarget, ManifestTarget
from fuzz.operations import MUTATES, OPERATIONS, Wrong
from fuzz.outputs import OutputTarget
from fuzz.runner import Verdict
from support.marks import every


def faults(target: Any, seeds: Sequence[int]) -> list[Verdict]:
    """All that is found, and that something was done and something refused."""
    target.prepare()
    verdicts = list(runner.run(target, seeds, 1, 200))
    assert sorted(verdict.seed for verdict in verdicts) == list(seeds)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    assert outcomes[runner.DONE] > len(seeds) // 10 and outcomes[runner.REFUSED] > 0
    return [verdict for verdict in verdicts if verdict.is_fault]


@pytest.mark.slow
def test_btf() -> None:
    """Every operation the same number of times."""
    assert faults(BtfTarget(), range(5 * len(OPERATIONS))) == []


@pytest.mark.slow
def test_containers() -> None:
    assert faults(ContainerTarget(), range(120)) == []


def test_manifests() -> None:
    assert faults(ManifestTarget(), range(100)) == []


@pytest.mark.slow
@every
def test_output_folders(every: int) -> None:
    assert faults(OutputTarget(), range(60 // every)) == []


@pytest.mark.slow
@every
def test_interpreted_functions_give_the_same(every: int) -> None:
    target = BtfTarget()
    target.prepare()
    seeds = range(5000, 5000 + len(OPERATIONS), 2 * every - 1)  # each operation at most once
    compiled = {verdict.seed: verdict for verdict in runner.run(target, seeds, 1, 100)}
    plain = main.interpreted(target, seeds)
    assert plain.keys() == compiled.keys()
    assert [seed for seed in seeds if main.differ(compiled[seed], plain[seed])] == []
    assert sum(verdict.outcome == runner.DONE for verdict in plain.values()) > len(seeds) // 4


def test_every_public_function_is_used() -> None:
    """What the library offers is in some operation, by its name."""
    folder = Path(__file__).parent
    used = "".join((folder / f"{name}.py").read_text() for name in ("operations", "analyses"))
    offered = {name for name in dir(btf) if callable(getattr(btf, name)) and name.islower()}
    offered = {name for name in offered if not name.startswith("_")} - {"import_module"}
    beside = {
        "release_workspaces", "make_ready", "warm_up", "load_base", "detect_form", "printable",
        "texts",  # under strange arguments
    }  # fmt: skip
    assert {name for name in offered - beside if f"btf.{name}(" not in used} == set()
    assert set(MUTATES.values()) == {"module", "base", "split", "ext"}


# ---------------------------------------------------------------------------------- it sees


class Clumsy:
    """Goes wrong in the way that its mutant, a list of words, says."""

    name = "clumsy"
    is_compiled = False

    def prepare(self) -> None:
        pass

    def mutant(self, seed: int) -> list[str]:
        words = ("fine", "crash", "hang", "traceback", "wrong", "memory", "refuse", "leave")
        return ["a", words[seed % len(words)], "b", "c", "d"]

    def group(self, mutant: list[str]) -> str:
        return mutant[1] if len(mutant) > 1 else "short"

    def size(self, mutant: list[str]) -> int:
        return 1

    def run(self, mutant: list[str]) -> Iterator[bytes]:
        if "crash" in mutant:
            faulthandler.disable()  # it is meant, and needs no traceback
            os.kill(os.getpid(), signal.SIGSEGV)
        while "hang" in mutant:
            pass
        if "memory" in mutant:
            signal.setitimer(signal.ITIMER_PROF, 0)  # however long this machine takes for it
            np.ones(runner.MEMORY_BYTES // 4)
        if "traceback" in mutant:
            raise IndexError("nobody said that")
        if "refuse" in mutant:
            raise btf.BtfError("no BTF at all", "/a/path", "types", 4, 7)
        if "leave" in mutant:
            os._exit(3)
        yield b"digest"
        if "wrong" in mutant:
            raise Wrong("2 is not 3")

    def allowed(self, mutant: list[str]) -> tuple[type[Exception], ...]:
        return ()

    def shrunk(self, mutant: list[str]) -> Iterator[list[str]]:
        for at in range(len(mutant)):
            yield mutant[:at] + mutant[at + 1 :]

    def files(self, mutant: list[str]) -> dict[str, bytes]:
        return {"words": " ".join(mutant).encode()}

    def again(self, group: str, seed: int, files: dict[str, bytes]) -> list[str]:
        return files["words"].decode().split()


EXPECTED = {
    "fine": (runner.DONE, ""), "crash": (runner.CRASH, "SIGSEGV"), "hang": (runner.HANG, "CPU"),
    "traceback": (runner.TRACEBACK, "IndexError: nobody said that"),
    "wrong": (runner.WRONG, "2 is not 3"), "memory": (runner.MEMORY, "MB for 1 bytes"),
    "refuse": (runner.REFUSED, "no BTF at all"), "leave": (runner.CRASH, "exit status 3"),
}  # fmt: skip


@pytest.mark.slow
def test_every_fault_is_seen_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "HANG_SECONDS", 0.3)  # of CPU
    verdicts = list(runner.run(Clumsy(), range(9), 2, 5))
    assert sorted(verdict.seed for verdict in verdicts) == list(range(9))
    for verdict in verdicts:
        outcome, words = EXPECTED[verdict.group]
        assert verdict.outcome == outcome and words in verdict.detail
        assert verdict.is_fault == (outcome not in (runner.DONE, runner.REFUSED))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3, 4])
def test_a_fault_is_made_small_and_can_be_run_again(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Clumsy()
    monkeypatch.setattr(main, "OUT", main.ROOT / "build" / "fuzz-test")
    monkeypatch.setitem(main.TARGETS, target.name, target)
    (fault,) = runner.run(target, [seed], 1, 1)
    mutant = main.shrink(target, seed, target.mutant(seed), fault)
    assert mutant == [fault.group]
    folder = main.write_reproducer(target, fault, mutant)
    assert main.again(folder).what == fault.what
    assert fault.outcome in (folder / "README.txt").read_text()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_seeds_give_the_same_mutants_always() -> None:
    for target in (BtfTarget(), ContainerTarget(), ManifestTarget()):
        mutants = [target.mutant(seed) for seed in (1, 2, 3, 2)]
        assert mutants[1] == mutants[3] and mutants[1] != mutants[0]


def test_reasons_are_without_what_differs() -> None:
    one = btf.BtfError("refers to type 77, the last one is 4", "/a/b.btf", "types", 12, 3)
    two = btf.BtfError("refers to type 9, the last one is 33", "/c.btf", "types", 0, 1)
    assert runner.reason(str(one)) == runner.reason(str(two))
    assert runner.reason(str(one)) == "refers to type # the last one is #"
    table = main.Table()
    for seed, group in enumerate(["x", "x", "y"]):
        table.add(Verdict(seed, group, runner.REFUSED, str(one)))
    lines = list(table.lines())
    assert lines[1].split()[:4] == ["x", "2", "0", "2"] and lines[-1].split()[0] == "3"
