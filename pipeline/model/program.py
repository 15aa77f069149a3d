"""What results depend on beside their inputs: this program, to the letter.

A version number would not do: it stays the same while the program is being changed, and results
of yesterday's program must not be taken for today's.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("numba", "numpy", "pyarrow", "pyelftools", "ray", "zstandard")
_DECISIVE = ("numpy", "pyarrow")  # of them the results could depend on
_PACKAGES = ("btf", "pipeline")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that matter."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = metadata.version(name)
    return found


@cache
def program_sha256() -> str:
    """Digest of all sources that have a say in results, and of the libraries' versions."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent.parent
    for package in _PACKAGES:
        for path in sorted((root / package).glob("**/*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name in _DECISIVE:
        digest.update(f"{name} {metadata.version(name)}\0".encode())
    return digest.hexdigest()
