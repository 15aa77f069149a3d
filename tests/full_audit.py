"""Compares what `splitbtf audit` says with an own computation. Prints N of N.

    python tests/full_audit.py OUT PACKAGES [KERNEL...]

OUT was made by `splitbtf run` of packages in folders of PACKAGES, one folder a kernel, as `splitbtf
fetch` leaves them. Modules are taken out of these with dpkg-deb, and what their build left in them,
and in vmlinux, is worked out with `support/oracles/naive_leftovers.py`, which has none of the
library's code. Exit status 0 if all counts are the same, 1 if not.
"""

from __future__ import annotations

import lzma
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import zstandard

from pipeline.analysis.audit import Leftover, audit
from support.oracles.naive_leftovers import Sizes, leftovers

_UNPACK = {
    ".xz": lzma.decompress,
    ".zst": lambda content: zstandard.ZstdDecompressor().decompressobj().decompress(content),
    ".ko": bytes,
}


def main(out: str, packages: str, names: list[str]) -> int:
    wrong = 0
    for kernel in audit(out):
        if names and not any(name in kernel.kernel for name in names):
            continue
        (folder,) = (f for f in Path(packages).iterdir() if f.name.endswith(f"-{kernel.kernel}"))
        base = Path(out, "btf", f"kernel={kernel.kernel}", "vmlinux.btf").read_bytes()
        began = time.monotonic()
        found = leftovers(base, shipped_btf(folder))
        seconds = time.monotonic() - began
        print(f"{kernel.kernel}: {kernel.modules:,} modules ({seconds:.0f} s)")
        wrong += compared("vmlinux", kernel.in_base, found.in_base, Sizes())
        wrong += compared("modules", kernel.left, found.in_modules, found.perhaps)
        print(f"  {kernel.left_by('typedef'):,} typedefs left")
    return int(wrong > 0)


def compared(what: str, ours: tuple[Leftover, ...], naive: Sizes, perhaps: Sizes) -> int:
    """Print how many counts of types and bytes are the same; returns how many are not.

    perhaps   types of which it depends on their order whether dedup removes them
    """
    found = {(one.cause, one.kind): (one.types, one.bytes) for one in ours}
    keys = sorted(found.keys() | naive.types.keys())
    wrong, more = [], 0
    for key in keys:
        types, size = found.get(key, (0, 0))
        least = naive.types[key], naive.bytes[key]
        most = least[0] + perhaps.types[key], least[1] + perhaps.bytes[key]
        more += types - least[0]
        if not (least == (types, size) or (least[0] < types <= most[0] and size <= most[1])):
            wrong.append(f"    {' '.join(key)}: {(types, size)}, not {least} to {most}")
    total = sum(types for types, _ in found.values())
    said = f", {more:,} of them by the order of types" if more else ""
    print(f"  {what}: {len(keys) - len(wrong)} of {len(keys)} counts, {total:,} types{said}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return len(wrong)


def shipped_btf(folder: Path) -> Iterator[bytes]:
    """The section .BTF of each module in a folder's packages."""
    for package in sorted(folder.glob("*.deb")):
        command = ["dpkg-deb", "--fsys-tarfile", str(package)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as files:
                for member in files:
                    unpack = _UNPACK.get(Path(member.name).suffix)
                    if ".ko" in member.name and unpack is not None and member.isfile():
                        file = files.extractfile(member)
                        assert file is not None
                        section = section_of(unpack(file.read()))
                        if section is not None:
                            yield section


def section_of(content: bytes) -> bytes | None:
    """The section .BTF of a little-endian ELF file of 64 bits."""
    (at,) = struct.unpack_from("<Q", content, 40)
    size, count, names = struct.unpack_from("<3H", content, 58)
    headers = [struct.unpack_from("<2I4Q", content, at + size * n) for n in range(count)]
    text = headers[names][4]
    for name, _, _, _, offset, length in headers:
        if content[text + name : text + name + 5] == b".BTF\0":
            return content[offset : offset + length]
    return None


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
