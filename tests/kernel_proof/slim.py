"""Proof that a running kernel takes the modules that `splitbtf slim` writes, kfuncs and all.

Boots Debian's kernel 7.2.13 under qemu, loads its modules as `splitbtf slim` has written them, each
after those that it needs, and compares /sys/kernel/btf/MODULE with the .BTF in them. All modules
that have .BTF_ids are among them: the kernel looks at each id when they register what BPF programs
may call. A module that is not loaded is no failure if the package's own file is not loaded either.
Last, one of those with .BTF_ids is loaded with our .BTF and the ids of before, and has to be
refused; so the proof can fail.

    .venv/bin/python tests/kernel_proof/slim.py [--modules N] [--slim DIR] [PACKAGE...]

PACKAGE: the two packages of the kernel; default: what `splitbtf fetch` gets. DIR: what was written
of them before. Exit code: 0 everything was shown, 1 something was refuted or too little shown, 2 it
could not run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from btf.files.decompress import FOR_FILES, find
from kernel_proof import guest, kernel_package, prove
from kernel_proof.kernel_package import CannotRun
from kernel_proof.module_file import ModuleFile, kernel_name
from support.paths import ROOT

KERNEL = "debian-7.2.13+deb14-cloud-amd64"
FOLDERS = ("net", "crypto", "fs", "lib")  # which need no hardware
SPARE = 1.15  # modules that are tried for each one wanted: some find no hardware in the guest
SPLITBTF = str(Path(sys.executable).with_name("splitbtf"))


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def packages(given: Sequence[Path], cache: Path) -> list[Path]:
    """The packages of the kernel's image and of its modules."""
    if given:
        return list(given)
    run(SPLITBTF, "fetch", KERNEL, "-o", str(cache))
    return sorted((cache / KERNEL).glob("*.deb"))


def unpacked_modules(folder: Path, to: Path) -> dict[str, ModuleFile]:
    """All modules below a folder, decompressed, by the kernel's names for them."""
    to.mkdir(parents=True)
    found = {}
    for path in sorted(folder.rglob("*.ko*")):
        stored = path.read_bytes()
        compression = find(stored, FOR_FILES)
        target = to / f"{path.name.partition('.')[0]}.ko"
        target.write_bytes(compression.decompress(stored) if compression else stored)
        found[kernel_name(target.stem)] = ModuleFile(target)
        folders = path.parts[path.parts.index("kernel") + 1 :]
        FOLDER_OF[kernel_name(target.stem)] = folders[0]
    return found


FOLDER_OF: dict[str, str] = {}


def choose(modules: dict[str, ModuleFile], wanted: int) -> list[ModuleFile]:
    """Those with .BTF_ids, and as many others as are wanted, each after those that it needs."""
    chosen: dict[str, ModuleFile] = {}

    def take(name: str) -> None:
        if name not in chosen and name in modules:
            for needed in modules[name].depends:
                take(needed)
            chosen[name] = modules[name]

    for name, module in modules.items():
        if module.btf_ids:
            take(name)
    for name in modules:
        if len(chosen) < wanted and FOLDER_OF[name] in FOLDERS:
            take(name)
    return list(chosen.values())


def load(
    vmlinuz: Path,
    chosen: Sequence[ModuleFile],
    victim: ModuleFile,
    shipped: dict[str, ModuleFile],
    work: Path,
) -> list[guest.Report]:
    """Boot, load the modules, and read their BTF; then load the victim with the ids of before."""
    steps = [f"load {m.name} /slim/{m.stem}.ko /package/{m.stem}.ko" for m in chosen]
    steps += [f"check {m.name}" for m in chosen] + ["log"]
    steps += [f"unload {victim.name}", f"load {victim.name} /wrong.ko", "log"]
    files = {
        "init": (0o755, (prove.HERE / "init").read_bytes()),
        "bin/busybox": (0o755, prove.static_busybox()),
        "steps": (0o644, "".join(f"{step}\n" for step in steps).encode()),
    }
    wrong = victim.with_btf(victim.btf, shipped[victim.name].btf_ids)
    files["wrong.ko"] = (0o644, wrong)
    for module in chosen:
        files[f"slim/{module.stem}.ko"] = (0o644, module.path.read_bytes())
        files[f"package/{module.stem}.ko"] = (0o644, shipped[module.name].path.read_bytes())
    guest.write_initramfs(work / "initramfs.cpio", files)
    console, reports = work / "console.txt", work / "reports.txt"
    guest.boot(vmlinuz, work / "initramfs.cpio", console, reports, 3600)
    return list(guest.read_reports(reports.read_text(errors="replace")))


@dataclass
class Seen:
    """What the guest reported, and whether it is what is claimed."""

    lines: list[str]
    holds: bool


def evaluate(
    every: Sequence[guest.Report], chosen: Sequence[ModuleFile], victim: str, wanted: int
) -> Seen:
    """Judge the reports: those of all modules, and, after the first log, those of the victim with
    the ids of before."""
    logs = [at for at, report in enumerate(every) if report.verb == "log"]
    if len(logs) != 2:
        return Seen([f"the guest ended after {len(every)} steps"], False)
    reports, of_wrong = every[: logs[0]], every[logs[0] + 1 :]
    loads, from_package, checks = (
        {report.name: report for report in reports if report.verb == verb}
        for verb in ("load", "package", "check")
    )
    verdicts = prove.judge(
        [prove.Candidate(module, "package", module.btf, b"") for module in chosen],
        {name: report.rest for name, report in loads.items()},
        {name: report.rest for name, report in from_package.items()},
        checks,
    )
    complaints = prove.complaints(every[logs[0]])
    refusals = [r.rest for r in of_wrong if r.verb == "load" and not r.rest.startswith("0")]
    refusals += prove.complaints(every[logs[1]])
    outcomes = {v.module: v.outcome for v in verdicts}
    with_ids = [module.stem for module in chosen if module.btf_ids]
    proven_ids = [stem for stem in with_ids if outcomes[stem] == "proven"]
    proven = sum(outcome == "proven" for outcome in outcomes.values())
    failed = [v for v in verdicts if v.outcome == "failed"]
    lines = [
        *(f"{v.outcome} {v.module}: {v.why}" for v in verdicts if v.outcome != "proven"),
        *(f"complaint: {line}" for line in complaints),
        f"loaded, and /sys/kernel/btf/MODULE is our .BTF: {proven} of {len(chosen)}",
        f"  with .BTF_ids: {len(proven_ids)} of {len(with_ids)}: {', '.join(proven_ids)}",
        f"failed: {len(failed)}, complaints in the kernel's log: {len(complaints)}",
        f"{victim} with the ids of before: {'; '.join(refusals) or 'TAKEN'}",
    ]
    holds = (
        every[-1].verb == "end"
        and proven >= wanted
        and with_ids != []
        and proven_ids == with_ids
        and not failed
        and not complaints
        and refusals != []
    )
    return Seen(lines, holds)


def show(options: argparse.Namespace, work: Path) -> bool:
    """Make the modules, load them, print what was seen; whether it is what is claimed."""
    given = packages(options.package, options.cache)
    for package in given:
        kernel_package.unpack(package, work / "package")
    made = options.slim
    if made is None:
        made = work / "made"
        run(SPLITBTF, "slim", *map(str, given), "-o", str(made))
    shipped = unpacked_modules(work / "package", work / "shipped")
    slim = unpacked_modules(made, work / "slim")
    chosen = choose(slim, round(options.modules * SPARE))
    smaller = sum(len(m.btf) < len(shipped[m.name].btf) for m in chosen)
    needed = {name for module in chosen for name in module.depends}
    victim = next(m for m in chosen if m.btf_ids and m.name not in needed)
    vmlinuz = kernel_package.only_match(work / "package", "**/vmlinuz*")
    began = time.monotonic()
    reports = load(vmlinuz, chosen, victim, shipped, work)
    seen = evaluate(reports, chosen, victim.stem, options.modules)
    print(f"{given[0].stem}, the guest ran for {time.monotonic() - began:.0f} s")
    print(f"modules with less .BTF than the package's: {smaller} of {len(chosen)}")
    print(*seen.lines, sep="\n")
    return seen.holds and smaller == len(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("package", nargs="*", type=Path, metavar="PACKAGE")
    parser.add_argument("--modules", type=int, default=300, metavar="N", help="load at least N")
    parser.add_argument("--slim", type=Path, metavar="DIR", help="modules that were made before")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "packages", metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="kernel-proof-") as work:
            holds = show(options, Path(work))
    except (CannotRun, OSError, subprocess.TimeoutExpired) as error:
        print(f"kernel proof: cannot run: {error}", file=sys.stderr)
        return 2
    print("slim modules: " + ("HOLDS" if holds else "FAILS"))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
