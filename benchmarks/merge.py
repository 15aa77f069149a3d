"""The section about merging: a base and all modules to one BTF, by whole processes in turns."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from inputs import Input
from measure import BenchError, Sides, build_program, splitbtf
from report import Sample, Table, seconds, size, times


def merge(sides: Sides, source: Input) -> list[Table]:
    """CPU time from start to end of a process, its peak of memory, and whether results agree."""
    modules = [path for path in source.modules if not path.samefile(source.base)]
    files = [str(path) for path in (source.base, *modules)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("libbpf", "splitbtf")]
        commands = [
            [build_program("peer_merge"), str(outputs[0]), *files],
            splitbtf("merge", *files, "-o", outputs[1]),
        ]
        _cpu_and_peak(commands[1])  # compiles, where that is still to be done
        runs = [[_cpu_and_peak(command) for command in commands] for _ in range(sides.repeat)]
        sections = [_sections(path.read_bytes()) for path in outputs]
        result = outputs[1].stat().st_size
    cpu = [Sample(tuple(run[side][0] for run in runs)) for side in (0, 1)]
    rows = tuple(
        (
            name,
            cpu[side].show(seconds),
            times(cpu[0].median / cpu[side].median),
            size(max(run[side][1] for run in runs)),
        )
        for side, name in enumerate(("libbpf", "splitbtf"))
    )
    same = "The same bytes." if sections[0] == sections[1] else "The results differ."
    note = f"{len(files)} files become {size(result)}. {same}"
    return [Table("Merge", ("", "CPU time", "speed", "peak memory"), rows, (note,))]


def _cpu_and_peak(command: Sequence[str]) -> tuple[float, int]:
    """Run a command: CPU seconds and bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{command[0]}: status {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _sections(content: bytes) -> bytes:
    """A BTF file without its header, of which versions write more or less."""
    return content[int.from_bytes(content[4:8], "little") :]
