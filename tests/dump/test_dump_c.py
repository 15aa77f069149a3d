"""Protects ``dump --format c``: a header that compiles, with every type laid out as BTF says.

gcc decides on real kernels, by static assertions. Small types have their text written down here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import btf
from support import btfwriter as bw
from support import dumping
from support.marks import every


def header(w: bw.Writer, base: bw.Writer | None = None, asserts: bool = False) -> str:
    """The declarations of a dump, without what is the same in all of them."""
    on = btf.parse(base.to_bytes()) if base is not None else None
    text = "".join(btf.dump_c(btf.parse(w.to_bytes(), on), asserts=asserts))
    body = text.split("#pragma clang attribute push")[1].split("#endif\n\n", 1)[1]
    body = body.rsplit("#if defined(__clang__)", 1)[0]
    return body.strip("\n") + "\n"


def compiles(tmp_path: Path, *types: btf.BTF, expressible: bool | None = None) -> None:
    dumping.need("gcc")
    files = []
    for number, one in enumerate(types):
        text = dumping.encoded(btf.dump_c(one, asserts=True))
        assert expressible is None or (b"not expressible" not in text) is expressible
        files.append(tmp_path / f"{number}.h")
        files[-1].write_bytes(text)
    assert dumping.compiled(*files) == ""


# ---------------------------------------------------------------------- real kernels


@pytest.mark.slow
def test_vmlinux_compiles_with_every_size_and_offset_asserted(tmp_path: Path) -> None:
    types = dumping.base()
    text = "".join(btf.dump_c(types, asserts=True))
    assert "not expressible" not in text
    columns = btf.columns(types)
    named = columns["name_off"] > 0
    for kind in (btf.kinds.STRUCT, btf.kinds.UNION):
        sized = int(((columns["kind"] == kind) & named).sum())
        word = btf.KIND_NAMES[kind].lower()
        assert text.count(f"_Static_assert(sizeof({word} ") == sized > 100
    assert text.count("_Static_assert(__builtin_offsetof(") > 45_000
    dumping.need("gcc")
    file = tmp_path / "vmlinux.h"
    file.write_text(text)
    assert dumping.compiled(file) == ""


@pytest.mark.slow
@every
def test_split_modules_compile_alone(every: int, tmp_path: Path) -> None:
    modules = [dumping.split(name) for name in dumping.module_names()[::every]]
    assert len(modules) >= 60 // every
    compiles(tmp_path, *modules, expressible=True)


@pytest.mark.slow
def test_standalone_modules_compile(tmp_path: Path) -> None:
    compiles(tmp_path, *(dumping.standalone(name) for name in ("kvm", "nf_tables")))


# ---------------------------------------------------------------------- how it reads


def test_declarators() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    c = w.int("char", 1)
    p = w.ptr(i)
    const_p = w.const(p)
    w.typedef("a", w.ptr(w.const(c)))
    w.typedef("b", w.ptr(const_p))
    w.typedef("c", w.ptr(w.array(i, i, 4)))
    w.typedef("d", w.array(w.ptr(i), i, 4))
    proto = w.func_proto(i, [("x", i), (0, p)], variadic=True)
    function = w.ptr(proto)
    w.typedef("e", function)
    w.typedef("f", w.array(w.const(function), i, 3))
    w.typedef("g", w.ptr(w.func_proto(function, [])))
    w.typedef("h", w.array(w.array(w.const(c), i, 2), i, 0))
    w.typedef("i", w.volatile(w.restrict(p)))
    w.typedef("j", w.restrict(i))
    w.typedef("k", w.ptr(0))
    w.typedef("l", proto)
    w.typedef("m", w.const(w.array(w.volatile(c), i, 2)))
    w.typedef("n", w.ptr(w.volatile(w.func_proto(0, [("c", c), ("c", i)]))))
    w.typedef("o", w.ptr(w.type_tag("user", w.const(c))))
    w.typedef("p", w.ptr(w.type_tag("rcu", p)))
    w.typedef("q", w.ptr(w.type_tag("address_space(1)", i, attribute=True)))
    assert header(w).split("\n\n") == [
        "typedef const char *a;",
        "typedef int * const *b;",
        "typedef int (*c)[4];",
        "typedef int *d[4];",
        "typedef int (*e)(int x, int *, ...);",
        "typedef int (* const f[3])(int x, int *, ...);",
        "typedef int (*(*g)(void))(int x, int *, ...);",
        "typedef const char h[0][2];",
        "typedef int * volatile restrict i;",
        "typedef int j;",
        "typedef void *k;",
        "typedef int l(int x, int *, ...);",
        "typedef const volatile char m[2];",
        "typedef void (*n)(char c_, int);",  # c is a typedef: as a parameter it would hide it
        'typedef const char __btf_type_tag("user") *o;',
        'typedef int * __btf_type_tag("rcu") *p;',
        "typedef int __btf_attribute(address_space(1)) *q;\n",
    ]


def test_scalars_that_c_spells_otherwise(tmp_path: Path) -> None:
    w = bw.Writer()
    names: list[tuple[bw.Name, int, int]] = [
        ("long unsigned int", 8, 0), ("__int128", 16, 1), ("__int128 unsigned", 16, 0),
        ("unsigned __int128", 16, 0), ("_Bool", 1, bw.BOOL), ("u8", 1, 0), ("ssizetype", 8, 1),
        ("bool", 1, bw.BOOL), ("int", 2, 1), (0, 4, 0), ("three", 3, 0), ("float", 4, 0),
    ]  # fmt: skip
    members = []
    for number, (name, size, encoding) in enumerate(names):
        members.append((f"m{number}", w.int(name, size, encoding=encoding), 128 * number))
    for name, size in (("float", 4), ("double", 8), ("long double", 16), ("half", 2)):
        members.append((f"f{size}", w.float(name, size), 128 * len(members)))
    w.struct("all", 16 * len(members), members)
    text = header(w)
    for line in (
        "typedef unsigned char u8;",
        "typedef long long int ssizetype;",
        "typedef _Bool bool;",
        "typedef short int int_;",
        "typedef struct { unsigned char bytes[3]; } three;",
        "typedef _Float16 half;",
        "\t__int128 unsigned m2;",
        "\tunsigned int m9;",
        "\tint_ m8;",
        "\tfloat m11;",
        "\tlong double f16;",
    ):
        assert f"{line}\n" in text, line
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_order_and_forward_declarations() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    # struct outer { struct inner in; outer_t *self; void (*f)(struct unseen *, struct outer *); }
    outer = w.next_id
    w.struct("outer", 24, [("in", outer + 1, 0), ("self", outer + 3, 64), ("f", outer + 5, 128)])
    w.struct("inner", 4, [("x", i, 0)])
    w.typedef("outer_t", outer)
    w.ptr(outer + 2)
    proto = w.next_id
    w.func_proto(0, [(0, proto + 2), (0, proto + 3)])
    w.ptr(proto)
    w.ptr(proto + 4)
    w.ptr(outer)
    w.fwd("unseen")
    expected = """\
struct inner {
	int x;
};

typedef struct outer outer_t;

struct unseen;

struct outer {
	struct inner in;
	outer_t *self;
	void (*f)(struct unseen *, struct outer *);
};
"""
    assert header(w) == expected


def test_bit_fields_padding_and_packed(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    c = w.int("char", 1)
    long_int = w.int("long int", 8)

    def bits(name: str, of: int, at: int, size: int) -> tuple[str, int, int]:
        return name, of, bw.bitfield(size, at)

    fields = [bits("a", i, 0, 3), bits("b", i, 10, 5), bits("c", i, 32, 32), ("d", c, 64)]
    w.struct("fields", 12, fields, kind_flag=1)
    w.struct("packed", 9, [("c", c, 0), ("l", long_int, 8)])
    w.struct("padded", 24, [("c", c, 0), ("l", long_int, 128)])
    w.struct("aligned", 128, [("i", i, 0)])
    w.struct("empty", 0)
    w.struct("only_padding", 4)
    w.union("wide", 16, [("i", i, 0)])
    w.union("odd", 5, [("i", i, 0), ("c", w.array(c, i, 5), 0)])
    w.struct("flexible", 4, [("n", i, 0), ("data", w.array(long_int, i, 0), 32)])
    expected = """\
struct fields {
	int a: 3;
	short: 7;
	int b: 5;
	int c: 32;
	char d;
};

struct packed {
	char c;
	long int l;
} __attribute__((packed));

struct padded {
	char c;
	long: 56;
	long: 64;
	long int l;
};

struct aligned {
	int i;
	unsigned char __pad_4[124];
};

struct empty {};

struct only_padding {
	char: 8;
	char: 8;
	char: 8;
	char: 8;
};

union wide {
	int i;
	unsigned char __pad_0[16];
};

union odd {
	int i;
	char c[5];
} __attribute__((packed));

struct flexible {
	int n;
	long int data[0];
} __attribute__((packed));
"""
    assert header(w) == expected
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_bit_fields_said_by_narrow_ints() -> None:
    """As encoders did before kind_flag: the INT has fewer bits than its bytes."""
    w = bw.Writer()
    narrow = w.int("unsigned int", 4, encoding=0, bits=5)
    later = w.int("unsigned int", 4, encoding=0, bits=2, offset=5)
    w.struct("old", 4, [("a", narrow, 0), ("b", later, 0)])
    assert "\tunsigned int a: 5;\n\tunsigned int b: 2;\n" in header(w)


def test_enums(tmp_path: Path) -> None:
    w = bw.Writer()
    w.enum("plain", 4, [("A", 1), ("B", 0xFFFFFFFF)])
    w.enum("negative", 4, [("C", -2), ("D", 1)], signed=True)
    w.enum("byte", 1, [("E", 255)])
    w.enum("old_byte", 1, [("F", -1)])  # negative, said by an encoder without kind_flag
    w.enum("half", 2, [("G", 1000)])
    w.enum("word", 8, [("H", 1)])
    w.enum64("big", 8, [("I", 1 << 40), ("J", (1 << 64) - 1)])
    w.enum64("low", 8, [("K", 1 << 63), ("L", (1 << 64) - (1 << 35))], signed=True)
    w.enum64("small", 8, [("M", 1)])
    w.enum(0, 4, [("N", 1), ("A", 5)])
    w.enum("later", 4)
    w.enum("too_small", 1, [("O", 7), ("P", 300)])
    expected = """\
enum plain {
	A = 1,
	B = 4294967295,
};

enum negative {
	C = -2,
	D = 1,
};

enum byte {
	E = 255,
} __attribute__((mode(byte)));

enum old_byte {
	F = -1,
} __attribute__((mode(byte)));

enum half {
	G = 1000,
} __attribute__((mode(HI)));

enum word {
	H = 1,
} __attribute__((mode(DI)));

enum big {
	I = 1099511627776LL,
	J = 18446744073709551615ULL,
};

enum low {
	K = (-9223372036854775807LL - 1),
	L = -34359738368LL,
};

enum small {
	M = 1,
} __attribute__((mode(DI)));

enum later;

enum too_small {
	O = 7,
	/* P = 300 is too large */
} __attribute__((mode(byte)));

enum {
	N = 1,
	A___2 = 5,
};
"""
    assert header(w) == expected
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_names_that_clash(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    w.struct("s", 4, [("a", i, 0)])
    second = w.struct("s", 8, [("a", i, 0), ("a", i, 32)])
    w.union("s", 4, [("a", i, 0)])
    w.enum("s", 4, [("X", 0), ("t", 1)])
    w.typedef("t", second)
    w.typedef("t", i)
    w.struct("while", 8, [("int", i, 0), ("Option<&str>", i, 32)])
    w.fwd("s")
    w.fwd("s", union=True)
    w.fwd("t")
    w.struct("s___2", 4, [("café", i, 0)])
    text = header(w)
    for line in (
        "struct s {\n\tint a;\n};",
        "struct s___2 {\n\tint a;\n\tint a___2;\n};",
        "union s___3 {",
        "enum s___4 {\n\tX = 0,\n\tt___3 = 1,\n};",
        "typedef struct s___2 t;",
        "typedef int t___2;",
        "struct while_ {\n\tint int_;\n\tint Option__str_;\n};",
        "struct t;",
        "struct s___2___2 {\n\tint caf_;\n};",
    ):
        assert f"{line}" in text, text
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_anonymous_types_and_their_assertions(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    inner = w.struct(0, 8, [("x", i, 0), ("y", i, 32)])
    many = w.array(inner, i, 2)
    either = w.union(0, 4, [("p", i, 0), ("q", i, 0)])
    colour = w.enum(0, 4, [("RED", 0)])
    outer = w.struct(
        "outer", 36, [("in", inner, 0), ("m", many, 64), (0, either, 192), ("c", colour, 224),
                      ("e", w.array(inner, i, 0), 256), ("z", i, 256)],
    )  # fmt: skip
    w.typedef("alias", w.const(inner))
    # An unnamed member of a named struct: Microsoft's extension, -fms-extensions in kernels.
    w.struct("extended", 40, [(0, outer, 0), ("last", i, 288)])
    assert header(w, asserts=True).split("typedef")[0] == """\
struct outer {
	struct {
		int x;
		int y;
	} in;
	struct {
		int x;
		int y;
	} m[2];
	union {
		int p;
		int q;
	};
	enum {
		RED = 0,
	} c;
	struct {
		int x;
		int y;
	} e[0];
	int z;
};

_Static_assert(sizeof(struct outer) == 36, "sizeof(struct outer)");
""" + "".join(
        f"_Static_assert(__builtin_offsetof(struct outer, {path}) == {at}, "
        f'"__builtin_offsetof(struct outer, {path})");\n'
        for path, at in (
            ("in", 0), ("in.x", 0), ("in.y", 4), ("m", 8), ("m[0].x", 8), ("m[0].y", 12), ("p", 24),
            ("q", 24), ("c", 28), ("e", 32), ("e[0].x", 32), ("e[0].y", 36), ("z", 32),
        )
    ) + "\n"  # fmt: skip
    text = header(w, asserts=True)
    assert "offsetof(alias, y) == 4" in text and "offsetof(struct extended, m[0].y) == 12" in text
    assert "RED___2 = 0" in text  # written out again inside extended
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_split_btf_brings_what_it_needs_and_no_more(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    size_type = w.typedef("size_type", i)
    embedded = w.struct("embedded", 4, [("n", size_type, 0)])
    pointed = w.struct("pointed", 4, [("n", i, 0)])
    w.struct("unused", 4, [("n", i, 0)])
    w.struct("clash", 4, [("n", i, 0)])
    s = bw.Writer(base=w)
    to_clash = s.ptr(pointed + 2)
    s.struct("clash", 24, [("e", embedded, 0), ("p", s.ptr(pointed), 64), ("c", to_clash, 128)])
    expected = """\
typedef int size_type;

struct embedded {
	size_type n;
};

struct clash___2 {
	struct embedded e;
	struct pointed *p;
	struct clash *c;
};
"""
    assert header(s, w) == expected
    compiles(tmp_path, btf.parse(s.to_bytes(), btf.parse(w.to_bytes())))


def test_tags() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    s = w.struct("s", 4, [("a", i, 0), ("b", i, 0)], kind=bw.UNION)
    t = w.typedef("t", s)
    w.decl_tag("whole", s)
    w.decl_tag('a "quoted" one', s, component=1)
    w.decl_tag("named", t)
    expected = """\
union s {
	int a;
	int b __btf_decl_tag("a \\"quoted\\" one");
} __btf_decl_tag("whole");

typedef union s t __btf_decl_tag("named");
"""
    assert header(w) == expected


def test_compiler_s_own_types(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    tag = w.struct("__va_list_tag", 4, [("gp_offset", i, 0)])
    builtin = w.typedef("__builtin_va_list", w.array(tag, i, 1))
    gnuc = w.typedef("__gnuc_va_list", builtin)
    w.typedef("va_list", gnuc)
    w.typedef("bool", w.int("_Bool", 1, encoding=bw.BOOL))
    w.enum(0, 4, [("false", 0), ("true", 1)])
    w.struct("unix", 4, [("linux", i, 0)])
    text = header(w)
    assert text.startswith("#undef linux\n#undef unix\n\n")
    assert "__builtin_va_list;" not in text and "typedef __builtin_va_list __gnuc_va_list;" in text
    assert "#if __STDC_VERSION__ < 202311L\ntypedef _Bool bool;\n#endif" in text
    assert "#if __STDC_VERSION__ < 202311L\nenum {\n\tfalse = 0,\n\ttrue = 1,\n};\n#endif" in text
    compiles(tmp_path, btf.parse(w.to_bytes()))


# ---------------------------------------------------------------------- what C cannot say


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a", 1, 0), ("b", 1, 16)], "members overlap"),
        ([("a", 1, 4)], "a is no bit-field, but begins inside a byte"),
        ([("a", 2, 0)], "a is of a type without a size"),
        ([("a", 1, 0), ("b", 1, 64)], "the members need more than the size of the whole"),
        ([("a", 5, 0)], "a is an enum of 3 bytes"),
    ],
)
def test_a_struct_that_c_cannot_say_is_opaque(
    members: list[tuple[str, int, int]], reason: str, tmp_path: Path
) -> None:
    w = bw.Writer()
    w.int("int", 4)
    w.fwd("f")
    w.struct("s", 8, members)
    w.struct("around", 16, [("s", 3, 32)])
    w.enum("e", 3, [("A", 0)])
    text = header(w)
    body = f"\t/* not expressible in C: {reason} */\n\tunsigned char __opaque[8];\n"
    assert f"struct s {{\n{body}}};" in text, text
    compiles(tmp_path, btf.parse(w.to_bytes()))


def test_cycles(tmp_path: Path) -> None:
    """None of these is C, but every one can be written down in BTF."""
    w = bw.Writer()
    t = w.next_id
    w.typedef("t", t + 1)  # typedef t *t
    w.ptr(t)
    w.typedef("u", t + 2)  # typedef u u
    w.struct("holds", 16, [("t", t, 0), ("p", t + 1, 64)])
    text = header(w)
    assert "/* t needs itself to be declared: not expressible in C */" in text
    assert "typedef struct __not_expressible *t;" in text
    compiles(tmp_path, btf.parse(w.to_bytes()))
    w = bw.Writer()
    w.typedef("t", 2)  # typedef t (*t)[8]: C does not know the size of t before its end
    w.ptr(3)
    w.array(1, 1, 8)
    with pytest.raises(btf.BtfError, match="an array of the typedef it is part of"):
        header(w)
    w = bw.Writer()
    w.struct("inside", 8, [("p", 2, 0)])
    w.ptr(3)
    w.typedef("anonymous", 4)  # has to come before inside, which names it, and after, to embed it
    w.struct(0, 8, [("s", 1, 0)])
    with pytest.raises(btf.BtfError, match=r"type \[1\]: .* before itself"):
        "".join(btf.dump_c(btf.parse(w.to_bytes())))
    for chain in ("ptr", "func_proto"):
        w = bw.Writer()
        w.typedef("t", 2)
        if chain == "ptr":
            w.ptr(2)
        else:
            w.func_proto(0, [("f", 3)])
            w.ptr(2)
        with pytest.raises(btf.BtfError, match="C has no such type"):
            "".join(btf.dump_c(btf.parse(w.to_bytes())))


@pytest.mark.slow
def test_deep_embedding(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    for number in range(3000):
        w.struct(f"s{number}", 4, [("x", w.next_id + 1, 0)])
    w.typedef("end", i)
    compiles(tmp_path, btf.parse(w.to_bytes()), expressible=True)
