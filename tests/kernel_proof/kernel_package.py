"""Debian's kernel packages: getting one, unpacking it, finding a file in it."""

from __future__ import annotations

import subprocess
from pathlib import Path


class CannotRun(Exception):
    """The proof could not be attempted; says what is missing or not as it should be."""


def download(package: str, version: str, cache: Path) -> Path:
    """The path of a package's .deb in the cache folder, which apt-get fills when need be."""
    deb = cache / f"{package}_{version}_amd64.deb"
    if not deb.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "-q", "download", f"{package}={version}"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        if done.returncode or not deb.exists():
            raise CannotRun(
                f"{' '.join(command)} failed: {done.stderr.strip()}\n"
                f"Is Debian bookworm (with its security updates) among apt's sources, and was "
                f"'apt-get update' run? A .deb from elsewhere can be named as an option."
            )
    return deb


def unpack(deb: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    command = ["dpkg-deb", "-x", str(deb), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{' '.join(command)} failed: {done.stderr.strip()}")


def only_match(root: Path, pattern: str) -> Path:
    """The one path under root that matches the pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise CannotRun(f"{root}: {len(found)} files match {pattern}, wanted one")
    return found[0]
