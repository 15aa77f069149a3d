"""Names of kernels, modules and packages: from paths, safe as file names, distinct.

Nothing here looks at a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import PurePath

import btf
from btf.nearest import hint as hint
from btf.nearest import hint_of as hint_of
from btf.nearest import nearest_names as nearest_names

MODULE_SUFFIXES = (
    ".btf", ".btf.zst", ".btf.xz", ".btf.gz",
    ".ko", ".ko.zst", ".ko.xz", ".ko.gz", ".ko.debug",
)  # fmt: skip
_LONGEST_FIRST = sorted(MODULE_SUFFIXES, key=len, reverse=True)
_COMPRESSED = r"(?:\.zst|\.xz|\.gz|\.bz2|\.lzma|\.lz4)?"
_ARCHITECTURES = (
    r"(?:x86(?:_64)?|i\d86|aarch64|arm\w*|riscv\w*|ppc\w*|powerpc\w*|s390x|loongarch\w*)"
)
# A kernel's base: vmlinux, raw BTF called as its release (as BTFHub does), the image that boots, or
# the module that holds vmlinux's BTF where the image does not (CONFIG_DEBUG_INFO_BTF=m).
BASE_NAME = re.compile(
    rf"vmlinux(?:-(?P<vmlinux>[^/]+?))?(?:\.btf|\.debug)?{_COMPRESSED}"
    rf"|(?P<btf>\d+\.\d+[^/]*?)\.btf{_COMPRESSED}"
    rf"|(?:vmlinuz|bzImage|zImage|uImage|fitImage|Image)(?:-(?P<image>[^/]+?))?"
    rf"(?:\.bin|\.efi|\.fit|\.itb)?{_COMPRESSED}(?:-dtb)?"
    rf"|kernel-(?:(?:genkernel-)?{_ARCHITECTURES}-)?(?P<kernel>\d+\.\d+[^/]*"
    r"(?<!\.config)(?<!\.spec)(?<!\.txt)(?<!\.log)(?<!\.json))"
    r"|linux-(?P<efi>\d+\.\d+[^/]*)\.efi"
    r"|kernel\d*l?\.img|kernel_\d+\.img|boot\.img"
    rf"|btf_vmlinux\.ko{_COMPRESSED}",
    re.DOTALL,
)
_RELEASE = re.compile(r"\d+\.\d+.*", re.DOTALL)  # VERSION.PATCHLEVEL, and what follows
RELEASE_IN_PATH = re.compile(r"(?:^|/)lib/modules/([^/]+)(?:/|$)")
_TREE = re.compile(r"(.*?/)(?:usr/)?lib/modules/([^/]+)(?:/|$)", re.DOTALL)
_BELOW_RELEASE = re.compile(r"(?:^|/)lib/modules/[^/]+/(.+)$", re.DOTALL)
# Where the vmlinux of a release may be, {1} being its flavour: libbpf's places, the distributions'.
_PLACES = (
    "boot/vmlinux-{0}",
    "boot/vmlinuz-{0}",
    "lib/modules/{0}/vmlinux-{0}",
    "lib/modules/{0}/vmlinux",
    "lib/modules/{0}/vmlinuz",
    "lib/modules/{0}/build/vmlinux",
    "usr/lib/modules/{0}/vmlinux",
    "usr/lib/modules/{0}/vmlinuz",
    "usr/lib/modules/{0}/kernel/vmlinux",
    "boot/vmlinux-{0}.xz",
    "boot/vmlinux-{0}.gz",
    "lib/modules/{0}/vmlinux.xz",
    "usr/lib/modules/{0}/vmlinux.xz",
    "boot/Image-{0}",
    "boot/zImage-{0}",
    "boot/uImage-{0}",
    "boot/kernel-{0}",
    "usr/lib/debug/boot/vmlinux-{0}",
    "usr/lib/debug/boot/vmlinux-{0}.debug",
    "usr/lib/debug/lib/modules/{0}/vmlinux",
    "usr/lib/debug/lib/modules/{0}/vmlinux.debug",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux.debug",
    "boot/vmlinuz-{1}",
    "boot/vmlinuz-linux",
    "boot/vmlinuz-linux-{1}",
    *(
        f"{root}lib/modules/{{0}}/kernel/kernel/bpf/btf_vmlinux.ko{suffix}"
        for root in ("", "usr/")
        for suffix in ("", ".xz", ".zst", ".gz")
    ),
)
# Where files with debug information lie: distributions' places, and beside the others (Yocto).
_DEBUG_FOLDER = re.compile(r"(?:^|/)(?:usr/lib/debug|\.debug|\.build-id)/")
_OF_BUILD_ID = re.compile(r"(?:^|/)\.build-id/([0-9a-f]{2})/((?:[0-9a-f]{2})+)\.debug")
DEBUG_FOLDERS = (".debug", ".build-id")  # not passed over, though they are hidden

# What a kernel module can be called (KBUILD_MODNAME is a C identifier; file names have '-' too).
MODULE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+,-]*")

_USER_IN_URI = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.+@~,=-]|^\.")
_MAX_NAME_BYTES = 200
RESERVED = "vmlinux"  # the base is written beside the modules under this name


def looks_like_input(file_name: str) -> bool:
    """Whether a file in a source folder is taken for a module or a vmlinux by its name."""
    return file_name.endswith(MODULE_SUFFIXES) or looks_like_base(file_name)


def looks_like_base(file_name: str) -> bool:
    """Whether a file is taken for a kernel's vmlinux by its name."""
    return BASE_NAME.fullmatch(file_name) is not None


def release_of_base(file_name: str) -> str | None:
    """``6.1.0-50-amd64`` of ``vmlinux-6.1.0-50-amd64``; None where no release is there, as in
    ``vmlinuz-lts``."""
    told = _after_name(file_name)
    return told if told is not None and _RELEASE.fullmatch(told) else None


def flavour_of_base(file_name: str) -> str | None:
    """``lts`` of ``vmlinuz-lts``: what the name tells that is no release."""
    told = _after_name(file_name)
    return told if told is not None and not _RELEASE.fullmatch(told) else None


def _after_name(file_name: str) -> str | None:
    match = BASE_NAME.fullmatch(file_name)
    return next((found for found in match.groups() if found), None) if match else None


def is_built_in_place(file_name: str) -> bool:
    """Whether a base is called as kernel builds call it, wherever that is done."""
    return flavour_of_base(file_name) is None and not file_name.startswith(("kernel", "boot."))


def release_in_path(path: str) -> str | None:
    """The release of a path through ``lib/modules/<release>``."""
    match = RELEASE_IN_PATH.search(path)
    return match[1] if match else None


def likely_bases(folder: str) -> list[str]:
    """Where the vmlinux of the modules in a folder below ``lib/modules/<release>`` may lie in the
    same tree: an installed system, or an unpacked package."""
    match = _TREE.match(f"{folder}/")
    if match is None:
        return []
    top, release = match[1], match[2]
    return [f"{top}{place.format(release, release.rpartition('-')[2])}" for place in _PLACES]


def is_image(file_name: str) -> bool:
    """Whether a base is the kernel that a machine boots, compressed or not."""
    return looks_like_base(file_name) and not (
        file_name.startswith(("vmlinux", "btf_vmlinux")) or ".btf" in file_name
    )


def same_module(path: str) -> tuple[str, ...]:
    """What the paths of a module's stripped file and of the one with debug information have in
    common, either of them compressed or not, ``-`` being ``_``: the place below a release, or the
    folder.

    ``kernel/fs/xfs/xfs`` of ``usr/lib/debug/lib/modules/6.1.0/kernel/fs/xfs/xfs.ko.xz``.
    """
    folder, file_name = os.path.split(path)
    folder = folder.removesuffix("/.debug")
    plain = os.path.join(folder, stem(file_name.removesuffix(".debug")).replace("-", "_"))
    match = _BELOW_RELEASE.search(plain)
    return (match[1], plain) if match else (plain,)


def has_debug_info(path: str) -> bool:
    """Whether a path is one where files with debug information are kept beside stripped ones."""
    return _DEBUG_FOLDER.search(path) is not None or path.endswith(".debug")


def is_only_debug_info(path: str) -> bool:
    """Whether a file may be what another one lacks, and is nothing by itself."""
    file_name = os.path.basename(path)
    return file_name.endswith(".debug") and not looks_like_input(file_name)


def build_id_in_path(path: str) -> str | None:
    """The build id, as hexadecimal digits, of the file that a path ``.build-id/XX/YY.debug`` has
    debug information of."""
    match = _OF_BUILD_ID.search(path)
    return match[1] + match[2] if match and match.end() == len(path) else None


def stem(file_name: str) -> str:
    """The module that a file is named after: ``kvm-amd`` of ``kvm-amd.btf.zst``."""
    name, dot, rest = file_name.partition(".")
    if name and dot + rest in MODULE_SUFFIXES:  # as of nearly all
        return name
    for suffix in _LONGEST_FIRST:
        if file_name.endswith(suffix) and len(file_name) > len(suffix):
            return file_name[: -len(suffix)]
    return file_name


def kernel_name(path: str) -> str:
    """Name the module of a file as the kernel would: as the file, with underscores."""
    return printable(stem(path.rpartition("/")[2])).replace("-", "_")


def safe(name: str) -> str:
    """``name`` as a file name that stays in its folder: other bytes become %XX.

    Different names stay different. A name that would be too long keeps its head and a hash.
    """
    raw = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], os.fsencode(name)) or b"%00"
    return _short(raw.decode("ascii"))


def _short(name: str) -> str:
    if len(name) <= _MAX_NAME_BYTES:
        return name
    import hashlib  # late: for few names

    return f"{name[: _MAX_NAME_BYTES - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def plain(name: str) -> str:
    """``name`` with ``_`` for what is not safe: for folders that readers decode (``kernel=``).

    Different names can become the same; see ``distinct``.
    """
    return re.sub("%..", "_", safe(name))


def printable(path: str) -> str:
    """A path of any bytes as one line of valid UTF-8; a URI without its user and password."""
    if "@" in path:
        path = _USER_IN_URI.sub(r"\1", path)
    return path if path.isprintable() else btf.printable(path)


def distinct(paths: Sequence[tuple[str, str]], reserved: Sequence[str] = (RESERVED,)) -> list[str]:
    """A distinct safe name for each ``(stem, folder)``, which must be sorted by the caller.

    A stem that occurs once is the name. Modules of one stem are told apart by their folders
    (``foo@drivers+net``); what is still the same gets a number (``foo~2``).
    """
    stems = [safe(name) for name, _ in paths]
    count: dict[str, int] = dict.fromkeys(reserved, 1)
    for name in stems:
        count[name] = count.get(name, 0) + 1
    taken = set(reserved) | {name for name in stems if count[name] == 1}
    result = []
    for (_, folder), name in zip(paths, stems, strict=True):
        if count[name] > 1:
            parts = [part for part in PurePath(folder).parts if part not in ("", ".", "/")]
            wanted = _short(f"{name}@{'+'.join(map(safe, parts))}") if parts else name
            name, number = wanted, 1
            while name in taken:
                number += 1
                name = f"{wanted}~{number}"
            taken.add(name)
        result.append(name)
    return result
