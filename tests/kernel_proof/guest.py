"""The guest: an initramfs, a boot under qemu in software emulation, and what the guest reported.

Knows nothing of BTF; the steps and what their outcome means are the caller's.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel_proof.kernel_package import CannotRun

MEMORY = "1G"


@dataclass(frozen=True)
class Report:
    """One line of the guest: what a step gave. The kernel's lines are there for `log` only."""

    verb: str
    name: str = ""
    rest: str = ""
    lines: tuple[str, ...] = ()


def write_initramfs(path: Path, files: Mapping[str, tuple[int, bytes]]) -> None:
    """A cpio archive ("newc") of {path in the guest: (mode, content)}, with their folders."""
    folders = {str(p) for name in files for p in Path(name).parents if str(p) != "."}
    out = io.BytesIO()
    for number, name in enumerate(sorted(folders), 1):
        write_cpio_entry(out, number, name, 0o040755, b"")
    for number, (name, (mode, content)) in enumerate(files.items(), len(folders) + 1):
        write_cpio_entry(out, number, name, 0o100000 | mode, content)
    write_cpio_entry(out, 0, "TRAILER!!!", 0, b"")
    path.write_bytes(out.getvalue())


def write_cpio_entry(out: io.BytesIO, number: int, name: str, mode: int, content: bytes) -> None:
    # magic; inode, mode, uid, gid, links, time, size, device and its node (four), name size, check
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    out.write(b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0")
    out.write(bytes(-out.tell() % 4))
    out.write(content)
    out.write(bytes(-out.tell() % 4))


def boot(
    vmlinuz: Path, initramfs: Path, console: Path, reports: Path, timeout_seconds: float
) -> None:
    """Boots until the guest powers itself off; raises subprocess.TimeoutExpired if it does not.

    The CPU is qemu's own "max", which has the instructions that Debian's ciphers and kvm-amd ask
    for. The log buffer holds the whole log; a panic ends the run at once.
    """
    command = [
        "qemu-system-x86_64",
        *("-accel", "tcg", "-cpu", "max", "-m", MEMORY, "-smp", "1"),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *("-serial", f"file:{console}", "-serial", f"file:{reports}"),
        *("-kernel", str(vmlinuz), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 panic=-1 log_buf_len=4M"),
    ]
    done = subprocess.run(
        command, timeout=timeout_seconds, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise CannotRun(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")


def read_reports(text: str) -> Iterable[Report]:
    """The guest's reports in order. Lines that are none (a tool's stray words) are passed over."""
    kernel_lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("| "):
            kernel_lines.append(line[2:])
            continue
        verb, _, rest = line.partition(" ")
        if verb == "log":
            yield Report("log", lines=tuple(kernel_lines))
            kernel_lines = []
        elif verb in ("load", "package", "unload", "check"):
            name, _, rest = rest.partition(" ")
            yield Report(verb, name, rest.strip())
        elif verb == "end":
            yield Report("end")
