"""Measures splitbtf against libbpf on the same files: what ``make bench`` runs.

    python benchmarks/bench.py [--modules DIR --base FILE] [--repeat N] [--only SECTION,...]

Without --modules and --base the demo kernel of this repository is used; otherwise a folder of
standalone BTF files (``*.btf``) and a base, raw. Each section prints a table, and all of them end
up in RESULTS.md; with --append, after those that are there. A section that fails says so, and the
others are done. Nothing fails for being slow.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import changes
import columns
import load
import merge
import on_ray
import process
import speed
import whole
from inputs import Input, demo, given
from measure import QUICK_RUNS, QUICK_SECONDS, BenchError, Sides, build_program, run
from report import Table, machine_lines

Section = Callable[[Sides, Input], list[Table]]
SECTIONS: dict[str, Section] = {
    "throughput": speed.throughput,
    "base": speed.base_size,
    "growth": speed.growth,
    "hostile": speed.hostile_inputs,
    "load": load.load,
    "merge": merge.merge,
    "index": process.index,
    "start": process.start,
    "memory": process.memory,
    "workers": whole.workers,
    "job": whole.job,
    "tables": whole.tables,
    "driver": on_ray.driver,
    "lost_worker": on_ray.lost_worker,
    "at_once": on_ray.at_once,
    "columns": columns.columns,
    "report": whole.report,
    "changes": changes.changes,
}
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """\
# Results

Written by `make bench`. Both sides get the same files, in turns, on the same core (what takes two
workers excepted); times are medians, with the least and the most in parentheses.
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure splitbtf against libbpf.")
    parser.add_argument("--modules", type=Path, metavar="DIR", help="folder of standalone BTF")
    parser.add_argument("--base", type=Path, metavar="FILE", help="their base, raw BTF")
    parser.add_argument("--title", help="what to call the input in the results")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs (default: 3)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--only", metavar="SECTION,...", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--append", action="store_true", help="keep the results that are there")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    options.chosen = options.only.split(",") if options.only else list(SECTIONS)
    unknown = set(options.chosen) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if (options.modules is None) != (options.base is None):
        parser.error("--modules and --base go together")
    return options


def main() -> int:
    """Run the sections; returns how many failed."""
    options = _arguments()
    if options.base is None:
        source, title = demo(), options.title or "The demo kernel"
    else:
        source = given(options.base.resolve(), options.modules.resolve())
        title = options.title or "A kernel"
    sides = Sides(build_program(), options.core, options.repeat)
    libbpf = sides.peer_once(source.base, source.modules[:1])["libbpf"]
    _compile()
    heading = [
        f"## {title}",
        "",
        f"- input: {source.describe()}",
        *(f"- {line}" for line in machine_lines(libbpf)),
        f"- date: {datetime.date.today()}; runs of each: {options.repeat}; in the first two "
        f"sections {QUICK_RUNS} of splitbtf to one of the peer's where its work takes less than "
        f"{QUICK_SECONDS:g} s",
        "",
    ]
    written = [*heading]
    print("\n".join(heading), flush=True)
    failed = 0
    for name in options.chosen:
        text, good = _section(SECTIONS[name], name, sides, source)
        failed += not good
        written.append(text)
        print(text, flush=True)
    before = options.results.read_text() if options.append and options.results.exists() else HEAD
    options.results.write_text(before + "\n" + "\n".join(written).rstrip() + "\n")
    return failed


def _compile() -> None:
    """Whatever has to be compiled is so before anything is measured."""
    run([sys.executable, "-c", "import btf; btf.warm_up(tables=True)"])


def _section(section: Section, name: str, sides: Sides, source: Input) -> tuple[str, bool]:
    try:
        return "\n".join(table.markdown() for table in section(sides, source)), True
    except BenchError as error:
        return f"### {name}\n\nFailed: {error}\n", False
    except Exception as error:
        traceback.print_exc()
        return f"### {name}\n\nFailed: {type(error).__name__}\n", False


if __name__ == "__main__":
    sys.exit(main())
