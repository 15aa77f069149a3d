"""Wraps a real kernel in all that kernels are booted from, and compares what is read of it.

    python tests/full_images.py PACKAGE.deb|IMAGE...

Each wrapper has to give the very BTF and the release that the image itself gives: compressed files,
uImage and FIT (mkimage, dtc), boot.img of all versions (mkbootimg), beside a ramdisk that is no
kernel. What is not installed is said. For a kernel of arm64 this takes two minutes, and 500 MB.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.sources.listing import find_files
from pipeline.sources.packages import opens_as_package, unpack
from pipeline.work.open import open_path

COMPRESSORS = {
    "gzip": ["gzip", "-1"], "bzip2": ["bzip2", "-1"], "xz": ["xz", "-0"],
    "lzma": ["xz", "-0", "--format=lzma"], "zstd": ["zstd", "-q", "-1"], "lz4": ["lz4", "-q", "-l"],
}  # fmt: skip
FIT = """\
/dts-v1/;
/ {
    description = "k"; #address-cells = <1>;
    images {
        ramdisk { data = /incbin/("ramdisk"); type = "ramdisk"; arch = "arm64"; os = "linux";
                  compression = "none"; hash { algo = "sha1"; }; };
        kernel { data = /incbin/("KERNEL"); type = "kernel"; arch = "arm64"; os = "linux";
                 compression = "COMPRESSION"; load = <0>; entry = <0>; hash { algo = "sha1"; }; };
    };
    configurations { default = "c"; c { kernel = "kernel"; ramdisk = "ramdisk"; }; };
};
"""


def call(*command: str | Path, cwd: Path) -> None:
    """Call a program, and raise if it fails."""
    arguments = [str(part) for part in command]
    subprocess.run(
        arguments, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def compressed(folder: Path, how: str) -> Path:
    path = folder / f"kernel.{how}"
    if not path.exists():
        with (folder / "kernel.none").open("rb") as kernel, path.open("wb") as made:
            subprocess.run([*COMPRESSORS[how], "-c"], check=True, stdin=kernel, stdout=made)
    return path


def uimage(folder: Path, how: str) -> Path:
    kernel = folder / "kernel.none" if how == "none" else compressed(folder, how)
    call("mkimage", "-A", "arm64", "-O", "linux", "-T", "kernel", "-C", how, "-a", "0", "-e", "0",
         "-n", "k", "-d", kernel, "uImage", cwd=folder)  # fmt: skip
    return folder / "uImage"


def fit(folder: Path, how: str, external: bool) -> Path:
    kernel = folder / "kernel.none" if how == "none" else compressed(folder, how)
    text = FIT.replace("KERNEL", kernel.name).replace("COMPRESSION", how)
    (folder / "k.its").write_text(text)
    call("mkimage", *(["-E"] if external else []), "-f", "k.its", "k.itb", cwd=folder)
    return folder / "k.itb"


def boot_img(folder: Path, how: str, version: int) -> Path:
    kernel = folder / "kernel.none" if how == "none" else compressed(folder, how)
    more = ["--dtb", "dtb"] if version == 2 else []
    known = str(min(version, 3))  # Debian's mkbootimg makes 3 at most, from which 4 differs little
    call("mkbootimg", "--kernel", kernel, "--ramdisk", "ramdisk", "--header_version", known,
         *more, "-o", "boot.img", cwd=folder)  # fmt: skip
    if version == 4:
        with (folder / "boot.img").open("r+b") as made:
            for at, number in ((20, 1584), (40, 4)):  # the header's size, its version
                made.seek(at)
                made.write(number.to_bytes(4, "little"))
    return folder / "boot.img"


def with_dtb(folder: Path) -> Path:
    """As boards have it that know of no device tree: kernel, then device tree."""
    made = folder / "appended"
    made.write_bytes(compressed(folder, "gzip").read_bytes() + (folder / "dtb").read_bytes())
    return made


def wrappers(folder: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    for how in COMPRESSORS:
        yield how, partial(compressed, folder, how)
    yield "gzip and a device tree", partial(with_dtb, folder)
    for how in ("none", "gzip", "bzip2", "lzma", "lz4", "zstd"):
        yield f"uImage, {how}", partial(uimage, folder, how)
        yield f"FIT, {how}", partial(fit, folder, how, False)
    yield "FIT with external data", partial(fit, folder, "gzip", True)
    for version in range(5):
        for how in ("none", "gzip", "lz4"):
            yield f"boot.img v{version}, {how}", partial(boot_img, folder, how, version)


def told(path: Path) -> tuple[bytes, str | None]:
    module = open_path(str(path), shown=path.name)
    return module.btf.to_bytes(), module.release


def compare(image: Path, folder: Path, shown: str) -> int:
    """Compare all wrappers of an image; returns how many differ."""
    image.rename(folder / "kernel.none")
    expected = told(folder / "kernel.none")
    noise = os.urandom(3 << 20)
    (folder / "ramdisk").write_bytes(gzip.compress(b"\x7fELF" + noise, 1))
    (folder / "dtb").write_bytes(b"\xd0\x0d\xfe\xed\0\0\x20\0" + noise[:8184])
    print(f"{shown}: {len(expected[0])} bytes of BTF, release {expected[1]}")
    failed = 0
    for name, build in wrappers(folder):
        try:
            made = build()
        except FileNotFoundError as error:
            print(f"  {name}: not compared, {error.filename} is not installed")
            continue
        except subprocess.CalledProcessError as error:
            print(f"  {name}: not compared, {error}")
            continue
        began = time.perf_counter()
        try:
            found: object = told(made)
        except Exception as error:
            found = error
        same = found == expected
        failed += not same
        said = (
            "the same" if same else f"DIFFERENT ({found if isinstance(found, Exception) else ''})"
        )
        seconds = time.perf_counter() - began
        print(f"  {name}: {said}, {made.stat().st_size >> 20} MiB, {seconds:.1f} s", flush=True)
    return failed


def main(paths: list[str]) -> int:
    """Compare all; returns the exit status."""
    failed = 0
    for path in paths:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            image = folder / "image"
            if opens_as_package(path):
                first = find_files([path]).bases[0]
                ((_, problem),) = unpack(path, {first.source: str(image)})
                assert problem is None, problem
            else:
                image.write_bytes(Path(path).read_bytes())
            failed += compare(image, folder, path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
