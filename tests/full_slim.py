"""Makes the modules of whole kernels smaller, and looks at each file with other readers. N of N.

    python tests/full_slim.py FOLDER PACKAGE...

FOLDER is where `splitbtf slim PACKAGE... -o FOLDER` has written to; PACKAGE... are Debian packages,
one of them with the kernel's image. `tests/support/oracles/naive_slim.py`, which has none of the
library's code, compares every file with the one in the package: all sections but .BTF and .BTF_ids
have the same bytes, every id of .BTF_ids names what it named, and sets are sorted. Exit status 0 if
that holds of all modules, 1 if not. Needs dpkg-deb.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import btf
from btf.files.decompress import FOR_FILES, find
from support.oracles import naive_btf, naive_slim


def read(path: Path) -> bytes:
    """A file, decompressed."""
    stored = path.read_bytes()
    compression = find(stored, FOR_FILES)
    return compression.decompress(stored) if compression else stored


def main(folder: Path, packages: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="full-slim-") as work:
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package, work], check=True)
        image = next(path for path in sorted(Path(work).rglob("vmlinuz*")) if path.is_file())
        base = naive_btf.parse(btf.load_base(image.read_bytes()).to_bytes())
        modules = sorted(Path(work).rglob("*.ko*"))
        good = with_ids = before = after = 0
        for path in modules:
            name = path.relative_to(work)
            made = folder / name
            found = ["there is no such file"]
            if made.exists():
                was, now = read(path), read(made)
                found = list(naive_slim.differences(was, now, base))
                sizes = [len(naive_slim.content(data, ".BTF") or b"") for data in (was, now)]
                with_ids += naive_slim.content(was, ".BTF_ids") is not None
                before, after = before + sizes[0], after + sizes[1]
            good += not found
            for line in found:
                print(f"{name}: {line}")
    print(f"{good} of {len(modules)} modules, {with_ids} with .BTF_ids; .BTF {before} -> {after}")
    return int(good < len(modules) or not modules)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
