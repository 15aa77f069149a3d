"""Fuzzes: `make fuzz` runs this, `make fuzz FUZZ_ARGS=--help` says with what.

Every seed is one mutant, always the same. What comes of it is counted: done (and checked against
other ways to the same result), refused with a message, or a fault: a crash, a hang, an exception
that nobody documents, a wrong success, too much memory. A fault is made small and written to
build/fuzz, with how to run it again. Exit status 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import btf
from fuzz import operations, runner
from fuzz.btf_target import BtfTarget
from fuzz.containers import ContainerTarget, ManifestTarget
from fuzz.outputs import OutputTarget
from fuzz.runner import FAULTS, HANG, MEMORY, Verdict
from support.modes import deduplicated
from support.oracles import oracle_libbpf
from support.paths import ROOT, TESTS

_ALL = (BtfTarget(), ContainerTarget(), ManifestTarget(), OutputTarget())
TARGETS: dict[str, Any] = {target.name: target for target in _ALL}
OUT = ROOT / "build" / "fuzz"
BATCH = 2500  # mutants of one process, which copies bit by bit what it shares at first
SLOWER = 100  # what interpreted functions are, at most
SHRINK_TRIALS = {HANG: 12, MEMORY: 40}  # else:
MORE_TRIALS = 250
REASONS = 40  # of refusals, in the table


class Table:
    """Counts of outcomes, by what was done and by reason."""

    def __init__(self) -> None:
        self.groups: dict[str, Counter[str]] = {}
        self.reasons: Counter[str] = Counter()

    def add(self, verdict: Verdict) -> None:
        self.groups.setdefault(verdict.group, Counter())[verdict.outcome] += 1
        if verdict.outcome == runner.REFUSED:
            self.reasons[runner.reason(verdict.detail)] += 1

    def lines(self) -> Iterator[str]:
        columns = ("mutants", runner.DONE, runner.REFUSED, runner.UNCHECKED, *FAULTS)
        yield "".join([f"{'':28}", *(f"{column:>10}" for column in columns)])
        total: Counter[str] = Counter()
        for group, counts in sorted(self.groups.items()):
            counts["mutants"] = sum(counts[column] for column in columns[1:])
            total += counts
            yield "".join([f"{group:28}", *(f"{counts[c]:>10,}" for c in columns)])
        yield "".join([f"{'all':28}", *(f"{total[c]:>10,}" for c in columns)])
        yield ""
        yield f"refused, by reason ({len(self.reasons)}):"
        for text, count in self.reasons.most_common(REASONS):
            yield f"{count:>10,}  {text}"


def shrink(target: Any, seed: int, mutant: Any, fault: Verdict) -> Any:
    """A smaller mutant with the same fault."""
    trials, smaller = SHRINK_TRIALS.get(fault.outcome, MORE_TRIALS), True
    while smaller and trials:
        smaller = False
        for candidate in target.shrunk(mutant):
            if trials == 0:
                break
            trials -= 1
            if runner.run_alone(target, seed, candidate).what == fault.what:
                mutant, smaller = candidate, True
                break
    return mutant


def write_reproducer(target: Any, fault: Verdict, mutant: Any) -> Path:
    """A folder with the files of a fault, and what it is."""
    name = f"{target.name}-{fault.group.replace(' ', '-')}-{fault.outcome}-{fault.seed}"
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, data in target.files(mutant).items():
        (folder / file).write_bytes(data)
    facts = {"target": target.name, "group": fault.group, "seed": fault.seed}
    (folder / "mutant.json").write_text(json.dumps(facts))
    (folder / "README.txt").write_text(
        f"{fault.group}: {fault.outcome}\n\n{fault.detail}\n\n"
        f"again: make fuzz FUZZ_ARGS='--again {folder.relative_to(ROOT)}'\n"
    )
    return folder


def again(folder: Path) -> Verdict:
    """Run a reproducer."""
    facts = json.loads((folder / "mutant.json").read_text())
    target = TARGETS[facts["target"]]
    target.prepare()
    files = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("mutant.json", "README.txt")
    }
    mutant = target.again(facts["group"], facts["seed"], files)
    return runner.run_alone(target, facts["seed"], mutant)


def fuzz_target(target: Any, seeds: Sequence[int], processes: int, table: Table) -> list[Verdict]:
    """All seeds of a target; the faults, each of its kind written once."""
    target.prepare()
    began, seen, faults = time.monotonic(), Counter[tuple[str, str, str]](), []
    for count, verdict in enumerate(runner.run(target, seeds, processes, BATCH), 1):
        table.add(verdict)
        if verdict.is_fault:
            faults.append(verdict)
            kind = (verdict.group, *verdict.what)
            seen[kind] += 1
            if seen[kind] == 1:
                report(target, verdict)
        if count % 2000 == 0:
            seconds = time.monotonic() - began
            print(f"  {target.name}: {count:,} of {len(seeds):,}, {len(faults)} faults, "
                  f"{seconds:.0f} s", flush=True)  # fmt: skip
    return faults


def report(target: Any, fault: Verdict) -> None:
    """Make a fault small, write it, and say where it is."""
    mutant = shrink(target, fault.seed, target.mutant(fault.seed), fault)
    folder = write_reproducer(target, fault, mutant)
    last = fault.detail.strip().splitlines()[-1] if fault.detail else ""
    print(f"FAULT {fault.group}: {fault.outcome}: {last[:200]}\n      {folder}", flush=True)


def interpreted(target: Any, seeds: Sequence[int]) -> dict[int, Verdict]:
    """The same seeds in a process whose compiled functions are interpreted."""
    command = [sys.executable, "-m", "fuzz.main", "--only", target.name, "--print-verdicts"]
    command += ["--seeds", ",".join(map(str, seeds))]
    env = {
        **os.environ,
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}",
    }
    found = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seed, group, outcome, digest, detail = json.loads(line)
            found[seed] = Verdict(seed, group, outcome, detail, bytes.fromhex(digest))
    return found


def differ(compiled: Verdict, plain: Verdict) -> bool:
    """Whether compiled and interpreted functions give another result, or refuse otherwise."""
    if plain.outcome in (runner.HANG, runner.UNCHECKED, runner.MEMORY) or compiled.is_fault:
        return False  # interpreted functions are slow
    return (compiled.outcome, compiled.digest) != (plain.outcome, plain.digest)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="mutants of each target")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", choices=TARGETS, action="append", help="one target, or several")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--check-every", type=int, default=1, metavar="N",
                        help="only one of N is compared with other ways: faster")  # fmt: skip
    parser.add_argument("--interpreted", type=int, default=0, metavar="N",
                        help="compare N of them with interpreted functions: slow")  # fmt: skip
    parser.add_argument("--libbpf", type=int, default=0, metavar="N",
                        help="compare N of them with libbpf, where there is one")  # fmt: skip
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="run a reproducer")
    parser.add_argument("--seeds", help=argparse.SUPPRESS)
    parser.add_argument("--print-verdicts", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    runner.check_every = given.check_every
    if given.again:
        verdict = again(given.again)
        print(f"{verdict.group}: {verdict.outcome}\n{verdict.detail}")
        return int(verdict.is_fault)
    seeds: Sequence[int] = range(given.first, given.first + given.count)
    if given.seeds:
        seeds = list(map(int, given.seeds.split(",")))
    targets = [TARGETS[name] for name in given.only or TARGETS]
    if given.print_verdicts:
        runner.HANG_SECONDS *= SLOWER
        runner.CHECK_SECONDS *= SLOWER
        targets[0].prepare()
        for verdict in runner.run(targets[0], seeds, 1, BATCH):
            print(json.dumps([verdict.seed, verdict.group, verdict.outcome, verdict.digest.hex(),
                              verdict.detail]), flush=True)  # fmt: skip
        return 0
    table, faults = Table(), []
    try:
        for target in targets:
            faults += fuzz_target(target, seeds, given.processes, table)
            faults += compare_interpreted(target, seeds, given.interpreted, table)
        if given.libbpf:
            compare_libbpf(seeds, given.libbpf)
    except KeyboardInterrupt:
        print("stopped: this is what came of the mutants so far")
    print("\n".join(table.lines()))
    return int(bool(faults))


def compare_interpreted(
    target: Any, seeds: Sequence[int], count: int, table: Table
) -> list[Verdict]:
    """Run some seeds both ways."""
    if not count or not target.is_compiled:
        return []
    some = seeds[:: max(1, len(seeds) // count)]
    compiled = {verdict.seed: verdict for verdict in runner.run(target, some, 1, BATCH)}
    faults = []
    for seed, plain in interpreted(target, some).items():
        group, outcome = "interpreted: the same", runner.DONE
        if differ(compiled[seed], plain):
            outcome = runner.WRONG
            detail = f"compiled: {compiled[seed]}, interpreted: {plain}"
            fault = Verdict(seed, compiled[seed].group, outcome, detail)
            faults.append(fault)
            print(f"FAULT {write_reproducer(target, fault, target.mutant(seed))}: {detail[:300]}")
        table.add(Verdict(seed, group, outcome))
    return faults


def compare_libbpf(seeds: Sequence[int], count: int) -> None:
    """Ask libbpf too, and print where it is of another opinion.

    That is no fault by itself: an older libbpf gives other results, and every one differs as
    docs/differences.md says. SPLITBTF_LIBBPF_ORACLE names the one of the contract.
    """
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        print("NOT RUN: libbpf was not asked; needs gcc and libbpf-dev")
        return
    target = BtfTarget()
    names = list(operations.OPERATIONS)
    wanted = [seed for seed in seeds if names[seed % len(names)] in operations.LIKE_LIBBPF]
    asked, others = 0, []
    for seed in wanted[:: max(1, len(wanted) // count)]:
        name, files = target.mutant(seed)
        mode, given = operations.LIKE_LIBBPF[name](files)
        try:
            theirs = oracle.run(mode, given)
            ours = deduplicated(mode, given).btf
        except (oracle_libbpf.Refused, btf.BtfError):
            continue
        asked += 1
        if operations.of(ours) != (theirs.types, theirs.strings):
            others.append(seed)
    print(f"libbpf: the same {asked - len(others)} of {asked}; other results for {others}")


if __name__ == "__main__":
    sys.exit(main())
