"""Protects ``dump --format c`` from BTF made to do harm: text from it is never code, what C cannot
express is refused, time and memory are bounded by the size of the input."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import btf
from btf.dump.c_tags import is_attribute, string_literal
from jobs.cli import main
from support import btfwriter as bw
from support import dumping
from support.writers.adversarial import ATTRIBUTES, INJECTED, NAMES, Graph

_NO_CODE = re.compile(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.DOTALL)  # comments, strings


def dumped(w: bw.Writer) -> str:
    return "".join(btf.dump_c(btf.parse(w.to_bytes()), asserts=True))


def compiles(text: str, folder: Path) -> None:
    file = folder / "dumped.h"
    file.write_text(text, encoding="utf-8")
    done = dumping.gcc("-w", "-fsyntax-only", "-xc", file)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="NOT RUN: no gcc to compile with")
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 40))
@example(seed=5017, count=16)
@example(seed=3214, count=25)  # a union with the name of what stands for all that C cannot express
def test_any_graph_is_refused_or_compiles(seed: int, count: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    w = Graph(dice, count).writer
    try:
        types = btf.parse(w.to_bytes())
        text = "".join(btf.dump_c(types, asserts=True))
    except btf.BtfError as refused:
        assert refused.type_id is not None or refused.section != "types"
        return
    code = _NO_CODE.sub("", text)
    assert code.isascii() and not re.search(rf"\b{INJECTED}\b", code)
    compiles(text, tmp_path)


# ---------------------------------------------------------------------- names and tags


def test_names_are_identifiers_wherever_they_stand(tmp_path: Path) -> None:
    w = bw.Writer()
    i = w.int("unsigned\u2003int", 4, encoding=0)  # a space, but not one of C's
    for name in NAMES[2:]:
        s = w.struct(name, 4, [(name, i, 0)])
        w.typedef(name, s)
        w.enum(name, 4, [(name, 1)])
        w.typedef("f", w.func_proto(0, [(name, i), (name, s)]))
        if name not in (b"\xff\xfe", "\x1b[2J"):  # which no tag can have
            w.decl_tag(name, s)
            w.typedef("g", w.ptr(w.type_tag(name, i)))
    text = dumped(w)
    assert _NO_CODE.sub("", text).isascii()
    compiles(text, tmp_path)


# As GCC and clang define macros, and as C and GNU C reserve words.
_RESERVED = re.compile(
    r"__\w*__|__builtin_\w+|__btf_\w+_tag|__btf_attribute|_I?LP(64|32)|__GXX_ABI_VERSION"
    r"|__(amd64|arm|corei7|i386|k8|linux|mips|mips64|riscv|sparc|sparcv9|unix|x86_64|SEG_FS|SEG_GS)"
    r"|__(ARM|ATOMIC|CLANG|FPCLASS|FP_FAST|GCC|MEMORY_SCOPE)_\w+|__U?INT(8|16|32|64|MAX)_C"
    r"|asm|auto|bool|int|typeof|while|nullptr|_Bool|_Float32x|__asm|__int128_t|__volatile"
)
_MAYBE_RESERVED = """
    _ __ ___ ____ _____ __x __x_ __x__ _x_ x__ __builtin __builtin_ __builtin_x __btf_tag __btf__tag
    __btf_x_tag __btf_x_tags __btf_attribute __btf_attributes _LP64 _ILP32 _ILP3 _LP _I __GXX_ABI
    __GXX_ABI_VERSION __linux __linux_ linux __mips __mips64 __mips6 __x86_64 __x86_65 __SEG_FS
    __ARM_ __ARM_x __arm __armv7 __ATOMIC_y __FP_FAST_z __FP_FAST __GCC_a __INT8_C __INT9_C
    __UINTMAX_C __UINTMAX_D asm asm_ asms auto bool int Int typeof while nullptr _Bool _Bools
    _Float32x __asm __asmx __int128_t __volatile __volatile_ __in __inner __user __a __A
"""


def test_what_is_reserved_gets_another_name() -> None:
    """Of types, and of parameters that would hide a type."""
    for name in _MAYBE_RESERVED.split():
        expected = f"{name}_" if _RESERVED.fullmatch(name) else name
        second = f"{expected}_"
        second += "_" * (_RESERVED.fullmatch(second) is not None)
        w = bw.Writer()
        w.typedef("f", w.func_proto(0, [(name, w.typedef(name, w.int("unsigned int", 4)))]))
        text = dumped(w)
        assert f"typedef unsigned int {expected};" in text or name == "bool"
        assert f"typedef void f({expected} {second});" in text or name == "bool", (name, text)


def test_a_struct_of_very_many_members() -> None:
    """Far more than real ones have: memory grows as it is needed."""
    w = bw.Writer()
    c = w.int("char", 1)
    w.struct("s", 6000, [(f"m{number // 2}", c, 8 * number) for number in range(6000)])
    text = dumped(w)
    names = [f"m{number}{end}" for number in range(3000) for end in ("", "___2")]
    assert "".join(f"\tchar {name};\n" for name in names) in text
    facts = [(f"__builtin_offsetof(struct s, {name})", at) for at, name in enumerate(names)]
    assert "".join(f'_Static_assert({fact} == {at}, "{fact}");\n' for fact, at in facts) in text


def test_more_than_can_be_counted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btf.dump.c.MOST", 1 << 18)
    w = bw.Writer()
    w.int("int", 4)
    with pytest.raises(btf.UnsupportedError, match="C can be written of"):
        dumped(w)


def test_several_tags_come_out_in_the_order_that_makes_them_again() -> None:
    """clang makes PTR -> second -> first -> int of ``int first second *``."""
    w = bw.Writer()
    i = w.int("int", 4)
    outer = w.type_tag("outer", i)
    pointer = w.ptr(w.type_tag("inner", outer))
    w.typedef("t", pointer)
    w.typedef("u", w.ptr(w.type_tag("b", w.type_tag("a", w.const(pointer)))))
    text = dumped(w)
    assert 'typedef int __btf_type_tag("outer") __btf_type_tag("inner") *t;' in text
    assert (
        'typedef int __btf_type_tag("outer") __btf_type_tag("inner") * const '
        '__btf_type_tag("a") __btf_type_tag("b") *u;'
    ) in text


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nb\tc\r\a\b\f\v", r'"a\nb\tc\r\a\b\f\v"'),
        ("what??/", r'"what?\?/"'),
        ("???", r'"?\?\?"'),
        ("café", '"café"'),
        ("\u202e1\U000e0001", r'"\U0000202e1\U000e0001"'),
    ],
)
def test_text_of_tags_is_a_string_literal(text: str, literal: str, tmp_path: Path) -> None:
    assert string_literal(text) == literal
    if shutil.which("gcc") is not None:
        data = text.encode("utf-8", "surrogateescape")
        same = " && ".join(f"(unsigned char){literal}[{i}] == {b}" for i, b in enumerate(data))
        source = tmp_path / "literal.c"
        source.write_text(
            f'_Static_assert(sizeof({literal}) == {len(data) + 1}, "");\n'
            f"int main(void) {{ return !({same}); }}\n"
        )
        for standard in ("c99", "gnu17"):  # with trigraphs and without
            done = dumping.gcc(f"-std={standard}", "-w", source, "-o", tmp_path / "literal")
            assert done.returncode == 0, done.stderr
            assert subprocess.run([tmp_path / "literal"]).returncode == 0


@pytest.mark.parametrize("text", ["\x1b[2J", "\x7f", "\x85", "\udcff"])
@pytest.mark.parametrize("tag", ["type", "decl"])
def test_text_that_no_tag_can_have_is_refused(text: str, tag: str) -> None:
    """Octal escapes would do for gcc, and are errors for clang 17 and later."""
    w = bw.Writer()
    i = w.int("int", 4)
    t = w.typedef("t", w.ptr(w.type_tag(text.encode("utf-8", "surrogateescape"), i)))
    if tag == "decl":
        w.patch(i + 1, 0, w.string("sound"))
        w.decl_tag(text.encode("utf-8", "surrogateescape"), t)
    with pytest.raises(btf.BtfError, match="is no text of a tag in C"):
        dumped(w)


@pytest.mark.parametrize("text", ATTRIBUTES)
def test_attributes_are_one_attribute_or_refused(text: str) -> None:
    sound = {"unused", "address_space(1)", "aligned(8)", 'f("a")', "f(1, g(2), -3)", "clang::x"}
    sound |= {f'f("{INJECTED}")'}
    assert is_attribute(text) == (text in sound)
    for tag in ("type", "decl"):
        w = bw.Writer()
        i = w.int("int", 4)
        tagged = w.type_tag(text, i, attribute=True) if tag == "type" else i
        t = w.typedef("t", w.ptr(tagged))
        if tag == "decl":
            w.decl_tag(text, t, attribute=True)
        if text in sound:
            assert f"__btf_attribute({text})" in dumped(w)
        else:
            with pytest.raises(btf.BtfError, match=r"type \[\d\]: .* is no attribute of C"):
                dumped(w)


# ---------------------------------------------------------------------- what C has not got


def array_of_itself(w: bw.Writer) -> None:
    w.typedef("t", w.next_id + 1)
    w.array(w.next_id - 1, 1, 4)


def itself(w: bw.Writer) -> None:
    w.struct("s", 8, [("a", w.next_id, 0)])


def itself_by_others(w: bw.Writer) -> None:
    first = w.struct("s", 8, [("a", w.next_id + 3, 0)])
    w.struct("other", 8, [("b", first, 0)])
    w.const(w.typedef("t", first + 1))
    w.array(first + 3, 1, 1)
    w.patch(first, 4, first + 4)


def by_another_name(w: bw.Writer, array: bool) -> int:
    """``typedef const t n``, which ``t`` points to: n is written first, and C does not know t."""
    t, last = w.next_id, w.next_id + (3 if array else 2)
    w.typedef("t", t + 1)
    w.ptr(t + 2)
    if array:
        w.array(last, 1, 8)
    w.typedef("n", last + 1)
    w.const(t)
    return last


CANNOT: dict[str, tuple[Callable[[bw.Writer], object], str]] = {
    "array of itself": (array_of_itself, "an array of what has no size"),
    "struct in itself": (itself, "s contains itself"),
    "struct in itself by others": (itself_by_others, "contains itself"),
    "array of itself by another name": (
        lambda w: by_another_name(w, True), "an array of the typedef",
    ),
    "member of what needs itself": (
        lambda w: w.struct("s", 8, [("m", by_another_name(w, False), 0)]),
        "a member of a typedef that needs itself",
    ),
    "array of void": (lambda w: w.typedef("t", w.array(0, 1, 2)), "an array of what has no size"),
    "pointer to such": (
        lambda w: w.typedef("t", w.ptr(w.array(w.fwd("f"), 1, 2))), "an array of what has no size",
    ),
    "array of functions": (
        lambda w: w.typedef("t", w.array(w.func_proto(0), 1, 2)), "an array of what has no size",
    ),
    "huge array": (
        lambda w: w.typedef("t", w.array(w.array(1, 1, 0xFFFFFFFF), 1, 0x7FFFFFFF)),
        "more than can be addressed",
    ),
    "array returned": (
        lambda w: w.typedef("t", w.func_proto(w.typedef("a", w.array(1, 1, 2)))),
        "returns an array or a function",
    ),
    "function returned": (
        lambda w: w.typedef("t", w.func_proto(w.func_proto(0))), "returns an array or a function",
    ),
    "void parameter": (
        lambda w: w.typedef("t", w.func_proto(0, [("a", 0), ("b", 1)])), "a parameter that is void",
    ),
    "void parameter by a name": (
        lambda w: w.typedef("t", w.func_proto(0, [("a", w.typedef("v", w.const(0)))])),
        "a parameter that is void",
    ),
    "enum of nothing": (lambda w: w.enum("e", 0, [("A", 1)]), "an enum of 0 bytes"),
    "huge enum": (lambda w: w.enum("e", 0xFFFFFFFF, [("A", 1)]), "an enum of 4294967295 bytes"),
    "a struct larger than the address space": (
        lambda w: (w.int("long int", 4), w.struct("s", 1 << 31)), "more than can be addressed",
    ),
    "a number larger than the address space": (
        lambda w: (w.int("long int", 4), w.typedef("t", w.float("f", 1 << 31))),
        "more than can be addressed",
    ),
    "too many pointers": (
        lambda w: w.typedef("t", [w.ptr(w.next_id - 1) for _ in range(3000)][-1]), "more than 256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CANNOT)
def test_what_c_cannot_express_is_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = CANNOT[case]
    w = bw.Writer()
    w.int("int", 4)
    make(w)
    file = tmp_path / "x.btf"
    file.write_bytes(w.to_bytes())
    assert main(["dump", "--format", "c", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "C has no such type" in said.err
    assert re.search(r"x\.btf, types section, type \[\d+\]: ", said.err)


def test_bit_fields_that_c_has_not_got(tmp_path: Path) -> None:
    w = bw.Writer()
    boolean = w.int("_Bool", 1, encoding=0)  # by its name, whatever the encoding says
    odd = w.int("u3", 3)
    as_float = w.int("float", 4)  # as encoders write it that have no FLOAT
    for number, (type_id, bits) in enumerate(((boolean, 2), (odd, 3), (as_float, 3))):
        w.struct(f"s{number}", 4, [("a", type_id, bw.bitfield(bits, 0))], kind_flag=1)
    text = dumped(w)
    assert text.count("not expressible in C") == 3
    compiles(text, tmp_path)


@pytest.mark.parametrize("order", "<>")
def test_bit_fields_of_types_larger_than_the_whole(order: str, tmp_path: Path) -> None:
    w = bw.Writer(order)
    wide, short, byte = w.int("u128", 16), w.int("short int", 2), w.int("_Bool", 1)
    fields = [("a", wide, bw.bitfield(7, 0)), ("b", short, bw.bitfield(1, 0))]
    w.union("u", 8, fields, kind_flag=1)
    w.union("byte", 1, [*fields, ("c", byte, bw.bitfield(1, 0))], kind_flag=1)
    w.struct(
        "s", 3, [("a", wide, bw.bitfield(19, 0)), ("b", byte, bw.bitfield(1, 23))], kind_flag=1
    )
    text = dumped(w)
    assert "union u {\n\tu128 a: 7;\n\tshort int b: 1;\n\tunsigned char __pad_0[8];\n} " in text
    assert text.count("__attribute__((packed))") == 3 and "not expressible" not in text
    if shutil.which("gcc") is not None:
        compiles(text, tmp_path)


# ---------------------------------------------------------------------- bounded


def test_sizes_are_not_written_out(tmp_path: Path) -> None:
    w = bw.Writer()
    c = w.int("char", 1)
    w.struct("whole", 0xFFFFFFFF)
    members = [(f"m{n}", c, n << 20) for n in range(1000)]
    w.struct("gaps", 0xFFFFFFFF, members)
    w.struct("bits", 0x7FFFFFFF, [("a", c, bw.bitfield(1, 0xFFFFFF))], kind_flag=1)
    w.union("wide", 0xFFFFFFFF, [("a", c, 0)])
    text = dumped(w)
    assert "unsigned char __pad_0[4294967295];" in text and len(text) < 200_000
    compiles(text, tmp_path)


def repeated(kind: str) -> bw.Writer:
    """Types that C would have to write out 2**60 times, or a chain for each of very many types."""
    w = bw.Writer()
    w.int("int", 4)
    if kind == "chains":
        for _ in range(5000):
            w.ptr(w.next_id - 1)
        end = w.next_id - 1
        for number in range(2000):
            w.struct(f"s{number}", 8, [("p", end, 0)])
        return w
    w.struct("s0" if kind == "named" else 0, 0)
    for number in range(60):
        before = w.next_id - 1
        if kind == "prototypes":
            p = w.ptr(before)
            w.func_proto(p, [(0, p), (0, p)])
        elif kind == "anonymous":
            w.struct(0, 0, [("x", before, 0), ("y", before, 0)])
        else:
            w.struct(f"n{number}", 0, [(0, before, 0), (0, before, 0)])
    w.typedef("t", w.next_id - 1)
    return w


@pytest.mark.parametrize("kind", ["chains", "named", "anonymous", "prototypes"])
def test_what_repeats_without_end_is_refused(kind: str) -> None:
    with pytest.raises(btf.BtfError, match="types repeat one another so often"):
        dumped(repeated(kind))


@pytest.mark.slow
def test_many_of_one_name(tmp_path: Path) -> None:
    w = bw.Writer()
    for number in range(20_000):
        w.struct("s", number % 3)
    w.enum("e", 4, [("a", number) for number in range(20_000)])
    text = dumped(w)
    assert "struct s___20000 {" in text and "a___20000 = 19999," in text
    compiles(text, tmp_path)
