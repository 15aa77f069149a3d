"""Protects: a module that is worked on in a process of its own finds all that it needs imported:
else each one of a batch would import it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT
from support.trees import small_tree

PROGRAM = """\
import sys
from pipeline.engine.isolation import isolated
from pipeline.model.options import KernelContext, RunOptions
from pipeline.sources.discover import find_kernels
from pipeline.work.base import load_shared
from pipeline.work.batch import Shared, _alone, prepare

(kernel,) = find_kernels([sys.argv[1]])
prepare()
base, shared = load_shared(None, (kernel.bases[0], 0.0))
known = set(sys.modules)

def work(module):
    done = _alone(module, Shared(shared, {}), KernelContext(RunOptions((), "")))
    assert done.content, done.record
    return set(sys.modules) - known

print(*sorted(isolated(lambda: work(kernel.modules[0]), 600.0)))
"""


@pytest.mark.slow
def test_nothing_is_left_to_be_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(small_tree(tmp_path / "small"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr
