"""BTF as no compiler writes it: any type refers to any other, under names made to do harm."""

from __future__ import annotations

import random

from support import btfwriter as bw

INJECTED = "PWNED"
"""A word that must not come out as a word of its own."""

NAMES: tuple[bw.Name, ...] = (
    0, "", "a", "b", "s", "t", "s___2", "int", "char", "bool", "true", "while", "_Bool", "typeof",
    "__LINE__", "__builtin_va_list", "__builtin_offsetof", "__int128_t", "__attribute", "__x86_64",
    "__btf_decl_tag", "__pad_0", "__opaque", "__anon_0", "__no_values", "__not_expressible",
    "linux", "unix", "exit", "printf", "a_", "b_", "nullptr", "__seg_fs", "_Float32", "size_t",
    "Option<&str>", "core::fmt", "a.b", ".data", "1st", "a b", "-", "*/", "/*", "//", "café",
    b"\xff\xfe", "\x1b[2J", "new\nline", "\u202e", "??/", '"', "\\", "a\\\nb", "#define a b",
    f"x; }} int {INJECTED}(void) {{ return 1; }}", f"*/ {INJECTED} /*", f'") {INJECTED} ("',
    f"\n#include {INJECTED}\n",
)  # fmt: skip
INTS = (("int", 4), ("char", 1), ("long int", 8), ("_Bool", 1), ("__int128", 16), ("u3", 3))
SIZES = (0, 1, 2, 3, 4, 8, 12, 16, 24, 64, 255, 4096, 0x7FFFFFFF, 0xFFFFFFFF)
COUNTS = (0, 1, 2, 3, 8, 1000, 0x7FFFFFFF, 0xFFFFFFFF)
VALUES = (0, 1, 2, 127, 128, 255, 256, 32768, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32,
          (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
ATTRIBUTES = (
    "unused", "address_space(1)", "aligned(8)", "x(", "x)", "x,y", "x()y", 'f("a")', 'f("a\\")',
    "f(1, g(2), -3)", "", "1", "a b", "f(\n)", "clang::x", "f(;)", f'f("{INJECTED}")', "f('a')",
    f"unused))) {INJECTED} (((",
)  # fmt: skip


class Graph:
    """A writer with some scalars and ``count`` more types, drawn by ``dice``."""

    def __init__(self, dice: random.Random, count: int) -> None:
        self._dice = dice
        self.writer = bw.Writer()
        self._last = count + len(INTS)
        for name, size in INTS:
            encoding = bw.BOOL if name == "_Bool" else dice.choice((0, bw.SIGNED))
            self.writer.int(name, size, encoding=encoding)
        while self.writer.next_id <= self._last:
            dice.choice(self._KINDS)(self)

    def _id(self) -> int:
        """Most often one that is there already: circles by chance, not in every graph."""
        if self._dice.random() < 0.75:
            return self._dice.randint(0, self.writer.next_id - 1)
        return self._dice.randint(0, self._last)

    def _name(self) -> bw.Name:
        plain = self._dice.random() < 0.5
        return f"n{self._dice.randint(0, 6)}" if plain else self._dice.choice(NAMES)

    def _int(self) -> None:
        size, encoding = self._dice.choice((1, 2, 4, 8, 16)), self._dice.choice((0, 1, 2, 4))
        self.writer.int(self._name(), size, encoding=encoding)

    def _tag(self) -> None:
        attribute = self._dice.random() < 0.3
        text = self._dice.choice(ATTRIBUTES) if attribute else self._name()
        self.writer.type_tag(text or "tag", self._id(), attribute=attribute)

    def _decl_tag(self) -> None:
        attribute = self._dice.random() < 0.3
        text = self._dice.choice(ATTRIBUTES) if attribute else self._name()
        self.writer.decl_tag(text or "tag", self._id(), attribute=attribute)

    def _composite(self) -> None:
        dice, at, members = self._dice, 0, []
        flag = dice.random() < 0.3
        union = dice.random() < 0.3
        for _ in range(dice.choice((0, 1, 1, 2, 3))):
            bits = dice.choice((0, 1, 3, 8, 31, 64, 200)) if flag else 0
            offset = dice.choice((at, at, at, dice.randint(0, 300), 0))
            members.append(
                (self._name(), self._id(), bw.bitfield(bits, offset) if flag else offset)
            )
            at += 0 if union else bits or dice.choice((8, 32, 64, 128))
        size = dice.choice((-(-at // 8), -(-at // 64) * 8, dice.choice(SIZES)))
        make = self.writer.union if union else self.writer.struct
        make(dice.choice((0, self._name())), size, members, kind_flag=flag)

    def _enum(self) -> None:
        dice = self._dice
        values = [(self._name(), dice.choice(VALUES)) for _ in range(dice.randint(0, 3))]
        make = dice.choice((self.writer.enum, self.writer.enum64))
        make(
            self._name(),
            dice.choice((1, 2, 4, 8, 4, 8, *SIZES)),
            values,
            signed=dice.random() < 0.5,
        )

    def _proto(self) -> None:
        dice = self._dice
        params = [(self._name(), self._id()) for _ in range(dice.randint(0, 3))]
        self.writer.func_proto(self._id(), params, variadic=dice.random() < 0.2)

    _KINDS = (
        lambda g: g.writer.ptr(g._id()),
        lambda g: g.writer.ptr(g._id()),
        lambda g: g.writer.const(g._id()),
        lambda g: g.writer.volatile(g._id()),
        lambda g: g.writer.restrict(g._id()),
        lambda g: g.writer.typedef(g._name() or "t", g._id()),
        lambda g: g.writer.typedef(g._name() or "t", g._id()),
        lambda g: g.writer.array(g._id(), 1, g._dice.choice(COUNTS)),
        lambda g: g.writer.fwd(g._name() or "f", union=g._dice.random() < 0.3),
        _int,
        lambda g: g.writer.float(g._name() or "float", g._dice.choice((2, 4, 8, 12, 16))),
        lambda g: g.writer.var(g._name() or "v", g._id()),
        _tag, _decl_tag, _composite, _composite, _composite, _enum, _proto,
    )  # fmt: skip
