"""From any bytes to BTF: raw, in an ELF file, in a kernel image; with or without a base.

``open_module`` finds out which form the BTF has, and whether it belongs to the base at all.

standalone  all types that it uses, made without a base
dwarf       as standalone, made by the caller from a module's DWARF, as its BTF cannot be used
split       continues a base already; deduplicated once more against it
distilled   split on a ``.BTF.base`` of its own; relocated to the base, then like split

Nothing in a BTF file says which base it was made for. A wrong base shows nevertheless:

* split BTF names most of its types and members by offsets into the base's strings, and with a
  wrong base those offsets do not fall on the beginning of strings;
* its references land on types that cannot stand there, such as a member of type FUNC;
* any module has ``struct module``, whose layout is part of the kernel's ABI: a standalone module
  whose ``struct module`` or ``struct task_struct`` is laid out unlike the base's was built for
  another kernel or configuration;
* byte order, and the release in vermagic where both are ELF files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..compiled.jit import compiled
from ..errors import BtfError, WrongBaseError
from ..format.header import BYTE_ORDERS, Header, parse_header
from ..format.kinds import (
    DATASEC,
    DECL_TAG,
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    FUNC,
    FUNC_PROTO,
    HEAD_IS_REF,
    HEAD_WORDS,
    VAR,
    is_no_type,
    kind_of,
)
from ..types.btf import BTF, HasBase, base_of, parse
from . import elf as elf_file
from . import images
from .readable import Readable, readable
from .sections import MAGIC as ELF_MAGIC

STANDALONE = "standalone"
SPLIT = "split"
DISTILLED = "distilled"
DWARF = "dwarf"

_MAX_WRAPPER = 256 << 20  # of an ELF file around a compressed kernel

# Answers of _misfit.
_FITS = 0
_NAME_INSIDE_STRING = 1
_IMPOSSIBLE_REFERENCE = 2


@dataclass(frozen=True, eq=False)
class Module:
    """BTF out of a file, read and checked, and what the file says of itself.

    form         STANDALONE, DWARF, SPLIT or DISTILLED
    input_bytes  size of the BTF, not of the file around it
    release      of a module the first word of its vermagic, of a vmlinux that of its banner
    """

    btf: BTF
    form: str
    input_bytes: int
    name: str | None = None
    build_id: str | None = None
    depends: tuple[str, ...] = ()
    release: str | None = None


def load_base(data: Readable, *, path: str | None = None) -> BTF:
    """Read vmlinux's BTF: a raw BTF file, an ELF file with a ``.BTF`` section, or a kernel image.

    Raises WrongBaseError for split BTF, NoBtfError or BtfError.
    """
    found = open_module(data, path=path).btf
    if found.base is not None:
        raise WrongBaseError("split BTF on a distilled base, not a kernel's base", path)
    return found


def open_module(
    data: Readable,
    on: BTF | HasBase | None = None,
    *,
    path: str | None = None,
    release: str | None = None,
    from_dwarf: Callable[[Readable], bytes] | None = None,
    prefer_dwarf: bool = False,
) -> Module:
    """Read the BTF of any file, find out its form, and check that it can be put on a base.

    data          a raw BTF file, an ELF file or a kernel image; of an ELF file only parts are read
    on            the base, or its index. None: split BTF is refused with WrongBaseError, and BTF
                  on a distilled base continues that
    release       of the base's kernel, where known: compared with the module's vermagic
    from_dwarf    makes standalone BTF of an ELF file that has DWARF and no BTF, or none that can
                  be used on this base; what it raises is passed on
    prefer_dwarf  has it made also where there is BTF that can be used

    BTF on a distilled base is relocated: what is given back continues ``on``. Such a
    module is meant to outlive its kernel, so another release in its vermagic is no error; what
    does not fit shows when it is relocated. Raises NoBtfError, WrongBaseError or BtfError.
    """
    base = base_of(on) if on is not None else None
    data = readable(data)
    if data[:4] != ELF_MAGIC:
        found = None if bytes(data[:2]) in BYTE_ORDERS else images.btf_if_image(data, path=path)
        if found is not None:
            return Module(*_open_btf(found[0], None, base, path), release=found[1])
        whole = data if isinstance(data, (bytes, memoryview)) else data[:]
        return Module(*_open_btf(whole, None, base, path))
    file = elf_file.read_elf(data, path)
    if file.btf is None and not file.has_dwarf and file.name is None and len(data) < _MAX_WRAPPER:
        with contextlib.suppress(BtfError):
            raw, banner = images.btf_from_image(data)
            return Module(*_open_btf(raw, None, base, path), release=banner)
    foreign = bool(release and file.release and release != file.release)
    if foreign and file.btf_base is None:
        raise WrongBaseError(
            f"built for kernel {file.release}, but the base is of {release}", path, ".modinfo"
        )
    make = from_dwarf if file.has_dwarf and not foreign else None
    opened = None
    if make is None or not prefer_dwarf:
        try:
            opened = _open_btf(elf_file.btf_section(file, path), file.btf_base, base, path)
        except BtfError:
            if make is None:
                raise
    if opened is None and make is not None:
        btf, _, input_bytes = _open_btf(make(data), None, base, path)
        opened = btf, DWARF, input_bytes
    assert opened is not None
    if file.narrow:  # of others pointers have 8 bytes anyway
        opened = replace(opened[0], elf_pointer_size=4, sound=True), *opened[1:]
    return Module(*opened, file.name, file.build_id, file.depends, file.release)


def _open_btf(
    data: bytes | memoryview, btf_base: bytes | None, base: BTF | None, path: str | None
) -> tuple[BTF, str, int]:
    """Open raw BTF on ``base``; returns it, its form and its size."""
    if btf_base is not None:
        return _read_distilled(data, btf_base, base, path), DISTILLED, len(data) + len(btf_base)
    head = parse_header(memoryview(data), path)
    form = _form(data, head)
    if form == SPLIT:
        return _parse_split(data, head, base, path), form, len(data)
    btf = parse(data, path=path, head=head)
    if base is not None and btf.byteorder != base.byteorder:
        raise WrongBaseError(
            f"{btf.byteorder}-endian, but the base is {base.byteorder}-endian: "
            "a module of another architecture?",
            path,
            "header",
            0,
        )
    return btf, form, len(data)


def _read_distilled(
    data: bytes | memoryview, btf_base: bytes, base: BTF | None, path: str | None
) -> BTF:
    """BTF on its own distilled base (``.BTF`` and ``.BTF.base``), relocated to ``base`` if there
    is one."""
    try:
        distilled = parse(btf_base, path=path)
    except BtfError as error:
        message = f"in .BTF.base: {error.message}"
        raise BtfError(message, path, error.section, error.offset, error.type_id) from error
    module = parse(data, distilled, path=path)
    if base is None:
        return module
    from ..distill.relocate import relocate  # late: few modules need it

    return relocate(module, base).btf


def detect_form(data: bytes | memoryview, path: str | None = None) -> str:
    """STANDALONE or SPLIT, by the string section: without a base it begins with the empty string,
    which split BTF finds in its base and never repeats."""
    return _form(data, parse_header(memoryview(data), path))


def _form(data: bytes | memoryview, head: Header) -> str:
    if head.string_bytes and data[head.string_start] == 0:
        return STANDALONE
    return SPLIT


def _parse_split(data: bytes | memoryview, head: Header, base: BTF | None, path: str | None) -> BTF:
    if base is None or head.byteorder != base.byteorder:
        other = f"the base is {base.byteorder}-endian" if base is not None else "there is no base"
        raise WrongBaseError(
            f"split BTF, {head.byteorder}-endian; {other}",
            path,
            "header",
            0,
        )
    try:
        btf = parse(data, base, path=path, head=head)
    except BtfError as error:
        if error.section != "types" or error.type_id is None:
            raise
        raise WrongBaseError(
            f"{error.message}; this is split BTF: it is damaged, or belongs to another base",
            path,
            error.section,
            error.offset,
            error.type_id,
        ) from error
    flat = base.flat
    code, at, word = _misfit(
        btf.words, btf.offsets, btf.strings, flat.words, flat.offsets, flat.strings
    )
    if code != _FITS:
        if code == _NAME_INSIDE_STRING:
            what = f"a name at string offset {btf.words[word]} is in the middle of a string"
        else:
            referred = int(btf.words[word])
            kind = btf[referred].kind_name if referred < base.type_end else "own type"
            what = f"a reference to [{referred}], a {kind}, cannot stand here"
        raise WrongBaseError(
            f"{what}: this is split BTF of another base than the one given",
            path,
            "types",
            int(word) * 4,
            btf.start_id + int(at),
        )
    return btf


@compiled
def _begins_string(base_strings, own_strings, offset):  # type: ignore[no-untyped-def]
    """Whether a global string ``offset`` (int64) is the beginning of a string.

    base_strings, own_strings   uint8: string sections of the flattened base and of the split BTF
    """
    own = offset - len(base_strings)
    if own > 0:
        return own_strings[own - 1] == 0
    return offset == 0 or own == 0 or base_strings[offset - 1] == 0


@compiled
def _may_refer(kind, target):  # type: ignore[no-untyped-def]
    """Whether a type of ``kind`` may refer to one of kind ``target``, both int64."""
    if kind == DECL_TAG:
        return target != FUNC_PROTO and target != DATASEC and target != DECL_TAG
    if kind == DATASEC:
        return target == VAR or target == FUNC
    if kind == FUNC:
        return target == FUNC_PROTO
    if is_no_type(target):
        return False
    if target == FUNC_PROTO:  # behind a pointer or a name, perhaps with modifiers in between
        return HEAD_IS_REF[kind] != 0 and kind != FUNC_PROTO and kind != VAR
    return True


@compiled
def _misfit(words, offsets, strings, base_words, base_offsets, base_strings):  # type: ignore[no-untyped-def]
    """Find the first thing that split BTF cannot contain on its true base.

    words, offsets, strings                  of the split BTF, as in ``BTF``; ids are global
    base_words, base_offsets, base_strings   of the flattened base

    Returns (code, own type from 0, position in ``words``); code is _FITS, _NAME_INSIDE_STRING or
    _IMPOSSIBLE_REFERENCE.
    """
    first_own = len(base_offsets)
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        info = words[at + 1]
        kind = kind_of(info)
        if not _begins_string(base_strings, strings, np.int64(words[at])):
            return _NAME_INSIDE_STRING, index, at
        for word in range(at + 2, end):
            step = word - at - HEAD_WORDS
            is_name = False
            is_ref = step < 0 and HEAD_IS_REF[kind] != 0
            if step >= 0 and step < FIXED_WORDS[kind]:
                is_ref = step < FIXED_REFS[kind]
            elif step >= 0 and ELEMENT_WORDS[kind] > 0:
                part = (step - FIXED_WORDS[kind]) % ELEMENT_WORDS[kind]
                is_name = part == ELEMENT_NAME[kind]
                is_ref = part == ELEMENT_REF[kind]
            if is_name and not _begins_string(base_strings, strings, np.int64(words[word])):
                return _NAME_INSIDE_STRING, index, word
            if is_ref:
                referred = np.int64(words[word])
                if referred == 0:
                    continue
                if referred < first_own:
                    target = kind_of(base_words[np.int64(base_offsets[referred - 1]) + 1])
                else:
                    target = kind_of(words[np.int64(offsets[referred - first_own]) + 1])
                if not _may_refer(kind, target):
                    return _IMPOSSIBLE_REFERENCE, index, word
    return _FITS, 0, 0
