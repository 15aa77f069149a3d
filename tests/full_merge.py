"""Merges a whole kernel, and compares the memory that takes with what comes of it.

    python tests/full_merge.py PACKAGE|FOLDER...

For each, and for a kernel of two types, a process merges all of it: the peak of what is resident,
less that of the small kernel, may be three times the result. The package's files are merged once
more from a folder, where modules are as the package has them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.sources.packages import opens_as_package
from support.btfwriter import Writer

MOST = 3


def peak(*sources: str | Path) -> tuple[int, int, float]:
    """Merge: bytes at the peak, of the result, and seconds of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "all.btf")
        command = [sys.executable, "-m", "jobs", "merge", *map(str, sources), "-o", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        return used.ru_maxrss << 10, out.stat().st_size, used.ru_utime + used.ru_stime


def small(folder: Path) -> list[Path]:
    """A vmlinux with one type, and a module with another."""
    base = Writer()
    base.int("int", 4)
    split = Writer(base=base)
    split.ptr(1)
    files = [folder / "vmlinux.btf", folder / "m.btf"]
    for file, writer in zip(files, (base, split), strict=True):
        file.write_bytes(writer.to_bytes())
    return files


def main(sources: list[str]) -> int:
    """Measure all; returns the exit status."""
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        tiny = small(Path(temporary))
        peak(sources[0])  # compiles, where that is still to be done
        start, _, _ = peak(*tiny)
        print(f"start: {start / 2**20:.1f} MiB")
        for number, source in enumerate(sources):
            given = [source]
            if opens_as_package(source):
                unpacked = Path(temporary, str(number))
                subprocess.run(["dpkg-deb", "-x", source, unpacked], check=True)
                given.append(str(unpacked))
            for one in given:
                most, result, seconds = peak(one)
                times = (most - start) / result
                failed += times > MOST
                print(
                    f"  {one}: {(most - start) / 2**20:.1f} MiB for {result / 2**20:.1f} MiB, "
                    f"{times:.2f} times, {seconds:.1f} s of CPU{'' if times <= MOST else ': MORE'}"
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
