"""What the tests of the dump share: demo BTF standalone and split, bpftool, gcc and pahole."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import zstandard

import btf
from support.paths import DEMO


def unpacked(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


def module_names(folder: Path = DEMO) -> list[str]:
    return [path.name.split(".")[0] for path in sorted((folder / "modules").iterdir())]


def standalone(name: str, folder: Path = DEMO) -> btf.BTF:
    """A demo module as the package has it."""
    return btf.parse(unpacked(folder / "modules" / f"{name}.btf.zst"))


@functools.cache
def index(folder: Path = DEMO) -> btf.BaseIndex:
    return btf.BaseIndex.build(base(folder))


@functools.cache
def base(folder: Path = DEMO) -> btf.BTF:
    return btf.parse(unpacked(folder / "vmlinux.btf.zst"))


@functools.cache
def split(name: str, folder: Path = DEMO) -> btf.BTF:
    """What deduplication makes of a demo module."""
    return btf.dedup_split(standalone(name, folder), index(folder)).btf


def encoded(chunks: Iterable[str]) -> bytes:
    """A dump as the command line writes it."""
    return "".join(chunks).encode()


def find(program: str) -> str | None:
    """Where a program is; bpftool may be where only root looks."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")


def comparisons() -> tuple[list[str], list[str]]:
    """Programs to compare with: those that are installed, with their versions, and the others."""
    found, missing = [], []
    for program in ("bpftool", "pahole", "gcc", "dpkg-deb", "debuginfod"):
        path = find(program)
        if path is None:
            missing.append(program)
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"\d+(\.\d+)+", said)
        found.append(f"{program} {version[0]}" if version else program)
    return found, missing


def need(*programs: str) -> None:
    """Skip, and say so, where a program to compare with is not installed."""
    for program in programs:
        if find(program) is None:
            pytest.skip(f"NOT RUN: no {program} to compare with")


def bpftool(path: Path, base_path: Path | None = None, options: Sequence[str] = ()) -> bytes:
    """What bpftool prints of a file."""
    program = find("bpftool")
    assert program is not None
    split_of = ["-B", str(base_path)] if base_path is not None else []
    command = [program, *options, *split_of, "btf", "dump", "file", str(path)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def gcc(*arguments: object) -> subprocess.CompletedProcess[str]:
    # Notes on bit-fields in packed structs are about GCC before 4.4.
    command = ["gcc", "-Wno-packed-bitfield-compat", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def compiled(*headers: Path) -> str:
    """What gcc has to say about headers: "" when all is well."""
    done = gcc("-Wall", "-Werror", "-Wno-unknown-pragmas", "-fsyntax-only", "-xc", *headers)
    return done.stderr or ("" if done.returncode == 0 else "gcc failed")


def encoded_by_pahole(source: Path) -> btf.BTF:
    """The BTF that pahole makes of every type in a C file."""
    objects, out = source.with_suffix(".o"), source.with_suffix(".btf")
    done = gcc("-w", "-g", "-fno-eliminate-unused-debug-types", "-c", "-xc", source, "-o", objects)
    assert done.returncode == 0, done.stderr
    subprocess.run(["pahole", "--btf_encode_detached", str(out), str(objects)], check=True)
    return btf.parse(out.read_bytes())
