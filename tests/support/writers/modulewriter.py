"""Writes kernel modules for tests, with BTF as builds leave it behind, and `.BTF_ids`.

base, split, ids = bloated()
module(split.to_bytes(), ids=kfuncs(ids))
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.btfwriter import Writer
from support.writers.elfwriter import SHT_SYMTAB, elf, modinfo, symbol_table

KFUNCS = ("zeta", "alpha", "mid")
SIGNATURE = b"pkcs7" * 20
SIGNED = (
    SIGNATURE + struct.pack(">3x2B3xI", 0, 0, len(SIGNATURE)) + b"~Module signature appended~\n"
)


@dataclass
class Ids:
    """A `.BTF_ids` section: its words, and the symbols (name, offset, size) in it."""

    words: list[int] = field(default_factory=list)
    symbols: list[tuple[str, int, int]] = field(default_factory=list)

    def one(self, kind: str, name: str, type_id: int) -> None:
        """An id that is in no set."""
        self.symbols.append((f"__BTF_ID__{kind}__{name}__{len(self.symbols)}", self.end, 4))
        self.words.append(type_id)

    def set(self, name: str, members: Sequence[tuple[str, int, int]], *, flags: bool) -> None:
        """A set of functions (name, id, flags), sorted by id as in a module that was built."""
        step = 8 if flags else 4
        mark = "set8" if flags else "set"
        self.symbols.append((f"__BTF_ID__{mark}__{name}", self.end, step * (len(members) + 1)))
        for number, (member, _, _) in enumerate(members, 1):
            at = self.end + step * number
            self.symbols.append((f"__BTF_ID__func__{member}__{at}{number}", at, 4))
        self.words += [len(members), 1][: step // 4]
        for _, type_id, flag in sorted(members, key=lambda member: member[1]):
            self.words += [type_id, flag][: step // 4]

    @property
    def end(self) -> int:
        return 4 * len(self.words)


def bloated(order: str = "<") -> tuple[Writer, Writer, dict[str, int]]:
    """vmlinux's BTF; a module's that repeats types of it; and the ids of the module's functions,
    which dedup puts in another order than that of their names, and of the struct `shared`."""
    base = Writer(order)
    number = base.int("int", 4)
    shared = base.struct("shared", 4, [("x", number, 0)])
    base.typedef("size_t", number)
    base.ptr(shared)
    base.func_proto(number, [("s", 4)])
    split = Writer(order, base=base)
    ids = {"shared": shared}
    for name in KFUNCS:
        copy = split.typedef("size_t", number)  # which the base has
        pointer = split.ptr(shared)
        own = split.typedef(f"{name}_t", copy)
        proto = split.func_proto(own, [("s", pointer)])
        ids[name] = split.func(name, proto)
    return base, split, ids


def kfuncs(ids: Mapping[str, int]) -> Ids:
    """`.BTF_ids` of the module of `bloated`: a list of a struct, a hole, and a set of each kind."""
    made = Ids()
    made.one("struct", "shared", ids["shared"])
    made.words.append(0)
    members = [(name, ids[name], 4 + number) for number, name in enumerate(KFUNCS)]
    made.set("kfuncs", members, flags=True)
    made.set("allowed", members[:2], flags=False)
    return made


def module(
    btf: bytes,
    *,
    ids: Ids | None = None,
    bits: int = 64,
    order: str = "<",
    signature: bytes = b"",
    name: str = "m",
    release: str = "6.1.0",
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """A module's file: `.BTF` is followed by what a linker puts there.

    more   other sections, before `.BTF`
    """
    sections = {
        ".text": b"\x90" * 33,
        ".modinfo": modinfo(name=name, depends="", vermagic=f"{release} SMP"),
        **(more or {}),
    }
    if ids is not None:
        sections[".BTF_ids"] = struct.pack(f"{order}{len(ids.words)}I", *ids.words)
    place = len(sections)  # of .BTF_ids, after the section of number 0
    sections[".BTF"] = btf
    symbols = symbol_table(ids.symbols if ids else (), place, bits=bits, order=order)
    sections[".symtab"], sections[".strtab"] = symbols
    sections[".rela.text"] = bytes(range(48))
    made = elf(
        sections,
        bits=bits,
        order=order,
        kinds={".symtab": SHT_SYMTAB, ".strtab": 3, ".rela.text": 4},
        flags={".BTF_ids": 2, ".text": 6},
        links={".symtab": (".strtab", ""), ".rela.text": (".symtab", ".text")},
        alignments={".symtab": 8, ".rela.text": 16, ".BTF_ids": 4},
    )
    return made + signature
