"""What a kernel is, beside its types: for which machines, and its release as something that sorts.

Each answer is None where nothing tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import btf
from btf.unmerged.arrays import nested_arrays

# Members of ``struct pt_regs`` that only one architecture has, as uname calls it, with pointers of
# 8 bytes and of 4, in arch/*/include/asm/ptrace.h of the kernel.
_REGISTERS = {
    "r15": ("x86_64", None),
    "orig_ax": (None, "i686"),
    "orig_x0": ("aarch64", None),
    "orig_gpr2": ("s390x", None),
    "orig_gpr3": ("ppc64", "ppc"),
    "epc": ("riscv64", "riscv32"),
    "csr_era": ("loongarch64", "loongarch32"),
    "cp0_status": ("mips64", "mips"),
    "uregs": (None, "arm"),
    "tnpc": ("sparc64", None),
    "iaoq": ("parisc64", "parisc"),
}
# What distributions call them.
_OF_PACKAGES = {
    "amd64": "x86_64", "i386": "i686", "arm64": "aarch64", "armhf": "arm", "armel": "arm",
    "ppc64el": "ppc64le", "powerpc": "ppc", "mips64el": "mips64", "mipsel": "mips",
    "loong64": "loongarch64", "hppa": "parisc", "all": None,
}  # fmt: skip
# Debian's, Ubuntu's, Alpine's, SUSE's come last in a release: 6.12.117+deb12-cloud-amd64
_FLAVOUR = re.compile(r"-((?!rc\d)[a-z][a-z0-9_]*(?:-[a-z][a-z0-9_]*)*)\Z", re.IGNORECASE)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_CANDIDATE = re.compile(r"(?<![a-z0-9])rc(\d+)", re.IGNORECASE)
_DIGITS = 8  # of each number in a key: dates have that many


def architecture(types: btf.BTF, package: str | None) -> str | None:
    """Name the architecture as uname does: by the registers that a vmlinux saves, or else as the
    package says that it was in (``package``, in its distribution's word)."""
    names = {name for regs in types.find_all("pt_regs", btf.Struct)[:1] for name in _names(regs, 2)}
    found = None
    for register, (wide, narrow) in _REGISTERS.items():
        if register in names:
            found = found or (wide if types.pointer_size == 8 else narrow)
    if found == "ppc64" and types.byteorder == "little":
        return "ppc64le"
    return found or (_OF_PACKAGES.get(package, package) if package else None)


def _names(found: btf.Composite, depth: int) -> Iterator[str]:
    """Names of members, also those of anonymous ones."""
    for member in found.members:
        if member.name:
            yield member.name
        elif depth and isinstance(member.type, btf.Composite):
            yield from _names(member.type, depth - 1)


def release_key(release: str | None) -> str | None:
    """Make a string that sorts as releases do: 6.9 before 6.12, 6.12-rc3 before 6.12."""
    version = _VERSION.match(release or "")
    if version is None or release is None:
        return None
    candidate = _CANDIDATE.search(release)
    rank = f"0{candidate[1].zfill(_DIGITS)}" if candidate else "1"
    numbers = [part.zfill(_DIGITS) for part in version.groups("0")]
    rest = re.sub(r"\d+", lambda number: number[0].zfill(_DIGITS), release[version.end() :])
    return f"{'.'.join(numbers)}.{rank}{rest}"


def flavour(release: str | None) -> str | None:
    """``cloud-amd64`` of ``6.12.117+deb12-cloud-amd64``."""
    found = _FLAVOUR.search(release or "")
    return found[1] if found else None


def features(types: btf.BTF, is_sorted: bool) -> list[str]:
    """List what is in a vmlinux's BTF that older encoders do not write: names of kinds that came
    late, ``KFUNC`` for functions marked as such, ``NESTED_ARRAYS`` for arrays of several dimensions
    that are arrays of arrays, ``SORTED`` for types in order of their names."""
    found = [name for number, name in _LATE_KINDS if (types.own_kinds == number).any()]
    if types.find_all("bpf_kfunc", btf.DeclTag):
        found.append("KFUNC")
    if len(nested_arrays(types)):
        found.append("NESTED_ARRAYS")
    return found + ["SORTED"] * is_sorted


_LATE_KINDS = (
    (btf.kinds.FLOAT, "FLOAT"), (btf.kinds.DECL_TAG, "DECL_TAG"),
    (btf.kinds.TYPE_TAG, "TYPE_TAG"), (btf.kinds.ENUM64, "ENUM64"),
)  # fmt: skip
