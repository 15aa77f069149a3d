"""Coverage-guided: `make fuzz FUZZ_ENGINE=atheris` runs this, with atheris, Google's libFuzzer for
Python.

It sees Python code only, so the compiled functions are interpreted (NUMBA_DISABLE_JIT=1). Inputs
are seeds of `mutate.mutated` in a row, each applied to what the one before has made: libFuzzer
keeps the rows that reach new code, and makes them longer. What is found is written to build/fuzz by
libFuzzer, and run again by naming its file.

FUZZ_ARGS are libFuzzer's: `-runs=10000`, `-max_total_time=600`, a folder to keep the corpus in.
"""

from __future__ import annotations

import contextlib
import random
import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["btf"]):
    import btf

    for public in dir(btf):
        getattr(btf, public)

from fuzz import analyses, corpus, mutate
from fuzz.operations import ALLOWED, MUTATES, OPERATIONS, Files
from support.paths import ROOT

assert analyses.__name__  # which are operations too
STEP = 4  # bytes of a seed
TYPES = 300  # interpreted functions are slow
NAMES = [
    name for name, what in MUTATES.items() if what == "module" and name != "dump c"
]  # which would ask a compiler


def mutant(data: bytes) -> tuple[str, Files]:
    """What an input describes: an operation, a small kernel, then changes of its module."""
    head = data[:2].ljust(2, b"\0")
    subjects = corpus.subjects()
    subject = subjects[head[1] % len(subjects)]
    module = subject.module
    for at in range(2, len(data), STEP):
        with contextlib.suppress(Exception):  # what cannot be read any more is left as it is
            draft = mutate.draft(module)
            if len(draft.types) < TYPES:
                module = mutate.mutated(draft, random.Random(data[at : at + STEP]))
    files = Files(subject.base, module, subject.split, subjects[0].module, subject.ext, len(data))
    return NAMES[head[0] % len(NAMES)], files


def one_input(data: bytes) -> None:
    """One operation; an exception that nobody documents ends the run."""
    name, files = mutant(data)
    with contextlib.suppress(btf.BtfError, *ALLOWED.get(name, ())):
        next(OPERATIONS[name](files), None)


if __name__ == "__main__":
    folder = ROOT / "build" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    limits = [
        "-max_len=82",
        "-timeout=300",
        "-report_slow_units=300",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], one_input)
    atheris.Fuzz()
