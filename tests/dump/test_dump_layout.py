"""Protects layouts: C to BTF (gcc, pahole) to C (our dump) to BTF again gives the same offsets.

Offsets of bit-fields cannot be asserted in C; going round sees them too. What is compared is a flat
list of members, because padding and attributes may differ as long as the layout is the same.
"""

from __future__ import annotations

import functools
import json
import platform
import random
from pathlib import Path

import pytest

import btf
from support import btfwriter as bw
from support import dumping

Flat = tuple[int, tuple[tuple[str, int, int], ...]]  # size, (path, bit offset, bits)


def facts(types: btf.BTF) -> list[dict]:
    return json.loads("".join(btf.dump_json(types)))["types"]


class Reader:
    """Layouts of one BTF, from the facts of ``btf.dump_json``, which bpftool vouches for."""

    def __init__(self, types: btf.BTF) -> None:
        self.own = facts(types)
        self.by_id = {fact["id"]: fact for fact in self.own}
        self.base = {} if types.base is None else Reader.of_base(types.base)

    @staticmethod
    @functools.cache
    def of_base(types: btf.BTF) -> dict[int, dict]:
        return {fact["id"]: fact for fact in facts(types)}

    def get(self, type_id: int) -> dict | None:
        return self.by_id.get(type_id) or self.base.get(type_id)

    def composite_behind(self, type_id: int) -> dict | None:
        """The anonymous struct or union that a member of this type is made of."""
        fact = self.get(type_id)
        while fact and fact["kind"] in ("CONST", "VOLATILE", "ARRAY"):
            fact = self.get(fact["type_id"])
        if fact and fact["kind"] in ("STRUCT", "UNION") and fact["name"] == "(anon)":
            return fact
        return None

    def flat(self, fact: dict, at: int = 0, path: str = "") -> list[tuple[str, int, int]]:
        out = []
        for member in fact["members"]:
            name = "" if member["name"] == "(anon)" else member["name"]
            offset, inside = at + member["bits_offset"], self.composite_behind(member["type_id"])
            if name.startswith("__pad_"):
                continue
            if inside is None or name:
                out.append((path + name, offset, member.get("bitfield_size", 0)))
            if inside is not None:
                out += self.flat(inside, offset, f"{path}{name}." if name else path)
        return out

    def layouts(self) -> dict[str, list[Flat]]:
        found: dict[str, list[Flat]] = {}
        for fact in self.own:
            kind, name = fact["kind"], fact["name"]
            if kind == "TYPEDEF":
                behind = self.composite_behind(fact["type_id"])
                if behind is None:
                    continue
                fact = behind
            elif kind not in ("STRUCT", "UNION") or name == "(anon)":
                continue
            flat = fact["size"], tuple(self.flat(fact))
            found.setdefault(f"{kind} {name}", []).append(flat)
        return found


def check_round_trip(types: btf.BTF, folder: Path) -> tuple[int, int]:
    """Layouts and bit-fields compared."""
    header = folder / "again.h"
    header.write_bytes(dumping.encoded(btf.dump_c(types)))
    again = Reader(dumping.encoded_by_pahole(header)).layouts()
    count = bit_fields = 0
    for name, layouts in Reader(types).layouts().items():
        candidates, number = list(again.get(name, ())), 2
        while f"{name}___{number}" in again:
            candidates += again[f"{name}___{number}"]
            number += 1
        for layout in layouts:
            assert layout in candidates, name
            count += 1
            bit_fields += sum(bits > 0 for _, _, bits in layout[1])
    return count, bit_fields


@pytest.fixture(autouse=True)
def tools() -> None:
    dumping.need("gcc", "pahole")


@pytest.mark.slow
def test_vmlinux(tmp_path: Path) -> None:
    count, bit_fields = check_round_trip(dumping.base(), tmp_path)
    assert count > 7500 and bit_fields > 1500


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kvm", "btrfs", "mlx5_core"])
def test_split_modules(name: str, tmp_path: Path) -> None:
    if name not in dumping.module_names():
        pytest.skip(f"NOT RUN: {name} is not in the demo")
    count, _ = check_round_trip(dumping.split(name), tmp_path)
    assert count > 40


TRICKY = """
typedef unsigned int u32;
typedef unsigned long u64;
typedef u64 __attribute__((aligned(4))) compat_u64;
typedef int line_t __attribute__((aligned(64)));
enum __attribute__((packed)) small { SMALL };
enum negative { NEGATIVE = -1 };
enum large { LARGE = 0x100000000ULL };

struct crossing { int a : 20; int b : 20; int c : 20; };
struct zero_width { int a : 3; int : 0; int b : 3; char c : 2; };
struct mixed_units { char a : 3; short b : 9; int c : 17; long d : 40; _Bool e : 1; };
struct gap { int a : 1; int : 13; int b : 4; unsigned long long c : 46; };
struct packed_bits { int a : 3; long b : 60; char c; int d : 31; } __attribute__((packed));
struct enum_bits { enum small a : 2; enum negative b : 5; u32 c : 25; };
struct after_bits { u64 a : 33; char b; u32 c; };
struct tail_bits { char a; u64 b : 5; };
struct one_bit { u64 a : 1; };
struct not_aligned { char a; compat_u64 b; };
struct lines { char a; line_t b; char c; };
struct member_aligned { char a; char b __attribute__((aligned(32))); };
struct member_packed { char a; u64 b __attribute__((packed)); u32 c; };
struct whole_aligned { short a; } __attribute__((aligned(16)));
struct packed_aligned { char a; u64 b; u32 c; } __attribute__((packed, aligned(8)));
struct holds { char a; struct packed_aligned b[2]; struct whole_aligned c; struct tail_bits d; };
struct i128 { char a; __int128 b; };
struct i128_packed { u64 a; __int128 b; } __attribute__((packed));
struct long_double { char a; long double b; float c; };
union u_aligned { char a; short b; } __attribute__((aligned(8)));
union u_packed { u64 a; char b[9]; } __attribute__((packed));
union u_bits { u64 a : 3; u32 b : 30; char c[3]; };
struct in_union { union { struct { u32 a : 4, b : 4; } __attribute__((packed)); u64 c; }; char d; };
struct empty { };
struct with_empty { struct empty a; u32 b; struct empty c; };
struct flexible { u32 a; u64 b[]; };
struct zero_array { char a; u64 b[0]; char c; };
struct functions { int (*a)(int), (*b[3])(void (*)(char)); int (*(*c)(void))[4]; };
struct pages { char a; char b __attribute__((aligned(4096))); };
struct nested_packed { char a; struct { char b; struct { u64 c; } d; } __attribute__((packed)) e; };
struct big_enum { char a; enum large b; enum small c; };
typedef struct { char a; u32 b : 9; } __attribute__((packed)) anonymous_packed;
struct uses { char a; anonymous_packed b[3]; const volatile anonymous_packed *c; };
"""


def test_tricky_layouts(tmp_path: Path) -> None:
    source = tmp_path / "tricky.c"
    source.write_text(TRICKY)
    types = dumping.encoded_by_pahole(source)
    text = "".join(btf.dump_c(types, asserts=True))
    assert "not expressible" not in text
    header = tmp_path / "tricky.h"
    header.write_text(text)
    assert dumping.compiled(header) == ""
    count, bit_fields = check_round_trip(types, tmp_path)
    defined = [line for line in TRICKY.splitlines() if line.startswith(("struct", "union"))]
    assert count == len(defined) + 1  # and a typedef
    assert bit_fields > 25


# ---------------------------------------------------------------------- random layouts

SCALARS = (
    "char", "signed char", "short", "unsigned short", "int", "unsigned int", "long",
    "unsigned long long", "_Bool", "__int128", "float", "double", "long double", "void *",
    "enum e_int", "enum e_byte", "enum e_long", "line_t", "loose_t",
)  # fmt: skip
BIT_TYPES = {
    "char": 8, "unsigned char": 8, "short": 16, "int": 32, "unsigned": 32, "long": 64, "_Bool": 1,
    "unsigned long long": 64, "enum e_int": 32, "enum e_byte": 8,
}  # fmt: skip


class Layouts:
    """C source of random structs and unions, each of which may hold those before it."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._names: list[str] = []
        self._fields = 0
        self.source = (
            "enum e_int { I }; enum __attribute__((packed)) e_byte { B }; enum e_long "
            "{ L = 1ULL << 40 }; typedef int line_t __attribute__((aligned(16))); "
            "typedef long loose_t __attribute__((aligned(2)));\n"
        )
        for number in range(50):
            keyword = self._dice.choice(("struct", "struct", "union"))
            self.source += f"{keyword} s{number} {self._body(0)};\n"
            self._names.append(f"{keyword} s{number}")

    def _body(self, depth: int) -> str:
        fields = "".join(self._field(depth) for _ in range(self._dice.randint(0, 6)))
        attributes = [a for a in ("packed",) if self._dice.random() < 0.25]
        if self._dice.random() < 0.2:
            attributes.append(f"aligned({1 << self._dice.randint(0, 6)})")
        return f"{{ {fields}}} __attribute__(({','.join(attributes)}))"

    def _field(self, depth: int) -> str:
        dice = self._dice
        self._fields += 1
        name, roll = f"m{self._fields}", dice.random()
        if roll < 0.35:
            kind, most = dice.choice(list(BIT_TYPES.items()))
            shape = dice.choice((name,) * 8 + ("",))
            return f"{kind} {shape} : {dice.randint(1, most)}; " if roll > 0.03 else f"{kind} : 0; "
        if roll < 0.5 and depth < 3:
            shape = dice.choice(("", name, f"{name}[2]"))
            return f"{dice.choice(('struct', 'union'))} {self._body(depth + 1)} {shape}; "
        kind = dice.choice(SCALARS if roll < 0.85 or not self._names else self._names)
        if dice.random() < 0.25 and kind != "line_t":
            name += f"[{dice.choice((0, 1, 2, 3, 5))}]"
        alignment = f" __attribute__((aligned({1 << dice.randint(0, 5)})))"
        return f"{kind} {name}{alignment if dice.random() < 0.1 else ''}; "


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_layouts(seed: int, tmp_path: Path) -> None:
    source = tmp_path / "random.c"
    source.write_text(Layouts(seed).source)
    types = dumping.encoded_by_pahole(source)
    text = "".join(btf.dump_c(types, asserts=True))
    assert "not expressible" not in text
    header = tmp_path / "random.h"
    header.write_text(text)
    done = dumping.gcc("-fsyntax-only", "-xc", header)
    assert done.returncode == 0, done.stderr
    count, _ = check_round_trip(types, tmp_path)
    assert count >= 50


# ---------------------------------------------------------------------- layouts of no compiler

SIZES = {
    "char": 1, "_Bool": 1, "short int": 2, "int": 4, "long long int": 8, "__int128": 16, "u128": 16,
    "u3": 3, "u5": 5, "float": 4,
}  # fmt: skip


class AnyLayouts:
    """Structs and unions whose members, bit-fields and sizes are wherever the dice say."""

    def __init__(self, seed: int, order: str, pointer_size: int) -> None:
        self._dice, self._sizes = random.Random(seed), {0: 0}
        self.writer = w = bw.Writer(order)
        self._add(w.int("long int", pointer_size), pointer_size)
        for name, size in SIZES.items():
            self._add(w.int(name, size), size)
        for size in (1, 2, 4, 8):
            self._add(w.enum(f"e{size}", size, [(f"E{size}", 1)]), size)
        self._scalars = range(1, w.next_id)
        for name, size in (("double", 8), ("long double", 16), ("__float128", 16)):
            self._add(w.float(name, size), size)
        self._add(w.ptr(0), pointer_size)
        for number in range(40):
            element, count = self._dice.randrange(1, w.next_id), self._dice.randrange(4)
            if self._dice.random() < 0.2:
                self._add(w.array(element, 1, count), self._sizes[element] * count)
            else:
                self._composite(f"s{number}")

    def _add(self, type_id: int, size: int) -> None:
        self._sizes[type_id] = size

    def _composite(self, name: str) -> None:
        dice, members, at, end = self._dice, [], 0, 0
        union, flag = dice.random() < 0.4, dice.random() < 0.5
        for number in range(dice.randrange(6)):
            of, bits = dice.randrange(1, self.writer.next_id), 0
            if flag and dice.random() < 0.6:
                of = dice.choice(self._scalars)
                bits = min(255, dice.choice((1, 3, dice.randint(1, 8 * self._sizes[of]))))
                at += dice.choice((0, 0, dice.randrange(70)))
            else:
                at = _up(at, 8 * dice.choice((1, 4, 8, 16, min(16, self._sizes[of]) or 1)))
            at *= not union
            members.append((f"m{number}", of, bw.bitfield(bits, at) if flag else at))
            at += bits or 8 * self._sizes[of]
            end = max(end, at)
        size = _up(_up(end, 8) // 8, dice.choice((1, 2, 4, 8, 16))) + dice.choice((0, 0, 1, 8))
        make = self.writer.union if union else self.writer.struct
        self._add(make(name, size, members, kind_flag=flag), size)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def as_on_s390x(header: str) -> str:
    """A header whose scalars of 16 bytes are aligned to 8."""
    names = {"unsigned __int128": "u16_", "__int128": "s16_", "long double": "f16_",
             "__float128": "g16_"}  # fmt: skip
    defined = [f"typedef {n} __attribute__((aligned(8))) {new};\n" for n, new in names.items()]
    for name, new in names.items():
        header = header.replace(name, new)
    return "".join((*defined, header))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="NOT RUN: for gcc on x86-64")
@pytest.mark.parametrize(
    ("order", "options"),
    [("<", "-m64"), (">", "-m64"), (">", "s390x"), ("<", "-m32"), ("<", "-m32 -malign-double")],
)
def test_any_layout_comes_out_right_or_is_refused(order: str, options: str, tmp_path: Path) -> None:
    """Whatever the compiler aligns large scalars to, see ``c_layout``."""
    written = 0
    for seed in range(12):
        types = btf.parse(AnyLayouts(seed, order, 4 if "-m32" in options else 8).writer.to_bytes())
        text = "".join(btf.dump_c(types, asserts=True))
        header = tmp_path / "any.h"
        header.write_text(as_on_s390x(text) if options == "s390x" else text)
        target = ["-m64"] if options == "s390x" else options.split()
        done = dumping.gcc("-w", *target, "-fsyntax-only", "-xc", header)
        assert done.returncode == 0, done.stderr
        if options == "-m64":  # bit-fields too
            opaque = {part.partition(" {")[0] for part in text.split("\n\n") if OPAQUE in part}
            again = Reader(dumping.encoded_by_pahole(header)).layouts()
            for name, layouts in Reader(types).layouts().items():
                if name.replace("STRUCT", "struct").replace("UNION", "union") not in opaque:
                    assert again[name] == layouts
                    written += 1
    assert written > 200 or options != "-m64"


OPAQUE = "not expressible in C"
