"""Runs a wheel's machine code for AArch64, there or emulated, and compares with this machine.

    make wheel
    python tests/full_aarch64.py dist/splitbtf-*.whl PYTHON [ARGUMENT...]

PYTHON and what follows start a Python of AArch64 that finds NumPy, pyelftools and zstandard, and
no Numba: on another machine ``qemu-aarch64-static -L ROOT ROOT/usr/bin/python3.11``, with PyPI's
wheels of these for AArch64 unpacked into a folder that PYTHONPATH names. Of both demo kernels each
module's split BTF, its fingerprints, and how C spells its types have to be the same there as here;
nothing may be compiled. Emulated it takes a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from support.paths import ROOT

_PROGRAM = """
import hashlib, platform, sys
from pathlib import Path

if platform.machine() == "aarch64":
    sys.modules["numba"] = sys.modules["llvmlite"] = None
import btf
from pipeline.work.open import open_path

print(platform.machine(), file=sys.stderr)
for folder in sys.argv[1:]:
    base = open_path(f"{folder}/vmlinux.btf.zst", shown="vmlinux").btf
    index, known = btf.BaseIndex.build(base), btf.BaseFingerprints.build(base)
    spelled = btf.declarations(base, spell=True)
    for path in sorted(Path(folder).glob("*/**/*.*")):
        module = open_path(str(path), index, shown=path.name)
        split = btf.dedup_module(module, index).btf
        declared = btf.declarations(split, spelled, spell=True)
        digest = hashlib.sha256(split.to_bytes())
        for values in (
            btf.fingerprints(split, known), declared.layout, declared.declaration,
            *declared.spellings(), btf.columns(split)["bytes"],
        ):
            digest.update(values.tobytes())
        try:
            for line in btf.dump_c(split):
                digest.update(line.encode())
        except btf.BtfError as error:  # what has no C header
            digest.update(str(error).encode())
        print(Path(folder).name, path.name, digest.hexdigest())
"""


def main(wheel: str, *python: str) -> int:
    """Compare; returns how many modules differ, at least 1 if nothing could be compared."""
    folders = [str(ROOT / "datasets" / name) for name in ("demo", "demo-6.12")]
    command = ["-c", _PROGRAM, *folders]
    with tempfile.TemporaryDirectory() as scratch:
        zipfile.ZipFile(wheel).extractall(f"{scratch}/site")
        more = os.environ.get("PYTHONPATH")
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([f"{scratch}/site", *filter(None, [more])]),
            "SPLITBTF_CACHE_DIR": f"{scratch}/cache",
        }
        there = subprocess.run(
            [*python, *command], env=env, cwd=scratch, capture_output=True, text=True
        )
        compiled = Path(scratch, "cache").exists()
    here = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if there.returncode or compiled or "aarch64" not in there.stderr:
        print(there.stderr, "something was compiled" if compiled else "", file=sys.stderr)
        return 1
    pairs = list(zip(here.stdout.splitlines(), there.stdout.splitlines(), strict=True))
    differ = [one for one, other in pairs if one != other]
    print(f"{len(pairs) - len(differ)} of {len(pairs)} modules the same on AArch64")
    if differ:
        print("\n".join(differ))
    return len(differ) if pairs else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
