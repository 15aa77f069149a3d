"""Starts splitbtf, and has ``btf``, ``pipeline`` and ``jobs`` be its own packages.

Others may have packages of these names: on PYTHONPATH, or in the folder where a command is started,
which Ray puts in front of the path of its workers. This package is installed beside ours under a
name that nobody else uses. Once it is imported, the three names lead to where it was installed,
whatever else is on the path; no other name is looked up differently.

The command ``splitbtf`` starts in ``main``; Ray's tasks import this package first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OURS = ("btf", "jobs", "pipeline")


def _home() -> str:
    """The folder that our packages are in: this one's too, but in a checkout it lies deeper."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.exists(os.path.join(here, "jobs", "cli.py"))
    return here if installed else os.path.dirname(os.path.dirname(here))


HOME = _home()


class _OurPackages:
    """Finds them, and nothing else."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [HOME]) if name in OURS else None


sys.meta_path.insert(0, _OurPackages())


def main() -> int:
    """Run the command line."""
    try:
        from jobs.cli import main

        return main()
    except KeyboardInterrupt:  # before the command line could say so
        return 130
