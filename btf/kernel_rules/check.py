"""``check_kernel_rules``: would the kernel take this BTF.

The kernel reads BTF in three ways, and asks more of one than of the others:

program   what a program brings with it (``BPF_BTF_LOAD``): no base, 16 MiB at most; each record,
          and all that types refer to (``btf_parse``)
vmlinux   the kernel's own BTF, which it trusts to be sound: header, strings, each record, chains
          of modifiers, but no other reference (``btf_parse_base``)
module    the same of a module's BTF, on that of vmlinux (``btf_parse_module``)

Not judged is what the kernel decides with more than the BTF: whether it has the type that a kptr
points to, BTF ids and kfuncs of a module, memory.
"""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import numpy as np

from ..arguments import Bytes, number, octets, require
from ..errors import KernelRefusal, UnsupportedError
from ..format import kinds
from ..format.header import LONG_HEADER, MAGIC
from ..format.text import printable
from ..types.btf import BTF, HasBase, base_of
from ..types.layout import DEFAULT_POINTER_SIZE, size_of_long
from . import rules
from .chains import check_chains
from .metas import Names, check_records
from .resolve import Graph, resolve_all
from .rules import RULES, Release, Rule, active_rules, at_release, parse_release
from .special_fields import check_special_fields

PROGRAM, VMLINUX, MODULE = "program", "vmlinux", "module"
WAYS = (PROGRAM, VMLINUX, MODULE)


class Below(NamedTuple):
    """What the kernel knows of a base: kinds by id, void first, and the string section; uint8."""

    kinds: np.ndarray
    strings: np.ndarray


NOTHING = Below(np.zeros(1, np.uint8), np.zeros(0, np.uint8))


def check_kernel_rules(
    btf: BTF | Bytes,
    base: BTF | HasBase | None = None,
    *,
    release: str | None = None,
    load_as: str | None = None,
    pointer_size: int | None = None,
    path: str | None = None,
) -> None:
    """Return if the kernel would take this BTF; raise ``KernelRefusal`` if it would not.

    btf           a BTF, as ``to_bytes`` writes it, or a file's bytes, which need not be sound
    base          vmlinux's BTF, of a module; that which ``btf`` continues, by default
    release       of the kernel, such as ``6.12``, from 5.10 on; default: the newest known, 7.3
    load_as       ``program``, ``vmlinux`` or ``module``; default: module if there is a base, else
                  program, which is the strictest
    pointer_size  of the kernel, 4 or 8; default: that of the BTF

    Raises UnsupportedError for a release whose rules are not known, and for a base that has a base.
    """
    require(btf, (BTF, bytes, bytearray, memoryview, np.ndarray), "btf")
    require(release, (str, type(None)), "release")
    if pointer_size is not None and number(pointer_size, "pointer_size") not in (4, 8):
        raise ValueError(f"pointer_size is to be 4 or 8, not {pointer_size}")
    at = parse_release(release)
    on = base_of(base) if base is not None else btf.base if isinstance(btf, BTF) else None
    way = load_as or (PROGRAM if on is None else MODULE)
    if way not in WAYS:
        raise ValueError(f"load_as is to be one of {', '.join(WAYS)}, not {load_as!r}")
    if (way == MODULE) != (on is not None):
        raise ValueError(f"{way} BTF is checked {'on' if way == MODULE else 'without'} a base")
    data = octets(btf.to_bytes() if isinstance(btf, BTF) else btf)
    path = path or (btf.path if isinstance(btf, BTF) else None)
    below = below_module(on) if on is not None else NOTHING
    check_level(data, below, way, at, pointer_size, path)


def below_module(base: BTF) -> Below:
    """What is below a module's BTF. Raises UnsupportedError for a base that has a base."""
    if base.base is not None:
        raise UnsupportedError(
            "the kernel has two levels, vmlinux and module: none on a module or a shared layer",
            base.path,
        )
    return Below(np.concatenate((NOTHING.kinds, base.own_kinds)), base.strings)


def check_level(
    data: memoryview,
    below: Below,
    way: str,
    release: Release,
    pointer_size: int | None = None,
    path: str | None = None,
) -> Below:
    """Check one BTF file on what is below it; returns what is below one on that.

    way   one of WAYS; for the others see ``check_kernel_rules``
    """
    found = _read_sections(data, below, way, release, path)
    words, names = found.words, Names(below.strings, found.strings, np.zeros_like(found.strings))
    active = active_rules(release)
    limit = at_release(rules.NAME_LIMITS, release)
    offsets = np.zeros(len(words) // kinds.HEAD_WORDS + 2, np.uint32)
    start_id = len(below.kinds)

    def need(rule: int, own: int, word: int) -> None:
        if rule:
            subject = _describe(words, int(offsets[own]), names)
            raise refusal(rule, path, "types", word * 4, start_id + own, subject)

    rule, count, word = check_records(
        words,
        found.left,
        names,
        at_release(rules.MAX_KINDS, release),
        at_release(rules.INFO_MASKS, release),
        limit,
        at_release(rules.SECTION_NAMES, release),
        active,
        offsets,
    )
    need(rule, count, word)
    info = words[offsets[:count].astype(np.int64) + 1]
    own_kinds = (info >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK).astype(np.uint8)
    if way == PROGRAM:
        # Types beyond the limit are dropped without a word: references to them find nothing.
        count = min(count, rules.MAX_TYPE_ID - 1)
        graph = Graph.of(words, offsets, count, at_release(rules.FUNC_RESOLVES, release))
        long_size = size_of_long(words, offsets, own_kinds, names.own)
        pointers = pointer_size or long_size or DEFAULT_POINTER_SIZE
        rule, type_id, word = resolve_all(graph, names, limit, active, pointers)
        need(rule, type_id - start_id, word)
    if active[rules.CHAIN]:
        order = bool(active[rules.TAG_ORDER])
        need(*check_chains(words, offsets, below.kinds, count, order))
    if way == PROGRAM:
        special = words, offsets, own_kinds[:count], found.strings, release
        need(*check_special_fields(*special))
    return Below(np.concatenate((below.kinds, own_kinds)), found.strings)


class _Sections(NamedTuple):
    """The sections of a file whose header and strings the kernel takes.

    words     uint32: the type section in native byte order
    left      bytes of it after the last whole word
    strings   uint8: the string section
    """

    words: np.ndarray
    left: int
    strings: np.ndarray


def _read_sections(
    data: memoryview, below: Below, way: str, release: Release, path: str | None
) -> _Sections:
    """Check header, sections and strings (``btf_parse_hdr``, ``btf_parse_str_sec``)."""

    def need(sound: object, rule: int, offset: int | None, section: str = "header") -> None:
        if not sound:
            raise refusal(rule, path, section, offset)

    size, based, program = len(data), way == MODULE, way == PROGRAM
    need(not program or size <= rules.MAX_PROGRAM_BYTES, rules.TOO_LARGE, None)
    need(size >= 8, rules.HEADER_SHORT, None)
    order = ">" if data[:2] == MAGIC.to_bytes(2, "big") else "<"
    (claimed,) = struct.unpack_from(order + "I", data, 4)
    need(size >= claimed, rules.HEADER_CUT, 4)
    known = at_release(rules.HEADER_BYTES, release)
    need(not any(data[known:claimed]), rules.HEADER_LONG, known)
    # What the header is too short for is zero, its own length too.
    head = bytes(data[: min(claimed, known)]).ljust(LONG_HEADER, b"\0")
    magic, version, flags, header_bytes, *places = struct.unpack(order + "HBB7I", head)
    type_off, type_len, str_off, str_len, layout_off, layout_len = places
    need(magic == MAGIC, rules.MAGIC, 0)
    need(version == 1, rules.VERSION, 2)
    need(flags == 0, rules.FLAGS, 3)
    need(based or size != header_bytes, rules.NO_DATA, 4)

    has_layout = header_bytes >= LONG_HEADER and layout_len > 0
    sections = [(type_off, type_len, 8), (str_off, str_len, 16), (layout_off, layout_len, 24)]
    if not has_layout:
        sections.pop()
    whole, total = size - header_bytes, 0
    for offset, length, field in sorted(sections, key=functools.cmp_to_key(_before)):
        need(offset <= whole, rules.SECTION_OFFSET, field)
        need(offset <= total, rules.SECTION_GAP, field)
        need(offset >= total, rules.SECTION_OVERLAP, field)
        need(length <= whole - total, rules.SECTION_LENGTH, field + 4)
        total += length
    need(total == whole, rules.SECTION_GAP, None)

    last = str_off + str_len == whole or (known >= LONG_HEADER and header_bytes >= LONG_HEADER)
    need(last, rules.STRINGS_NOT_LAST, 16)
    strings = np.frombuffer(data, np.uint8)[header_bytes + str_off :][:str_len]
    if str_len or not based:
        need(0 < str_len <= rules.MAX_NAME_OFFSET + 1, rules.STRINGS_INVALID, 20)
        need(strings[-1] == 0, rules.STRINGS_INVALID, str_len - 1, "strings")
        need(based or strings[0] == 0, rules.STRINGS_INVALID, 0, "strings")
    if program and has_layout:
        need(layout_off % 4 == 0, rules.LAYOUT_ALIGNMENT, 24)
        need(layout_len >= 4, rules.LAYOUT_SMALL, 28)
        need(layout_len % 4 == 0, rules.LAYOUT_LENGTH, 28)
    if program:
        need(type_off % 4 == 0, rules.TYPES_ALIGNMENT, 8)
        need(type_len, rules.NO_TYPES, 12)
    types = bytes(data[header_bytes + type_off :][: type_len - type_len % 4])
    words = np.frombuffer(types, order + "u4").astype(np.uint32, copy=False)
    return _Sections(words, type_len % 4, strings)


def _before(a: tuple[int, int, int], b: tuple[int, int, int]) -> int:
    """Compare two sections as the kernel sorts them: by differences that are signed 32 bits."""
    for x, y in zip(a[:2], b[:2], strict=True):
        if x != y:
            return -1 if (x - y) & 0x80000000 else 1
    return 0


def _text(strings: np.ndarray, at: int) -> bytes:
    """The string at ``at``, or the first 64 bytes of it."""
    return strings[at : at + 64].tobytes().split(b"\0")[0]


def _describe(words: np.ndarray, at: int, names: Names) -> str:
    """Kind and name of the record at word ``at``, which may be damaged; "" if there is none."""
    if at + kinds.HEAD_WORDS > len(words):
        return ""
    kind = int(words[at + 1]) >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK
    shown = kinds.KIND_NAMES[kind] if 0 < kind <= kinds.MAX_KIND else f"kind {kind}"
    own = int(words[at]) - len(names.base)
    name = _text(names.own, own) if own >= 0 else _text(names.base, int(words[at]))
    return f"{shown} {printable(name.decode('utf-8', 'backslashreplace'))}".rstrip()


def refusal(
    rule: int,
    path: str | None,
    section: str,
    offset: int | None,
    type_id: int | None = None,
    subject: str = "",
) -> KernelRefusal:
    broken = RULES[rule]
    assert isinstance(broken, Rule)
    said = f'says "{broken.words}"' if broken.words else "says nothing"
    where = f"{broken.source}, {broken.releases}"
    message = f"{subject}{': ' if subject else ''}{broken.what}; the kernel {said} ({where})"
    at = int(offset) if offset is not None else None  # of numpy where functions are interpreted
    return KernelRefusal(message, path, section, at, type_id, broken.source, broken.words)
