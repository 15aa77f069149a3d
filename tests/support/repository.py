"""What belongs to this repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT


def tracked() -> list[Path]:
    """The repository's files (all that are not ignored)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
