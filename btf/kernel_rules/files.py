"""The rules of the kernel for BTF in any file, which need not be sound: raw, ELF, kernel image."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from ..arguments import octets
from ..distill.relocate import relocate
from ..edit.fields import fields
from ..errors import KernelRefusal, WrongBaseError
from ..files import elf, images
from ..files.readable import Readable, readable
from ..files.sections import MAGIC as ELF_MAGIC
from ..format.header import MAGIC, SHORT_HEADER
from ..format.text import printable
from ..types.btf import BTF, HasBase, base_of, parse
from .check import MODULE, NOTHING, PROGRAM, VMLINUX, below_module, check_level, refusal
from .rules import NAME_UNMAPPED, parse_release, told_release

_RELOCATES = "btf_relocate"
_DISTILLED = (6, 11)  # the release since which the kernel reads .BTF.base


class Raw(NamedTuple):
    """BTF out of a file, not looked at.

    data      the BTF
    below     its distilled base, ``.BTF.base``, or None
    release   of the file's kernel, where it says so
    is_kernel whether the file is a kernel
    """

    data: memoryview
    below: bytes | None
    release: str | None
    is_kernel: bool

    @property
    def is_split(self) -> bool:
        """Whether it needs a base: own strings do not begin with the empty one."""
        if len(self.data) < SHORT_HEADER:
            return False
        order = ">" if self.data[:2] == MAGIC.to_bytes(2, "big") else "<"
        header_bytes, str_off, str_len = struct.unpack_from(order + "4xI8xII", self.data)
        at = header_bytes + str_off
        own = str_len == 0 or (at < len(self.data) and self.data[at] != 0)
        return self.below is not None or own


class Checked(NamedTuple):
    """How BTF was checked: one of ``check.WAYS``, and as which release, such as ``7.3``."""

    load_as: str
    release: str


def read_raw(data: Readable, path: str | None = None) -> Raw:
    """Find the BTF in a file. Raises NoBtfError or BtfError where there is none to be found."""
    data = readable(data)
    if data[:4] == ELF_MAGIC:
        file = elf.read_elf(data, path)
        found = memoryview(elf.btf_section(file, path))
        is_kernel = file.name is None and file.release is not None
        return Raw(found, file.btf_base, file.release, is_kernel)
    if bytes(data[:2]) not in (MAGIC.to_bytes(2, "big"), MAGIC.to_bytes(2, "little")):
        kernel = images.btf_if_image(data, path=path)
        if kernel is not None:
            return Raw(memoryview(kernel[0]), None, kernel[1], True)
    whole = octets(data if isinstance(data, bytes | memoryview) else data[:])
    return Raw(whole, None, None, False)


def check_raw(
    raw: Raw,
    base: BTF | HasBase | None = None,
    *,
    path: str | None = None,
    release: str | None = None,
    load_as: str | None = None,
    pointer_size: int | None = None,
) -> Checked:
    """Return how BTF was checked; raise ``KernelRefusal`` if the kernel would not take it.

    base   vmlinux's BTF; without one, split BTF is refused with WrongBaseError, unless it has a
           distilled base, which is checked with it, and put on ``base`` as the kernel does
    The others are those of ``check_kernel_rules``. By default a kernel's BTF is checked as vmlinux,
    split BTF as module, and what is neither as program.
    """
    at = parse_release(release or told_release(raw.release))
    on = base_of(base) if base is not None else None
    way = load_as or (MODULE if raw.is_split else VMLINUX if raw.is_kernel else PROGRAM)
    distilled = raw.below if at >= _DISTILLED and way == MODULE else None
    below = below_module(on) if on is not None and way == MODULE else NOTHING
    if distilled is not None:
        below = check_level(octets(distilled), NOTHING, VMLINUX, at, pointer_size, path)
    elif way == MODULE and on is None:
        raise WrongBaseError("split BTF: it is checked on its base only", path)
    elif way != MODULE and on is not None:
        raise WrongBaseError("standalone BTF, no module's: it is checked without a base", path)
    check_level(raw.data, below, way, at, pointer_size, path)
    if distilled is not None and on is not None:
        split = parse(raw.data, parse(distilled, path=path), path=path)
        try:
            relocate(split, on)
        except WrongBaseError as error:
            message = f"{error.message} ({_RELOCATES}, since Linux 6.11)"
            where = error.section, error.offset, error.type_id
            raise KernelRefusal(message, path, *where, _RELOCATES) from error
        _check_names(split, path)
    return Checked(way, ".".join(map(str, at)))


def _check_names(split: BTF, path: str | None) -> None:
    """Check what ``relocate`` does not ask for: the kernel has places for names of types only."""
    assert split.base is not None
    words, _ = fields(split.words, split.offsets[:-1], split.offsets[1:])
    names = split.words[words]
    lost = (names > 0) & (names < split.base.str_end)
    lost &= ~np.isin(names, split.base.words[split.base.offsets[:-1]])
    if lost.any():
        word = int(words[lost.argmax()])
        at = split[split.start_id + int(np.searchsorted(split.offsets, word, "right")) - 1]
        subject = printable(f"{at.kind_name} {at.name}")
        raise refusal(NAME_UNMAPPED, path, "types", word * 4, at.id, subject)
