"""Proof that ``btf.check_kernel_rules`` and a running kernel are of one opinion.

Makes mutants of a small module's BTF, and of a file that has every kind, gives them to Debian's
kernel under qemu with bpf(BPF_BTF_LOAD), and compares: whether it takes each, and what its log says
last.

    .venv/bin/python tests/kernel_proof/verdicts.py [--mutants N] [--seed N] [--package FILE.deb]

Needs qemu-system-x86_64, dpkg-deb, gcc with a static libc; apt-get for a package that is not named.
Exit code: 0 all are equal, 1 not, 2 it could not run.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import btf
from fuzz.mutate import draft, mutated
from kernel_proof import guest, kernel_package
from kernel_proof.kernel_package import CannotRun
from support.btfwriter import Writer, bitfield
from support.paths import DEMO, ROOT

HERE = Path(__file__).resolve().parent
PACKAGE = ("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1")
_EDGES = (0, 1, 4, 32, 0xFFFF, 0xFFFFF, 0x100000, 0xFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def every_kind() -> bytes:
    """Each kind once or twice, as every kernel since 6.0 takes them."""
    w = Writer()
    i = w.int("int", 4)
    node = w.struct("node", 24, [("next", w.next_id + 1, 0), ("value", w.next_id + 2, 64)])
    w.ptr(node)
    number = w.typedef("number", w.volatile(w.const(i)))
    w.patch(node, 7, number)
    w.struct("bits", 4, [("a", i, bitfield(3, 0)), ("b", number, bitfield(5, 3))], kind_flag=1)
    w.union("either", 16, [("node", node + 1, 0), ("f", w.float("double", 8), 0)])
    colour = w.enum("colour", 4, [("RED", 0), ("BLUE", 5)])
    w.struct("all", 32, [("a", w.array(number, i, 4), 0), ("c", colour, 128)])
    w.enum64("wide", 8, [("BIG", 1 << 40)], signed=True)
    w.restrict(w.ptr(w.type_tag("user", w.fwd("elsewhere"))))
    function = w.func("do_it", w.func_proto(i, [("self", node + 1), ("n", number)], True), 1)
    w.decl_tag("kfunc", function, 1)
    w.decl_tag("guarded", node, 1)
    variable = w.var("the_node", node)
    w.decl_tag("percpu", variable)
    w.datasec(".data", 32, [(variable, 0, 24), (w.var("count", number), 24, 4)])
    return w.to_bytes()


def sources() -> list[bytes]:
    """Files that the kernel takes: every kind, and the smallest module of the demo."""
    paths = sorted((DEMO / "modules").glob("*.zst"), key=lambda path: path.stat().st_size)
    smallest = zstandard.ZstdDecompressor().decompress(paths[0].read_bytes())
    return [every_kind(), every_kind(), every_kind(), smallest]


def mutant(data: bytes, rng: random.Random) -> bytes:
    """A change of the fuzzer's, which knows what types are, or of a word or a byte."""
    if rng.random() < 0.5:
        return mutated(draft(data), rng)
    out = bytearray(data)
    at = rng.randrange(0, len(out) - 4, 4)
    (word,) = struct.unpack_from("<I", out, at)
    near = (word + rng.choice((-4, -1, 1, 8)), word ^ 1 << rng.randrange(32))
    other = (rng.choice(_EDGES), word & 0x80FFFFFF | rng.randrange(22) << 24, rng.randrange(48))
    struct.pack_into("<I", out, at, rng.choice(near + other) & 0xFFFFFFFF)
    if rng.random() < 0.2:
        out[rng.randrange(len(out))] = rng.choice(b"\0 -.?A9\xc3\xe9")
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.03 else out)


def verdict(data: bytes, release: str) -> btf.KernelRefusal | None:
    """Ours."""
    try:
        btf.check_kernel_rules(data, release=release, pointer_size=8)
    except btf.KernelRefusal as refusal:
        return refusal
    return None


def ask_kernel(vmlinuz: Path, files: Sequence[bytes], work: Path) -> list[guest.Report]:
    """The kernel's verdicts."""
    program = work / "init"
    command = ["gcc", "-O1", "-static", "-o", str(program), str(HERE / "load_btf.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{' '.join(command)} failed: {done.stderr.strip()}")
    pack = b"".join(struct.pack("<I", len(file)) + file for file in files)
    content = {"init": (0o755, program.read_bytes()), "pack": (0o644, pack)}
    guest.write_initramfs(work / "initramfs.cpio", content)
    console, reports = work / "console.txt", work / "reports.txt"
    guest.boot(vmlinuz, work / "initramfs.cpio", console, reports, 1200)
    found = list(guest.read_reports(reports.read_text(errors="replace")))
    if len(found) != len(files) + 1:
        raise CannotRun(f"the guest ended after {len(found)} of {len(files)} files")
    return found[:-1]


def differences(files: Sequence[bytes], reports: Sequence[guest.Report], release: str) -> list[str]:
    """What is not the same, a line each."""
    found = []
    for number, (file, report) in enumerate(zip(files, reports, strict=True)):
        error, _, line = report.rest.partition(" ")
        ours = verdict(file, release)
        same = (ours is None) == (error == "0")
        if not same or (ours is not None and ours.words.split(":")[0] not in line):
            found.append(f"{number}: the kernel {error} {line!r}, we {ours}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--mutants", type=int, default=300, metavar="N", help="(default: 300)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    parser.add_argument("--package", type=Path, metavar="FILE.deb", help="another kernel")
    options = parser.parse_args()
    rng, good = random.Random(options.seed), sources()
    files = list(good)
    while len(files) < len(good) + options.mutants:
        made = mutant(rng.choice(good), rng)
        if made[:2] != b"\xeb\x9f":  # of a kernel of the other byte order
            files.append(made)
    try:
        for tool in ("qemu-system-x86_64", "dpkg-deb", "gcc"):
            if not shutil.which(tool):
                raise CannotRun(f"no {tool}")
        deb = options.package or kernel_package.download(*PACKAGE, ROOT / "build" / "packages")
        with tempfile.TemporaryDirectory(prefix="verdicts-") as folder:
            work = Path(folder)
            kernel_package.unpack(deb, work / "package")
            vmlinuz = kernel_package.only_match(work / "package", "**/vmlinuz*")
            reports = ask_kernel(vmlinuz, files, work)
    except (CannotRun, OSError, subprocess.TimeoutExpired) as error:
        print(f"verdicts: cannot run: {error}", file=sys.stderr)
        return 2
    version = re.search(r"-(\d+\.\d+)\.", deb.name)
    different = differences(files, reports, version[1] if version else "")
    print(*different, sep="\n", end="\n" * bool(different))
    taken = sum(report.rest.split(" ")[0] == "0" for report in reports)
    print(f"{deb.stem}: {len(files)} files, {taken} loaded, {len(different)} verdicts differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
