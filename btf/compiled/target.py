"""What compiled functions are made for: this processor, or a level of processors.

``NUMBA_DISABLE_JIT=1`` runs the same functions interpreted, for debugging and for the tests.
``SPLITBTF_BUILT_FOR`` makes machine code for a level of processors, to be shipped in a wheel; they
may be others than this one.
``SPLITBTF_CHECKED`` names a file, and has every index, slice, shift and narrowing of a number
checked: what fails is raised, and noted there. See ``compiler.checks``, and ``make test-checked``.
"""

from __future__ import annotations

import functools
import os
import sys

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
CHECKED = os.environ.get("SPLITBTF_CHECKED", "")

BUILDS = ("x86-64-v3", "aarch64")
BUILT_FOR = os.environ.get("SPLITBTF_BUILT_FOR", "")
if BUILT_FOR and BUILT_FOR not in BUILDS:
    raise ImportError(f"SPLITBTF_BUILT_FOR={BUILT_FOR}: only {', '.join(BUILDS)} can be built for")
# The flags of Linux that make out this level.
X86_64_V3 = {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"}


# Of the first processor in /proc/cpuinfo, on x86, ARM, POWER, RISC-V and s390.
_PROCESSOR_FACTS = (
    "vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer",
    "CPU variant", "CPU part", "cpu", "isa", "uarch", "features", "processor 0",
)  # fmt: skip


def processor() -> list[str]:
    """What identifies this kind of processor: its machine code runs on no other for sure."""
    return [os.uname().machine, *_facts().values()]


@functools.cache
def _facts() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            # There may be hundreds of processors, and each one takes its time.
            text = file.read(8192).partition("\n\n")[0]
    except OSError:
        text = f"model name: {os.uname()}"
    lines = (line.partition(":") for line in text.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    return {name: facts.get(name, "") for name in _PROCESSOR_FACTS}


def build_for_this() -> str | None:
    """Which of ``BUILDS`` this processor runs, if any."""
    if os.uname().machine == "aarch64" and sys.byteorder == "little":
        return "aarch64"
    return "x86-64-v3" if X86_64_V3.issubset(_facts()["flags"].split()) else None


# Whether machine code is kept that this processor does not run: what is kept is not called then.
FOREIGN = bool(BUILT_FOR) and build_for_this() != BUILT_FOR
