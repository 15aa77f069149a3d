"""Proof that a running kernel takes what splitbtf writes.

Takes Debian's kernel of the demo data set, replaces the BTF of its modules by what `splitbtf dedup`
makes, boots that kernel under qemu, loads the modules and compares /sys/kernel/btf/MODULE with our
bytes. A module with BTF that was made on another kernel's vmlinux must be seen to be rejected, by
the same checks; so the proof can fail.

    .venv/bin/python tests/kernel_proof/prove.py [--modules N] [--out DIR] [--keep DIR]

Modules of the demo set get BTF made from the demo's standalone BTF. The modules that those depend
on (and more, if --modules asks for more) get BTF made from the split BTF that Debian built into
them. Needs qemu-system-x86_64, a static busybox, dpkg-deb; apt-get for packages that are not named
as options. Nothing is installed, no root, no network in the guest.

Exit code: 0 everything was shown, 1 something was refuted or too little shown, 2 it could not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kernel_proof import guest, kernel_package
from kernel_proof.kernel_package import CannotRun
from kernel_proof.module_file import ModuleFile, TypeIds, kernel_name
from support.oracles import naive_btf
from support.paths import DEMO, ROOT

HERE = Path(__file__).resolve().parent
PACKAGE = ("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1")
# The security update before: its vmlinux has 16 types and 408 bytes of strings less. BTF of the
# kernel before the update is the mistake that happens in practice, and the hardest to see.
OTHER_PACKAGE = ("linux-image-6.1.0-49-cloud-amd64", "6.1.174-1")
VICTIM = "hid-steam"
"""The demo module that also gets the wrong BTF, that of the same module in the other package:
nothing depends on it, so it can be unloaded. (splitbtf itself refuses to make such a file.)"""

MORE_MODULES_FROM = ("net", "crypto", "fs", "lib")
"""Folders of the package that need no hardware, for --modules beyond the demo's."""

# Since Linux 5.11 (kernel/bpf/btf.c): "BPF: ..." for a type that the kernel refuses, then "failed
# to validate module [...] BTF"; "Kernel module BTF mismatch detected" and "missing module BTF,
# cannot register kfuncs" say what follows from it. Whether the module is loaded all the same is
# decided by CONFIG_MODULE_ALLOW_BTF_MISMATCH, which Debian sets. btf_ is for call traces.
COMPLAINT = re.compile(r"\bBTF\b|\bBPF:\s*\S|\bbtf_", re.ASCII)


@dataclass(frozen=True)
class Candidate:
    """A module to prove: its file from the package, the BTF that splitbtf made, both in one."""

    module: ModuleFile
    source: str  # "demo" (standalone BTF of the demo set) or "package" (Debian's split BTF)
    btf: bytes
    file: bytes
    flaw: str = ""  # what is wrong with the BTF, seen without any kernel


@dataclass
class Verdict:
    """What was seen of one module. Outcome: proven, skipped or failed."""

    module: str
    source: str
    btf_bytes: int
    outcome: str
    why: str = ""


@dataclass
class Proof:
    """Everything that the summary and the exit code are made from."""

    kernel: str
    splitbtf: str
    base_matches: bool = False
    finished: bool = False
    verdicts: list[Verdict] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    wrong_package: str = ""
    wrong_rejected: bool = False
    wrong_loaded: str = ""
    wrong_complaints: list[str] = field(default_factory=list)
    right_again: bool = False
    boot_seconds: float = 0.0

    def count(self, outcome: str) -> int:
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    def holds(self, wanted: int) -> bool:
        return (
            self.finished
            and self.base_matches
            and self.count("proven") >= wanted
            and self.count("failed") == 0
            and not self.complaints
            and self.wrong_rejected
            and self.right_again
        )


# ---------------------------------------------------------------------------------- the modules


def choose(package: Path, demo: Iterable[str], wanted: int) -> list[ModuleFile]:
    """The demo's modules and more, dependencies first.

    A quarter more than wanted, because some find no hardware in the guest.
    """
    paths = {kernel_name(path.stem): path for path in sorted(package.rglob("*.ko"))}
    chosen: dict[str, ModuleFile] = {}

    def take(name: str) -> None:
        if name in chosen:
            return
        module = ModuleFile(paths[name])
        for needed in module.depends:
            take(needed)
        chosen[name] = module

    for stem in demo:
        take(kernel_name(stem))
    for name, path in paths.items():
        if len(chosen) >= wanted + wanted // 4:
            break
        folders = path.parts[path.parts.index("kernel") + 1 :]
        if folders[0] in MORE_MODULES_FROM:
            take(name)
    return list(chosen.values())


def deduplicate(splitbtf: str, base: Path, files: Sequence[Path], out: Path) -> None:
    out.mkdir(parents=True)
    command = [splitbtf, "dedup", "-B", str(base), "-o", str(out), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(
            f"splitbtf dedup ended with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip()
        )


def first_ids(btf: naive_btf.Btf) -> TypeIds:
    """(kind, name) -> type id, the first of several, base before module (see resolve_btfids)."""
    ids = dict(first_ids(btf.base)) if btf.base else {}
    for type_id, words in enumerate(btf.types, btf.start_id):
        key = (naive_btf.KIND_NAMES[naive_btf.kind_of(words)].lower(), btf.text(words[0]).decode())
        ids.setdefault(key, type_id)
    return ids


def function_names(btf: naive_btf.Btf) -> set[bytes]:
    return {btf.text(words[0]) for words in btf.types if naive_btf.kind_of(words) == naive_btf.FUNC}


def make_candidate(module: ModuleFile, source: str, btf: bytes, base: naive_btf.Btf) -> Candidate:
    """The module with this BTF, after a look that the kernel does not take.

    The kernel checks that types are well formed, not that they are the module's, and not even that
    strictly: Linux 6.1.176 takes nls_cp949 with BTF made on the next update's vmlinux, in which its
    functions have other names and refer to functions instead of prototypes. So the tests' reader
    has a look at every reference, and the functions must be those of Debian's BTF of the module.
    """
    built = naive_btf.parse(module.btf, base)
    btf_ids, flaw = module.btf_ids, ""
    try:
        ours = naive_btf.parse(btf, base)
    except naive_btf.FormatError as error:
        flaw = f"not BTF on this base: {error}"
    else:
        if btf_ids:
            btf_ids = module.resolved_btf_ids(first_ids(built), first_ids(ours))
        if differing := function_names(ours) ^ function_names(built):
            some = ", ".join(sorted(name.decode(errors="replace") for name in differing)[:4])
            flaw = f"{len(differing)} functions are not both in ours and in Debian's BTF: {some}"
    return Candidate(module, source, btf, module.with_btf(btf, btf_ids), flaw)


def prepare(
    splitbtf: str, package: Path, other_package: Path, wanted: int, work: Path
) -> tuple[bytes, list[Candidate], Candidate]:
    """The base, the modules with our BTF in loading order, and the victim with the wrong one."""
    decompress = zstandard.ZstdDecompressor().decompress
    base = decompress((DEMO / "vmlinux.btf.zst").read_bytes())
    standalone = {
        path.name.removesuffix(".btf.zst"): decompress(path.read_bytes())
        for path in sorted((DEMO / "modules").glob("*.btf.zst"))
    }
    modules = choose(package, standalone, wanted)

    inputs = work / "input"
    inputs.mkdir(parents=True)
    (work / "vmlinux.btf").write_bytes(base)
    files = []
    for module in modules:
        files.append(inputs / f"{module.stem}.btf")
        files[-1].write_bytes(standalone.get(module.stem, module.btf))
    deduplicate(splitbtf, work / "vmlinux.btf", files, work / "ours")

    parsed_base = naive_btf.parse(base)
    candidates = []
    for module in modules:
        source = "demo" if module.stem in standalone else "package"
        ours = (work / "ours" / f"{module.stem}.btf").read_bytes()
        candidates.append(make_candidate(module, source, ours, parsed_base))
    victim = next(c for c in candidates if c.module.stem == VICTIM)
    wrong_btf = ModuleFile(kernel_package.only_match(other_package, f"**/{VICTIM}.ko")).btf
    if wrong_btf in (victim.btf, victim.module.btf):
        raise CannotRun(f"{VICTIM}: its BTF is the same in both packages, so it proves nothing")
    wrong = Candidate(victim.module, "wrong", wrong_btf, victim.module.with_btf(wrong_btf, b""))
    return base, candidates, wrong


# ------------------------------------------------------------------------------------ the guest


def static_busybox() -> bytes:
    path = shutil.which("busybox")
    if not path:
        raise CannotRun("no busybox (Debian package busybox-static)")
    data = Path(path).read_bytes()
    if b"/lib64/ld-linux" in data:
        raise CannotRun(f"{path} is not static (Debian package busybox-static)")
    return data


def run_guest(
    vmlinuz: Path, candidates: Sequence[Candidate], wrong: Candidate, work: Path, timeout: float
) -> list[guest.Report]:
    """Loads all modules; then, for one of them, the wrong file, and ours again."""
    victim = wrong.module.name
    steps = ["check vmlinux"]
    for name, stem in ((c.module.name, c.module.stem) for c in candidates):
        steps.append(f"load {name} /modules/{stem}.ko /package/{stem}.ko")
    steps += [f"check {c.module.name}" for c in candidates]
    steps += ["log", f"unload {victim}", f"load {victim} /wrong.ko", f"check {victim}", "log"]
    steps += [f"unload {victim}", f"load {victim} /modules/{wrong.module.stem}.ko"]
    steps += [f"check {victim}", "log"]

    files = {
        "init": (0o755, (HERE / "init").read_bytes()),
        "bin/busybox": (0o755, static_busybox()),
        "steps": (0o644, "".join(step + "\n" for step in steps).encode()),
        "wrong.ko": (0o644, wrong.file),
    }
    for candidate in candidates:
        files[f"modules/{candidate.module.stem}.ko"] = (0o644, candidate.file)
        files[f"package/{candidate.module.stem}.ko"] = (0o644, candidate.module.path.read_bytes())
    guest.write_initramfs(work / "initramfs.cpio", files)
    console, reports = work / "console.txt", work / "reports.txt"
    try:
        guest.boot(vmlinuz, work / "initramfs.cpio", console, reports, timeout)
    except subprocess.TimeoutExpired:
        print(f"the guest did not end within {timeout:.0f} s", file=sys.stderr)
    return list(guest.read_reports(reports.read_text(errors="replace")))


# ---------------------------------------------------------------------------------- the verdict


def holds_exactly(report: guest.Report | None, btf: bytes) -> bool:
    """Whether /sys/kernel/btf/NAME has just these bytes."""
    return report is not None and report.rest == f"{len(btf)} {hashlib.sha256(btf).hexdigest()}"


def complaints(log: guest.Report | None) -> list[str]:
    return [line for line in log.lines if COMPLAINT.search(line)] if log else []


def judge(
    candidates: Sequence[Candidate],
    loads: dict[str, str],
    package_loads: dict[str, str],
    checks: dict[str, guest.Report],
) -> list[Verdict]:
    """One verdict per module, in loading order.

    `loads` has insmod's exit code and words by module name, `package_loads` the same for the
    package's own file, which the guest tries where ours is not loaded. Where that one is not loaded
    either (mostly: "No such device"), the module cannot run here and nothing is said of its BTF.
    """
    verdicts = []
    for candidate in candidates:
        module = candidate.module
        verdict = Verdict(module.stem, candidate.source, len(candidate.btf), "failed")
        verdicts.append(verdict)
        code, _, words = loads.get(module.name, "- not tried").partition(" ")
        package_code, _, package_words = package_loads.get(module.name, "- ").partition(" ")
        if candidate.flaw:
            verdict.why = candidate.flaw
        elif code != "0" and package_code.isdigit() and package_code != "0":
            verdict.outcome = "skipped"
            verdict.why = f"Debian's own file is not loaded here either: {error_of(package_words)}"
        elif code != "0":
            verdict.why = f"not loaded: {error_of(words)}"
        elif holds_exactly(checks.get(module.name), candidate.btf):
            verdict.outcome = "proven"
        else:
            seen = checks.get(module.name)
            verdict.why = f"/sys/kernel/btf/{module.name}: {seen.rest if seen else 'not read'}"
    return verdicts


def error_of(words: str) -> str:
    """The reason in what insmod says: "insmod: can't insert 'FILE': REASON"."""
    return words.rpartition(": ")[2]


def evaluate(
    proof: Proof,
    reports: Sequence[guest.Report],
    base: bytes,
    candidates: Sequence[Candidate],
    wrong: Candidate,
) -> None:
    """Fills in the proof. The three parts of the reports end with a log each."""
    parts: list[list[guest.Report]] = [[]]
    logs: list[guest.Report] = []
    for report in reports:
        if report.verb == "log":
            logs.append(report)
            parts.append([])
        elif report.verb == "end":
            proof.finished = len(logs) == 3
        else:
            parts[-1].append(report)
    first, second, third = [*parts, [], [], []][:3]
    victim = wrong.module.name

    loads = {report.name: report.rest for report in first if report.verb == "load"}
    package_loads = {report.name: report.rest for report in first if report.verb == "package"}
    checks = {report.name: report for report in first if report.verb == "check"}
    proof.base_matches = holds_exactly(checks.get("vmlinux"), base)
    proof.verdicts = judge(candidates, loads, package_loads, checks)
    proof.complaints = complaints(logs[0]) if logs else []

    proof.wrong_loaded = next((r.rest for r in second if r.verb == "load"), "not tried")
    check = next((r for r in second if r.verb == "check"), None)
    proof.wrong_complaints = complaints(logs[1]) if len(logs) > 1 else []
    proof.wrong_rejected = (
        check is not None
        and check.name == victim
        and check.rest == "absent"
        and bool(proof.wrong_complaints)
    )
    ours = next(c for c in candidates if c.module.name == victim)
    check = next((r for r in third if r.verb == "check"), None)
    proof.right_again = holds_exactly(check, ours.btf) and len(logs) > 2 and not complaints(logs[2])


def print_summary(proof: Proof, wanted: int) -> None:
    def say(what: str, fact: str | int) -> None:
        print(f"{what:<40}{fact}")

    def yes(fact: bool) -> str:
        return "yes" if fact else "NO"

    for verdict in proof.verdicts:
        if verdict.outcome == "failed":
            print(f"FAILED  {verdict.module}: {verdict.why}")
        elif verdict.outcome == "skipped":
            print(f"skipped {verdict.module}: {verdict.why}")
    for line in proof.complaints:
        print(f"complaint: {line}")
    proven = [verdict for verdict in proof.verdicts if verdict.outcome == "proven"]
    from_demo = sum(verdict.source == "demo" for verdict in proven)
    say("kernel", proof.kernel)
    say("guest ran to its end", f"{yes(proof.finished)} ({proof.boot_seconds:.0f} s)")
    say("kernel's own BTF is the base", yes(proof.base_matches))
    say("modules whose BTF is exactly ours", f"{len(proven)} (wanted {wanted})")
    say("  made from standalone BTF", from_demo)
    say("  made from Debian's split BTF", len(proven) - from_demo)
    say("  bytes compared", f"{sum(verdict.btf_bytes for verdict in proven):,}")
    say("modules that cannot run here", proof.count("skipped"))
    say("modules failed", proof.count("failed"))
    say("complaints about BTF in the kernel log", len(proof.complaints))
    say("wrong file rejected", yes(proof.wrong_rejected))
    say("  which", f"{VICTIM} with its BTF of {proof.wrong_package}")
    code, _, words = proof.wrong_loaded.partition(" ")
    fate = "without" if proof.wrong_rejected else "WITH"
    say("  the module was", f"loaded, {fate} its BTF" if code == "0" else f"not loaded: {words}")
    for line in proof.wrong_complaints:
        say("  the kernel said", line)
    say("right file accepted after it", yes(proof.right_again))
    print("kernel proof: " + ("HOLDS" if proof.holds(wanted) else "FAILS"))


# ------------------------------------------------------------------------------------- the run


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    build = ROOT / "build"
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--modules", type=int, default=60, metavar="N", help="prove at least N")
    parser.add_argument(
        "--out",
        type=Path,
        default=build / "kernel-proof",
        metavar="DIR",
        help="where proof.json, reports.txt and console.txt go",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep inputs, BTF, package and initramfs in this folder, which must not exist yet",
    )
    parser.add_argument(
        "--cache", type=Path, default=build / "packages", metavar="DIR", help="downloads"
    )
    parser.add_argument(
        "--package", type=Path, metavar="FILE.deb", help=f"{'_'.join(PACKAGE)}, not downloaded"
    )
    parser.add_argument(
        "--other-package",
        type=Path,
        metavar="FILE.deb",
        help="another kernel, for the wrong file, instead of " + "_".join(OTHER_PACKAGE),
    )
    parser.add_argument(
        "--splitbtf",
        default=str(Path(sys.executable).with_name("splitbtf")),
        metavar="FILE",
        help="the command to prove",
    )
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="of the boot")
    return parser.parse_args(arguments)


def prove(options: argparse.Namespace, work: Path) -> Proof:
    for tool in ("qemu-system-x86_64", "dpkg-deb"):
        if not shutil.which(tool):
            raise CannotRun(f"no {tool} (Debian packages qemu-system-x86, dpkg)")
    if not Path(options.splitbtf).exists():
        raise CannotRun(f"no {options.splitbtf}")
    static_busybox()

    deb = options.package or kernel_package.download(*PACKAGE, options.cache)
    other_deb = options.other_package or kernel_package.download(*OTHER_PACKAGE, options.cache)
    kernel_package.unpack(deb, work / "package")
    kernel_package.unpack(other_deb, work / "other-package")
    vmlinuz = kernel_package.only_match(work / "package", "boot/vmlinuz-*")

    base, candidates, wrong = prepare(
        options.splitbtf, work / "package", work / "other-package", options.modules, work
    )
    proof = Proof(
        kernel=deb.name.removesuffix(".deb"),
        splitbtf=options.splitbtf,
        wrong_package=other_deb.name.removesuffix(".deb"),
    )
    started = time.monotonic()
    reports = run_guest(vmlinuz, candidates, wrong, work, options.timeout)
    proof.boot_seconds = time.monotonic() - started
    evaluate(proof, reports, base, candidates, wrong)

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "proof.json").write_text(json.dumps(asdict(proof), indent=1) + "\n")
    for name in ("reports.txt", "console.txt"):
        shutil.copyfile(work / name, options.out / name)
    return proof


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        if options.keep:
            options.keep.mkdir(parents=True)
            proof = prove(options, options.keep)
        else:
            with tempfile.TemporaryDirectory(prefix="kernel-proof-") as work:
                proof = prove(options, Path(work))
    except (CannotRun, OSError) as error:
        print(f"kernel proof: cannot run: {error}", file=sys.stderr)
        return 2
    print_summary(proof, options.modules)
    return 0 if proof.holds(options.modules) else 1


if __name__ == "__main__":
    sys.exit(main())
