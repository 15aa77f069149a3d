"""Runs libbpf itself on files, through the small C program beside this file.

`system_oracle()` compiles it against the installed libbpf (Debian: libbpf-dev), once per content of
the program, into the user's cache folder; without compiler or headers it gives None, and the tests
that need it are skipped and say why. An installed libbpf is usually older than the contract, see
test_libbpf.py for what may then be compared.

`SPLITBTF_LIBBPF_ORACLE` names a binary to use instead, say one built on the contract's libbpf.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

from support.commands import under
from support.oracles import naive
from support.paths import TESTS

SOURCE = TESTS / "support" / "oracles" / "libbpf_oracle.c"
SECONDS = 10  # of CPU: libbpf does not finish on some inputs


TOO_OLD = 3  # exit status


class Refused(Exception):
    """libbpf gave an error, crashed or did not finish."""


class TooOld(Exception):
    """The installed libbpf cannot do that yet."""


class Oracle:
    """A compiled libbpf_oracle.c."""

    def __init__(self, program: str | Path) -> None:
        self.program = str(program)

    def run(self, mode: str, files: list[bytes]) -> naive.Result:
        """Types and strings that libbpf writes; id_map is empty, libbpf does not tell."""
        return sections(self.run_two(mode, files)[0])

    def run_two(self, mode: str, files: list[bytes]) -> tuple[bytes, bytes]:
        """What libbpf writes, and the second file of the modes ``ext`` and ``distill``."""
        with tempfile.TemporaryDirectory(prefix="splitbtf-oracle-") as folder:
            paths = [Path(folder, f"in{i}.btf") for i in range(len(files))]
            for path, data in zip(paths, files, strict=True):
                path.write_bytes(data)
            out, more = Path(folder, "out.btf"), Path(folder, "out.btf.more")
            command = under(f"-S -t {SECONDS}", command=[self.program, mode, out, *paths])
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == -signal.SIGXCPU:
                raise Refused(f"did not finish within {SECONDS} s")
            if done.returncode == TOO_OLD:
                raise TooOld(mode)
            if done.returncode:
                raise Refused(done.stderr.strip() or f"exit status {done.returncode}")
            return out.read_bytes(), more.read_bytes() if more.exists() else b""


def sections(data: bytes) -> naive.Result:
    """The two sections of a BTF file as they stand."""
    order = "<" if data[:2] == b"\x9f\xeb" else ">"
    hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from(order + "5I", data, 4)
    types, strings = hdr_len + type_off, hdr_len + str_off
    return naive.Result(
        data[types : types + type_len],
        data[strings : strings + str_len],
        {},
        order,
    )


def libbpf_version() -> str:
    done = subprocess.run(["pkg-config", "--modversion", "libbpf"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


@functools.cache
def system_oracle() -> Oracle | None:
    """The oracle on the installed libbpf, or None where it cannot be built."""
    given = os.environ.get("SPLITBTF_LIBBPF_ORACLE")
    if given:
        return Oracle(given)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splitbtf"
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = cache / f"libbpf_oracle-{key}"
    if not program.exists():
        with tempfile.TemporaryDirectory(prefix="splitbtf-oracle-") as folder:
            built = Path(folder) / "oracle"
            command = [compiler, "-O2", "-o", str(built), str(SOURCE), "-lbpf", "-lelf", "-lz"]
            if subprocess.run(command, capture_output=True).returncode:
                return None
            cache.mkdir(parents=True, exist_ok=True)
            staged = cache / f"{program.name}.{os.getpid()}"
            shutil.copy2(built, staged)
            staged.replace(program)  # another test process may be doing the same
    return Oracle(program)
