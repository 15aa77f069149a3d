"""Follow one module of ``run`` through the batch function: Python calls, files, changes of file.

    python benchmarks/module_path.py [--module xfs] [--verbose]

Counts, with ``sys.setprofile`` and nothing else, the calls of this project's own Python functions
while a batch of the demo is worked on: reading, deduplicating, describing, writing. A change of
file is a call into another file than the call before it. Machine code is not seen: it calls no
Python. Each case is shown for the first batch of a process, which also sets things up, and for
the steady state: the third batch.

batch of one    everything that the batch function does for a batch that holds this module alone
one more        what a batch of two takes more than a batch of one: the calls of a module, without
                those of the batch
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.files.storage import LocalFolder
from pipeline.model.base import SharedBase
from pipeline.model.engine import Batch
from pipeline.model.options import KernelContext, RunOptions
from pipeline.model.records import ModuleInput
from pipeline.sources.discover import find_kernels
from pipeline.work.base import load_base
from pipeline.work.batch import BatchOptions, Shared, prepare, run_batch

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "datasets" / "demo"
_OURS = tuple(f"{ROOT / package}/" for package in ("btf", "pipeline", "jobs"))
Steps = list[tuple[str, str]]  # (file, function) of each call


def follow(function: Callable[[], Any]) -> Steps:
    """The calls of this project's functions while ``function`` runs, in their order."""
    steps: Steps = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_OURS):
            steps.append((frame.f_code.co_filename, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return steps


def figures(steps: Steps) -> tuple[int, int, int]:
    """Calls, files, changes of file."""
    files = [file for file, _ in steps]
    changes = sum(one != other for one, other in itertools.pairwise(files))
    return len(files), len(set(files)), changes


def print_steps(steps: Steps) -> None:
    """The calls, a line for each stay in a file."""
    line: list[str] = []
    for number, (file, name) in enumerate(steps):
        line.append(name)
        if number + 1 == len(steps) or steps[number + 1][0] != file:
            print(f"  {Path(file).relative_to(ROOT)}: {' '.join(line)}")
            line = []


def batch_function(out: str) -> Callable[[Sequence[ModuleInput]], Any]:
    """The batch function on the demo's base, as ``run`` calls it, writing to the folder ``out``."""
    for name in ("btf", "results", "rows"):
        Path(out, name).mkdir()
    base = load_base(str(DEMO / "vmlinux.btf.zst"))
    shared = Shared(SharedBase.of(base.types, base.index), {})
    context = KernelContext(RunOptions((str(DEMO),), out), digest="0" * 64)
    options = BatchOptions(context, LocalFolder(out), "btf", "results", "rows")
    return lambda modules: run_batch(Batch(tuple(modules)), shared, options)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--module", default="xfs", help="a module of the demo (default: xfs)")
    parser.add_argument("--verbose", action="store_true", help="print the calls too")
    options = parser.parse_args()
    (kernel,) = find_kernels((str(DEMO),))
    modules = {module.name: module for module in kernel.modules}
    chosen = modules[options.module]
    other = next(module for module in kernel.modules if module is not chosen)
    prepare()
    with tempfile.TemporaryDirectory() as out:
        run = batch_function(out)
        of_one = [follow(lambda: run([chosen])) for _ in range(3)]
        of_two = [follow(lambda: run([other, chosen])) for _ in range(3)]
        of_other = follow(lambda: run([other]))
    print(f"{options.module:<32} {'calls':>6} {'files':>6} {'changes of file':>16}")
    for name, steps in (
        ("batch of one, first in a process", of_one[0]),
        ("batch of one, steady state", of_one[2]),
    ):
        print("{:<32} {:>6} {:>6} {:>16}".format(name, *figures(steps)))
    more = Counter(of_two[2]) - Counter(of_other)
    changes = figures(of_two[2])[2] - figures(of_other)[2]
    files = len({file for file, _ in more})
    print("{:<32} {:>6} {:>6} {:>16}".format("one more", more.total(), files, changes))
    if options.verbose:
        print_steps(of_one[2])


if __name__ == "__main__":
    main()
