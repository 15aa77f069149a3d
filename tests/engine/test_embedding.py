"""Protects: a program that uses Ray itself, and has runs in several threads, keeps its Ray and its
environment, and its runs are done on that Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT
from support.trees import results_of, small_tree

pytestmark = pytest.mark.slow

PROGRAM = """\
import os, sys, threading
import ray
from pipeline.model.options import RunOptions
from pipeline.run import run

source, *outs = sys.argv[1:]
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
node, before, reports = ray.nodes()[0]["NodeID"], dict(os.environ), []

def begin(out):
    reports.append(run(RunOptions(sources=(source,), out=out)))

threads = [threading.Thread(target=begin, args=(out,)) for out in outs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert [report.workers for report in reports] == [1, 1], reports
assert os.environ == before, set(os.environ.items()) ^ set(before.items())
assert [found["NodeID"] for found in ray.nodes()] == [node]
assert ray.get(ray.remote(lambda: 5).remote()) == 5
print("done")
"""


def test_runs_in_a_program_with_a_ray_of_its_own(tmp_path: Path) -> None:
    source, outs = small_tree(tmp_path / "small"), [tmp_path / "one", tmp_path / "two"]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", PROGRAM, source, *outs]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "done", done.stderr
    assert "Traceback" not in done.stderr
    assert results_of(outs[0]) == results_of(outs[1]) != {}
