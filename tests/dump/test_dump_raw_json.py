"""Protects ``dump --format raw`` and ``json``: bpftool's output, to the byte."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import btf
from support import btfwriter as bw
from support import dumping, vectors
from support.marks import every
from support.paths import DATASETS

FORMATS = {"raw": (btf.dump_raw, ()), "json": (btf.dump_json, ("-j",))}
# sha256 of bpftool 7.1's output for the demo, for machines without bpftool.
GOLDEN = {
    ("vmlinux", "raw"): "a69301aa3a5b01286fc72d3da59c7ecba16d632a0301a4ea0787d74632011007",
    ("vmlinux", "json"): "9c73224e1ffe56e12c535aa0687c47d94c0207beef59742cfb3930c2fabe816a",
    ("kvm", "raw"): "d3a1f7659cd5cca294769ff7b25aa00e125937296381eae28b96096e36732875",
    ("kvm", "json"): "0ed774cf4f28720d9446590d4d8f1091f67c6c1e606e76fe22fb96003331a9fe",
    ("mlx5_core", "raw"): "3b34a0fb4cc73e0b61440644fff5e897ef99a97da1175ed368733d7b7e870e37",
    ("mlx5_core", "json"): "f0c104223e268a0792cd0d687ff77a9663c6632ae3ba6b0a2e3bfb561cb6ef09",
}


def every_kind() -> bytes:
    w = bw.Writer()
    integer = w.int("int", 4)
    w.int("char", 1, encoding=bw.CHAR)
    w.int("_Bool", 1, encoding=bw.BOOL)
    w.int("bits", 4, encoding=0, bits=3, offset=5)
    w.int("odd", 4, encoding=bw.SIGNED | bw.BOOL)
    w.ptr(0)
    w.array(integer, integer, 7)
    w.struct("s", 8, [("a", integer, 0), (0, integer, 32)])
    fields = [("a", integer, bw.bitfield(3, 0)), ("b", integer, bw.bitfield(0, 32))]
    w.struct("f", 8, fields, kind_flag=1)
    w.union("u", 4, [("a", integer, 0)])
    w.enum("e", 4, [("A", 1), ("B", 0xFFFFFFFF)])
    w.enum("n", 4, [("C", -2)], signed=True)
    w.enum("none", 4)
    w.fwd("later")
    w.fwd("either", union=True)
    w.typedef("t", integer)
    w.volatile(integer)
    w.const(integer)
    w.restrict(6)
    proto = w.func_proto(integer, [("x", integer), (0, 6)], variadic=True)
    for linkage in (bw.STATIC, bw.GLOBAL, bw.EXTERN, 9):
        w.func(f"fn{linkage}", proto, linkage=linkage)
    var = w.var("v", integer, linkage=bw.GLOBAL)
    w.var("w", integer, linkage=3)
    w.datasec(".data", 8, [(var, 0, 4), (21, 4, 4)])
    w.float("double", 8)
    w.decl_tag("tag", 8, component=1)
    w.decl_tag("all", 8)
    w.type_tag("user", integer)
    w.enum64("big", 8, [("P", (1 << 64) - 1), ("Q", 1 << 40)])
    w.enum64("neg", 8, [("R", (1 << 64) - 5)], signed=True)
    w.typedef(w.string("", fresh=True), integer)
    return w.to_bytes()


RAW = """\
[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED
[2] INT 'char' size=1 bits_offset=0 nr_bits=8 encoding=CHAR
[3] INT '_Bool' size=1 bits_offset=0 nr_bits=8 encoding=BOOL
[4] INT 'bits' size=4 bits_offset=5 nr_bits=3 encoding=(none)
[5] INT 'odd' size=4 bits_offset=0 nr_bits=32 encoding=UNKN
[6] PTR '(anon)' type_id=0
[7] ARRAY '(anon)' type_id=1 index_type_id=1 nr_elems=7
[8] STRUCT 's' size=8 vlen=2
	'a' type_id=1 bits_offset=0
	'(anon)' type_id=1 bits_offset=32
[9] STRUCT 'f' size=8 vlen=2
	'a' type_id=1 bits_offset=0 bitfield_size=3
	'b' type_id=1 bits_offset=32
[10] UNION 'u' size=4 vlen=1
	'a' type_id=1 bits_offset=0
[11] ENUM 'e' encoding=UNSIGNED size=4 vlen=2
	'A' val=1
	'B' val=4294967295
[12] ENUM 'n' encoding=SIGNED size=4 vlen=1
	'C' val=-2
[13] ENUM 'none' encoding=UNSIGNED size=4 vlen=0
[14] FWD 'later' fwd_kind=struct
[15] FWD 'either' fwd_kind=union
[16] TYPEDEF 't' type_id=1
[17] VOLATILE '(anon)' type_id=1
[18] CONST '(anon)' type_id=1
[19] RESTRICT '(anon)' type_id=6
[20] FUNC_PROTO '(anon)' ret_type_id=1 vlen=3
	'x' type_id=1
	'(anon)' type_id=6
	'(anon)' type_id=0
[21] FUNC 'fn0' type_id=20 linkage=static
[22] FUNC 'fn1' type_id=20 linkage=global
[23] FUNC 'fn2' type_id=20 linkage=extern
[24] FUNC 'fn9' type_id=20 linkage=(unknown)
[25] VAR 'v' type_id=1, linkage=global
[26] VAR 'w' type_id=1, linkage=(unknown)
[27] DATASEC '.data' size=8 vlen=2
	type_id=25 offset=0 size=4 (VAR 'v')
	type_id=21 offset=4 size=4 (FUNC 'fn0')
[28] FLOAT 'double' size=8
[29] DECL_TAG 'tag' type_id=8 component_idx=1
[30] DECL_TAG 'all' type_id=8 component_idx=-1
[31] TYPE_TAG 'user' type_id=1
[32] ENUM64 'big' encoding=UNSIGNED size=8 vlen=2
	'P' val=18446744073709551615ULL
	'Q' val=1099511627776ULL
[33] ENUM64 'neg' encoding=SIGNED size=8 vlen=1
	'R' val=-5LL
[34] TYPEDEF '' type_id=1
"""


def test_every_kind_as_text(tmp_path: Path) -> None:
    data = every_kind()
    assert "".join(btf.dump_raw(btf.parse(data))) == RAW
    dumping.need("bpftool")
    file = tmp_path / "kinds.btf"
    file.write_bytes(data)
    for function, options in FORMATS.values():
        assert dumping.encoded(function(btf.parse(data))) == dumping.bpftool(file, None, options)


def test_json_says_the_same_as_the_text() -> None:
    parsed = btf.parse(every_kind())
    types = json.loads("".join(btf.dump_json(parsed)))["types"]
    lines = RAW.splitlines()
    heads = [line for line in lines if line.startswith("[")]
    assert len(types) == len(heads) == parsed.type_count
    for fact, line in zip(types, heads, strict=True):
        assert line.startswith(f"[{fact['id']}] {fact['kind']} '{fact['name']}'")
        for key, value in fact.items():
            if key not in ("id", "kind", "name") and not isinstance(value, list):
                assert f" {key}={value}" in line
    by_name = {fact["name"]: fact for fact in types}
    assert by_name["f"]["members"] == [
        {"name": "a", "type_id": 1, "bits_offset": 0, "bitfield_size": 3},
        {"name": "b", "type_id": 1, "bits_offset": 32},
    ]
    # bpftool extends the sign of unsigned 32-bit values, in JSON only.
    values = [{"name": "A", "val": 1}, {"name": "B", "val": 2**64 - 1}]
    assert by_name["e"]["values"] == values
    assert by_name["n"]["values"] == [{"name": "C", "val": -2}]
    assert by_name["big"]["values"][0] == {"name": "P", "val": 2**64 - 1}
    assert by_name["neg"]["values"] == [{"name": "R", "val": -5}]
    assert by_name[".data"]["vars"][1] == {"type_id": 21, "offset": 4, "size": 4}
    assert by_name["none"]["values"] == []


def test_split_btf_prints_own_types_and_names_of_the_base() -> None:
    w = bw.Writer()
    integer = w.int("int", 4)
    base_var = w.var("base_var", integer)
    s = bw.Writer(base=w)
    s.typedef("own", integer)
    s.datasec(".bss", 4, [(base_var, 0, 4)])
    parsed = btf.parse(s.to_bytes(), btf.parse(w.to_bytes()))
    assert "".join(btf.dump_raw(parsed)) == (
        "[3] TYPEDEF 'own' type_id=1\n"
        "[4] DATASEC '.bss' size=4 vlen=1\n\ttype_id=2 offset=0 size=4 (VAR 'base_var')\n"
    )


# (in the file, in the raw dump, in JSON once it is read)
ODD_NAMES: list[tuple[str | bytes, str, str]] = [
    ("tab\there", r"tab\there", "tab\there"),
    ("line\nend\r\b\f", r"line\nend\r\x08\x0c", "line\nend\r\b\f"),
    ('quote"', 'quote"', 'quote"'),
    ("café → 𝄞", "café → 𝄞", "café → 𝄞"),
    (b"latin1 \xe9", r"latin1 \xe9", r"latin1 \xe9"),
    (b"cut \xe2\x82", r"cut \xe2\x82", r"cut \xe2\x82"),
    (b"\xed\xb3\xbf surrogate", r"\xed\xb3\xbf surrogate", r"\xed\xb3\xbf surrogate"),
    ("\x01\x1b[2J\x7f", r"\x01\x1b[2J\x7f", "\x01\x1b[2J\x7f"),
    ("\x9b31m", r"\x9b31m", "\x9b31m"),
    ("\u202ebidi\u2066", r"\u202ebidi\u2066", "\u202ebidi\u2066"),
    ("\u2028\U000e0041", r"\u2028\U000e0041", "\u2028\U000e0041"),
]  # fmt: skip


def test_names_of_any_bytes() -> None:
    w = bw.Writer()
    for name, _, _ in ODD_NAMES:
        w.fwd(name)
    section = w.datasec("\x1b[1m", 4, [(w.var("\r", 0), 0, 4)])
    parsed = btf.parse(w.to_bytes())
    raw = "".join(btf.dump_raw(parsed))
    lines = [f"[{i}] FWD '{shown}' fwd_kind=struct" for i, (_, shown, _) in enumerate(ODD_NAMES, 1)]
    assert raw.split("\n")[: len(lines)] == lines
    assert rf"[{section}] DATASEC '\x1b[1m' size=4" in raw and raw.endswith(r"(VAR '\r')" + "\n")
    data = dumping.encoded(btf.dump_json(parsed)).decode("utf-8")
    assert data[:-1].isprintable() and data[-1] == "\n"
    names = [fact["name"] for fact in json.loads(data)["types"]]
    assert names[: len(ODD_NAMES)] == [read for _, _, read in ODD_NAMES]


@pytest.mark.parametrize("what", ["types", "members", "variables"])
def test_names_that_are_far_more_than_the_file(what: str) -> None:
    """A long name that many share, or that is the end of another: the text would be gigabytes."""
    w = bw.Writer()
    long = w.string("n" * 60_000)
    members: list[tuple[bw.Name, int, int]] = [(long + i, 1, 32 * i) for i in range(3000)]
    w.int("int", 4)
    if what == "types":
        for i in range(3000):
            w.fwd(long + i)
    elif what == "members":
        w.struct("s", 12_000, members)
    else:
        var = w.var(long, 1)
        w.datasec(".data", 12_000, [(var, 4 * i, 4) for i in range(3000)])
    parsed = btf.parse(w.to_bytes())
    with pytest.raises(btf.BtfError, match="each written out"):
        btf.dump_raw(parsed)
    if what != "variables":  # JSON does not name those
        with pytest.raises(btf.BtfError, match="each written out"):
            btf.dump_json(parsed)


def test_json_is_json_where_old_bpftool_s_is_not() -> None:
    """bpftool before 7.2 wrote ``\\'`` for a quote, and a line feed for a backslash."""
    w = bw.Writer()
    w.fwd("it's")
    w.fwd("back\\slash")
    facts = json.loads("".join(btf.dump_json(btf.parse(w.to_bytes()))))["types"]
    assert [fact["name"] for fact in facts] == ["it's", "back\\slash"]


def test_unknown_kinds() -> None:
    w = bw.Writer()
    w.int("int", 4)
    w.type(23, "what", 77, [1, 0xFFFFFFFF, 3], vlen=1, kind_flag=1)
    w.fwd("after")
    layout = [*bw.full_layout(), (0, 0, 0), (0, 0, 0), (0, 0, 0), (4, 8, 0)]
    parsed = btf.parse(w.to_bytes(header_bytes=32, layout=layout))
    assert "".join(btf.dump_raw(parsed)).splitlines()[1:] == [
        "[2] UNKNOWN 'what' kind=23 vlen=1 kind_flag=1 words=0x4d,0x1,0xffffffff,0x3",
        "[3] FWD 'after' fwd_kind=struct",
    ]
    fact = json.loads("".join(btf.dump_json(parsed)))["types"][1]
    assert fact == {
        "id": 2, "kind": "UNKNOWN", "name": "what", "kind_number": 23, "vlen": 1, "kind_flag": 1,
        "words": [77, 1, 0xFFFFFFFF, 3],
    }  # fmt: skip


def test_no_types_at_all() -> None:
    empty = btf.parse(bw.Writer().to_bytes())
    assert "".join(btf.dump_raw(empty)) == ""
    assert "".join(btf.dump_json(empty)) == '{"types":[]}\n'


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "style"), GOLDEN)
def test_golden_digests(name: str, style: str) -> None:
    types = dumping.base() if name == "vmlinux" else dumping.split(name)
    assert digest(dumping.encoded(FORMATS[style][0](types))) == GOLDEN[name, style]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["demo", "demo-s390x"])
@pytest.mark.parametrize("style", FORMATS)
@every
def test_demo_equals_bpftool(folder: str, style: str, every: int, tmp_path: Path) -> None:
    """vmlinux, and every module standalone and split."""
    dumping.need("bpftool")
    source, (function, options) = DATASETS / folder, FORMATS[style]
    base_path = tmp_path / "base.btf"
    base_path.write_bytes(dumping.base(source).to_bytes())

    def theirs(name: str, types: btf.BTF) -> str:
        path = tmp_path / f"{name}.btf"
        path.write_bytes(types.to_bytes())
        return digest(dumping.bpftool(path, base_path if types.base else None, options))

    files = {"vmlinux": dumping.base(source)}
    for name in dumping.module_names(source)[::every]:
        files[f"{name}-standalone"] = dumping.standalone(name, source)
        files[f"{name}-split"] = dumping.split(name, source)
    with ThreadPoolExecutor() as pool:
        expected = pool.map(theirs, files, files.values())
        ours = [digest(dumping.encoded(function(types))) for types in files.values()]
        same = [a == b for a, b in zip(ours, expected, strict=True)]
    wrong = [name for name, equal in zip(files, same, strict=True) if not equal]
    assert not wrong, f"{len(files) - len(wrong)} of {len(files)} equal"
    assert len(files) >= 3


@pytest.mark.parametrize("seed", range(12))
def test_generated_btf_equals_bpftool(seed: int, tmp_path: Path) -> None:
    dumping.need("bpftool")
    case = vectors.generate(seed)
    base_path, path = tmp_path / "base.btf", tmp_path / "module.btf"
    base_path.write_bytes(case.base)
    base = btf.parse(case.base)
    inputs = {"module": (case.module, None), "split": (case.split, base)}
    for data, on in inputs.values():
        path.write_bytes(data)
        types = btf.parse(data, on)
        for function, options in FORMATS.values():
            expected = dumping.bpftool(path, base_path if on else None, options)
            if b"\\'" not in expected:
                assert dumping.encoded(function(types)) == expected
