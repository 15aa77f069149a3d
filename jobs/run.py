"""``splitbtf run``: whole kernels to split BTF and tables, on Ray or without."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING, Any

from pipeline.engine.registry import ENGINES
from pipeline.model.errors import CommandError
from pipeline.model.options import (
    DEFAULT_ENGINE,
    ENCODE_CHOICES,
    ENCODE_MISSING,
    ENCODE_SECONDS,
    MODULE_SECONDS,
)
from pipeline.model.stages import OF_RUN, OF_WORKERS, add_seconds

from .dedup import add_form
from .usage.parser import add_workers, json_object, seconds
from .usage.text import (
    arrays_lines,
    complain,
    failure_lines,
    plural,
    print_json,
    say,
    size,
    summary_lines,
    table,
)

if TYPE_CHECKING:
    from pipeline.commit import KernelReport
    from pipeline.run import RunReport

_FEW = 3  # kernels that the summary has some lines of each of; of more it has one
_MUCH = 0.05  # of what came, left by the build: worth asking why
DESCRIPTION = """\
Deduplicate the modules of whole kernels against their vmlinux, in parallel, and write split BTF
files and Parquet tables. A SOURCE is a folder with a kernel's vmlinux and modules, or a file. In a
folder, files that end in .btf or .ko (also compressed: .zst, .xz, .gz) are modules, and vmlinux,
vmlinux-RELEASE or vmlinux.btf is the base.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "run",
        help="deduplicate whole kernels in parallel, and write tables",
        description=DESCRIPTION,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="a folder or a file")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the output folder")
    parser.add_argument(
        "-B", "--base", metavar="FILE", help="the base of all modules (default: found in SOURCE)"
    )
    parser.add_argument(
        "--kernel", metavar="NAME", help="the kernel's name (default: its release, or its folder)"
    )
    parser.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        default=DEFAULT_ENGINE,
        help="what runs the workers: "
        + "; ".join(f"{name}: {engine.help}" for name, engine in ENGINES.items())
        + f" (default: {DEFAULT_ENGINE})",
    )
    add_workers(parser, "one per core")
    parser.add_argument(
        "--ray-address",
        metavar="A",
        help="an existing Ray cluster: HOST:PORT, ray://HOST:PORT, or auto for the one that this "
        "machine is a node of; local: start one here (default: $RAY_ADDRESS, else local)",
    )
    parser.add_argument(
        "--ray-runtime-env",
        type=json_object,
        metavar="JSON",
        help="what the nodes of that cluster are to make first, to have this splitbtf: Ray's "
        "runtime_env, or @FILE with it",
    )
    parser.add_argument(
        "--encode",
        choices=ENCODE_CHOICES,
        default=ENCODE_MISSING,
        help="of which modules pahole makes BTF, of those with DWARF: of those that have none of "
        "use, of all, or of none (default: missing)",
    )
    parser.add_argument(
        "--encode-seconds",
        type=seconds,
        default=ENCODE_SECONDS,
        metavar="S",
        help=f"how long pahole may take for a module (default: {ENCODE_SECONDS:.0f})",
    )
    parser.add_argument(
        "--module-seconds",
        type=seconds,
        default=MODULE_SECONDS,
        metavar="S",
        help=f"how long the rest may take for a module or a base (default: {MODULE_SECONDS:.0f})",
    )
    add_form(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="tell of each module whether the kernel would load its split BTF, as `splitbtf check` "
        "does (columns loads and check_error of the table modules)",
    )
    parser.add_argument(
        "--retry",
        action="store_true",
        help="try again what failed because a worker died or took too long",
    )
    parser.add_argument(
        "--work-folder",
        metavar="DIR",
        help="where packages are unpacked for a while (default: a hidden folder in OUT)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="print where the time went, by stage of the work"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    joins = ENGINES[options.engine].clusters
    if options.ray_address and not joins:
        able = " or ".join(name for name, engine in ENGINES.items() if engine.clusters)
        options.parser.error(f"--ray-address needs --engine {able}")
    address = options.ray_address or (os.environ.get("RAY_ADDRESS") if joins else None)
    if address == "local":
        address = None
    if options.ray_runtime_env is not None and not address:
        options.parser.error("--ray-runtime-env needs --ray-address")
    from pipeline.model.options import RunOptions
    from pipeline.run import run
    from pipeline.sources.debuginfod import settings_of

    reporter = options.reporter
    try:
        report = run(
            RunOptions(
                sources=tuple(options.source),
                out=options.output,
                base=options.base,
                kernel=options.kernel,
                engine=options.engine,
                workers=options.workers,
                ray_address=address or None,
                runtime_env=options.ray_runtime_env,
                encode=options.encode,
                encode_seconds=options.encode_seconds,
                module_seconds=options.module_seconds,
                retry=options.retry,
                work_folder=options.work_folder,
                form=options.form,
                check=options.check,
                debuginfod=settings_of(os.environ),
            ),
            announce=reporter.announce,
            progress=reporter.progress,
        )
    except KeyboardInterrupt:
        reporter.announce("what is done is kept: the same command again goes on from there")
        raise
    lost = [kernel for kernel in report.kernels if kernel.problem is not None]
    for kernel in lost:
        complain(
            f"kernel {kernel.kernel}: nothing could be made of it; what was there before stays",
            str(kernel.problem),
        )
    if options.json:
        print_json(_as_json(report))
    else:
        workers = f", on {report.engine} with {plural(report.workers, 'worker')}"
        if len(report.kernels) > _FEW:
            lines = _lines_of_many(report)
        else:
            lines = [line for one in report.kernels for line in _kernel_lines(one, report.out)]
        if options.profile:
            lines += _profile_lines(report)
        say([*lines, f"{report.total_seconds:.1f} s in all{workers if report.workers else ''}"])
    if len(lost) == len(report.kernels):
        return 2
    return 1 if lost or any(kernel.summary.failed for kernel in report.kernels) else 0


def _kernel_lines(kernel: KernelReport, out: str) -> list[str]:
    summary = kernel.summary
    if kernel.problem is not None:
        return [f"{kernel.kernel}: not done, see above"]
    lines = summary_lines(summary, _left_by(kernel, out))
    if not summary.modules:
        lines[0] = f"{kernel.kernel}: no modules, vmlinux alone"
    elif not kernel.worked:
        now = "nothing has changed" if not kernel.mended else "put together again"
        lines[0] = f"{kernel.kernel}: {lines[0]} before, {now}"
    elif kernel.worked < summary.modules:
        lines[0] = f"{kernel.kernel}: {lines[0]}, {kernel.worked:,} of them now"
    else:
        rate = summary.bytes_in / max(kernel.work_seconds, 1e-9)
        lines[0] = f"{kernel.kernel}: {lines[0]} in {kernel.work_seconds:.2f} s ({size(rate)}/s)"
    lines += _mended_lines(kernel)
    lines.append(f"  split BTF: {out}/{kernel.btf_folder}/")
    lines.append(f"  tables:    {out}/tables/*/kernel={kernel.kernel}/")
    return lines


def _profile_lines(report: RunReport) -> list[str]:
    """Where the time of all kernels went: what was waited for, and what workers did meanwhile."""
    stages: dict[str, float] = {}
    for kernel in report.kernels:
        add_seconds(stages, kernel.stages)
    waited = {name: stages.pop(name) for name in OF_RUN if name in stages}
    busy = sum(stages.values())
    rows = [("stage", "s", "of workers' time", "")]
    rows.append(("start", f"{report.start_seconds:.2f}", "", "until the engine was ready"))
    rows += [(name, f"{value:.2f}", "", OF_RUN[name]) for name, value in waited.items()]
    rows.append(("workers", f"{busy:.2f}", "100 %" if busy else "", "of which:"))
    for name in sorted(stages, key=lambda name: -stages[name]):
        share = f"{stages[name] / busy:.0%}".replace("%", " %")
        rows.append((f"  {name}", f"{stages[name]:.2f}", share, OF_WORKERS.get(name, "")))
    return ["where the time went:", *table(rows, (False, True, True, False), rule=True)]


def _mended_lines(kernel: KernelReport) -> list[str]:
    if not kernel.mended:
        return []
    more = f" and {len(kernel.mended) - 1:,} more" if len(kernel.mended) > 1 else ""
    return [f"  mended: {kernel.mended[0]}{more}, not as written before"]


def _lines_of_many(report: RunReport) -> list[str]:
    """A line for each kernel, and below them what went wrong."""
    rows = [("kernel", "modules", "now", "vmlinux", "BTF", "needed", "left")]
    below = []
    for kernel in report.kernels:
        if kernel.problem is not None:
            rows.append((kernel.kernel, "not done", "", "", "", "", ""))
            continue
        found = kernel.summary
        left = size(found.left_bytes) if found.left_types else ""
        rows.append(
            (kernel.kernel, f"{found.modules:,}", f"{kernel.worked:,}", size(found.base_bytes),
             size(found.bytes_in), size(found.bytes_out), left)
        )  # fmt: skip
        more = [*failure_lines(found.failures), *arrays_lines(found), *_mended_lines(kernel)]
        below += [f"{kernel.kernel}:", *more] if more else []
    lines = table(rows, (False, *[True] * 6), rule=True)
    if any(kernel.summary.left_types for kernel in report.kernels):
        lines.append("left: by builds in their modules' BTF, see `splitbtf audit`")
    return [*lines, *below, f"split BTF: {report.out}/btf/  tables: {report.out}/tables/"]


def _left_by(kernel: KernelReport, out: str) -> str:
    """What probably left types in the modules' BTF, where it is more than a little."""
    summary = kernel.summary
    if summary.left_bytes < _MUCH * summary.bytes_in or not summary.left_bytes:
        return ""
    from pipeline.analysis.audit import audit  # late: DuckDB

    with contextlib.suppress(CommandError):
        causes = audit(out, kernel.kernel)[0].causes
        return f", likely as {causes[0].name}: see `splitbtf audit`" if causes else ""
    return ""


def _as_json(report: RunReport) -> dict[str, Any]:
    """Sums over all kernels, and each kernel."""
    kernels = []
    for kernel in report.kernels:
        kernels.append(
            {
                "kernel": kernel.kernel,
                **kernel.summary.as_json(),
                "read": kernel.read,
                "worked": kernel.worked,
                "mended": list(kernel.mended),
                "problem": kernel.problem,
                "index_seconds": round(kernel.index_seconds, 6),
                "work_seconds": round(kernel.work_seconds, 6),
                "tables_seconds": round(kernel.tables_seconds, 6),
                "stages": {name: round(value, 6) for name, value in kernel.stages.items()},
                "btf": kernel.btf_folder,
                "tables": kernel.tables,
            }
        )
    sums = (
        "modules", "failed", "read", "worked", "bytes_in", "bytes_out", "types_in", "types_out",
        "left_types", "left_bytes", "kept_by_arrays", "index_seconds", "work_seconds",
    )  # fmt: skip
    tables: dict[str, list[str]] = {}
    for kernel in report.kernels:
        for name, paths in kernel.tables.items():
            tables.setdefault(name, []).extend(paths)
    return {
        **{name: sum(kernel[name] for kernel in kernels) for name in sums},
        "failures": [failure for kernel in kernels for failure in kernel["failures"]],
        "output": report.out,
        "tables": tables,
        "run_id": report.run_id,
        "engine": report.engine,
        "workers": report.workers,
        "start_seconds": round(report.start_seconds, 6),
        "total_seconds": round(report.total_seconds, 6),
        "kernels": kernels,
    }
