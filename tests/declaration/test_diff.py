"""Protects ``splitbtf diff`` and ``splitbtf show`` as commands: text, JSON, filters and gates."""

from __future__ import annotations

from pathlib import Path

import pytest

import btf
from btf.declaration.show import MAX_LINES, layout_of, show
from btf.types.c_text import MAX_TEXT
from support import btfwriter as bw
from support.commands import splitbtf
from support.kernels import INT, LONG, written


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("kernels")

    def old(w: bw.Writer) -> None:
        w.struct("gone", 4, [("a", INT, 0)])
        w.struct("in\x1bner", 8, [("a", INT, 0), ("b", INT, 32)])
        w.struct("outer", 16, [("m", w.next_id - 1, 0), ("", w.union("", 8, [("u", LONG, 0)]), 64)])
        w.func("exported", w.func_proto(0, [("", w.next_id - 1)]))
        w.func("other", w.func_proto(0, [("", INT)]))

    def new(w: bw.Writer) -> None:
        w.struct("in\x1bner", 8, [("a", INT, 0), ("c", INT, 32)])
        w.struct("outer", 16, [("m", w.next_id - 1, 0), ("", w.union("", 8, [("u", LONG, 0)]), 64)])
        w.func("exported", w.func_proto(0, [("", w.next_id - 1)]))
        w.func("other", w.func_proto(0, [("", LONG)]))

    paths = folder / "old.btf", folder / "vmlinux.btf"
    for path, make in zip(paths, (old, new), strict=True):
        path.write_bytes(written(make))
    return paths


def test_text(files: tuple[Path, Path]) -> None:
    done = splitbtf("diff", *files)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out and r"struct in\x1bner" in done.out
    assert "member added: `int c` at 4" in done.out
    assert r"  struct in\x1bner: struct outer" in done.out
    assert "removed\n  struct: gone" in done.out


def test_json(files: tuple[Path, Path]) -> None:
    facts = splitbtf("diff", *files, "--json").json
    assert facts["objects"][0]["object"] == "vmlinux"
    assert facts["objects"][0]["status"] == "both"
    assert facts["objects"][0]["kinds"]["struct"] == {
        "both": 2, "added": 0, "removed": 1, "changed": 1, "embedded": 1, "reached": 0,
    }  # fmt: skip
    (change,) = [one for one in facts["changes"] if one["name"] == "other"]
    assert change["object"] == "vmlinux" and change["change"] == "changed"
    assert change["details"][0]["text"] == "parameter retyped `1`: `int` → `long`"


def test_markdown_escapes_names(files: tuple[Path, Path]) -> None:
    done = splitbtf("diff", *files, "--format", "markdown", "--kind", "struct")
    assert "| struct | 2 | 0 | 1 | 1 | 1 | 0 |" in done.out
    assert "| func" not in done.out and r"- struct in\x1bner" in done.out


def test_filters(files: tuple[Path, Path]) -> None:
    for glob, name in (("oth*", "other"), ("struct gone", "gone"), ("func other", "other")):
        facts = splitbtf("diff", *files, "--name", glob, "--json").json
        assert [one["name"] for one in facts["changes"]] == [name], glob
    assert splitbtf("diff", *files, "--name", "struct other", "--json").json["changes"] == []


@pytest.mark.parametrize(
    "form",
    [
        "exported\n# not other\nnowhere\n",
        "[abi_symbol_list]\n  # of one driver\n  exported\n\n  nowhere\n",
        "0x12\texported\tvmlinux\tE\t\n",
        "0x12\texported\tvmlinux\tEXPORT_SYMBOL_GPL\n",
        "0x12\texported\tvmlinux\tEXPORT_SYMBOL_GPL\tSPACE\n",
        "0x12\texported\t\tvmlinux\tEXPORT_SYMBOL\n",
        "0x12\texported\tSPACE\tvmlinux\tEXPORT_SYMBOL\n0x13\tnowhere\t\tvmlinux\tEXPORT_SYMBOL\n",
    ],
)
def test_symbols_and_what_they_hold_by_value(
    files: tuple[Path, Path], tmp_path: Path, form: str
) -> None:
    symbols = tmp_path / "symbols"
    symbols.write_text(form)
    facts = splitbtf("diff", *files, "--symbols", symbols, "--json").json
    assert {one["name"] for one in facts["changes"]} == {"exported", "outer", "in\x1bner"}
    assert facts["unknown_symbols"] == (["nowhere"] if "nowhere" in form else [])


@pytest.mark.parametrize(
    ("name", "gate", "why"),
    [
        ("other", "declaration", "1 name declared otherwise"),
        ("outer", "declaration", ""),
        ("outer", "layout", "1 name laid out otherwise"),
        ("gone", "declaration", "1 name removed"),
        ("gone", "layout", "1 name removed"),
        ("o*", "layout", "2 names laid out otherwise"),
        ("[!o]*", "layout", "1 name removed, 2 laid out otherwise"),
        ("[!o]*", "declaration", "1 name removed, 1 declared otherwise"),
    ],
)
def test_gates_say_why(files: tuple[Path, Path], name: str, gate: str, why: str) -> None:
    done = splitbtf("diff", *files, "--name", name, "--fail-on", gate)
    assert done.code == bool(why)
    assert done.err == (f"splitbtf: --fail-on {gate}: {why}\n" if why else "")


def test_a_gate_with_a_name_that_nothing_fits(files: tuple[Path, Path]) -> None:
    done = splitbtf("diff", *files, "--name", "nothing", "--fail-on", "layout")
    assert done.code == 1 and "--fail-on" not in done.err


def test_a_typedef_of_the_same_layout_passes_the_gate_of_layouts(tmp_path: Path) -> None:
    old, new = tmp_path / "old.btf", tmp_path / "new.btf"
    old.write_bytes(written(lambda w: w.struct("s", 4, [("a", INT, 0)])))
    new.write_bytes(written(lambda w: w.struct("s", 4, [("a", w.typedef("number", INT), 0)])))
    passed = splitbtf("diff", old, new, "--fail-on", "layout")
    assert (passed.code, passed.err) == (0, "") and "\n  struct s\n" in passed.out
    assert splitbtf("diff", old, new, "--fail-on", "declaration").code == 1
    new.write_bytes(written(lambda w: w.struct("s", 8, [("a", w.typedef("number", INT), 0)])))
    assert "\n  struct s (layout)\n" in splitbtf("diff", old, new).out


def test_split_btf_needs_its_base(files: tuple[Path, Path], tmp_path: Path) -> None:
    base = bw.Writer()
    base.int("int", 4)
    (tmp_path / "vmlinux.btf").write_bytes(base.to_bytes())
    paths = []
    for number in (1, 2):
        split = bw.Writer(base=base)
        split.struct("s", 8, [("a", 1, 32 * number)])
        paths.append(tmp_path / f"module{number}.btf")
        paths[-1].write_bytes(split.to_bytes())
    done = splitbtf("diff", *paths)
    assert done.code == 2 and "-B" in done.err
    done = splitbtf("diff", *paths, "-B", tmp_path / "vmlinux.btf")
    assert done.code == 0 and "member moved `a`: 4 → 8" in done.out
    done = splitbtf("diff", *files, "-B", tmp_path / "vmlinux.btf")
    assert done.code == 2 and "standalone" in done.err


def test_show_names_parameters(tmp_path: Path) -> None:
    """As pahole does, and history. Names alone make no other declaration."""

    def types(w: bw.Writer) -> None:
        w.func("f", w.func_proto(INT, [("count", LONG), ("pos", w.ptr(LONG))]))
        w.func("f", w.func_proto(INT, [("n", LONG), ("at", w.ptr(LONG))]))

    (tmp_path / "a.btf").write_bytes(written(types))
    assert splitbtf("show", "f", tmp_path / "a.btf").out == "int f(long count, long *pos);\n"


def test_show(files: tuple[Path, Path]) -> None:
    done = splitbtf("show", "struct outer", files[0])
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert ["long", "u;", "/*", "8", "8", "*/"] in lines
    assert "/* size: 16, cachelines: 1, members: 2 */" in done.out
    expanded = splitbtf("show", "outer", files[0], "--expand")
    assert "int b;" in expanded.out and "int b;" not in done.out
    facts = splitbtf("show", "outer", files[0], "--json").json
    members = facts["files"][0]["found"][0]["members"]
    assert [(one["path"], one["bit_offset"]) for one in members if one["text"] == "long u"] == [
        ("u", 64)
    ]


def test_show_holes_and_padding(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.btf"
    path.write_bytes(
        written(lambda w: w.struct("s", 136, [("a", INT, 0), ("b", LONG, 64), ("c", INT, 1024)]))
    )
    said = splitbtf("show", "s", path).out
    assert "/* 4 bytes hole */" in said and "/* 112 bytes hole */" in said
    assert "/* --- cacheline 2 boundary (128 bytes) --- */" in said
    assert "/* holes: 2, of 116 bytes */" in said and "/* padding: 4 bytes */" in said


def test_show_sees_through_members_without_a_name(tmp_path: Path) -> None:
    """Also those whose type has one: C takes what is in them for members of what is around them."""
    path, before = tmp_path / "vmlinux.btf", tmp_path / "old.btf"

    def types(w: bw.Writer) -> None:
        head = w.struct("head", 8, [("a", INT, 0), ("b", INT, 32)])
        w.struct("s", 12, [("c", INT, 0), ("", head, 32)])

    path.write_bytes(written(types))
    before.write_bytes(written(lambda w: w.struct("s", 8, [("a", INT, 0), ("c", INT, 32)])))
    shown = splitbtf("show", "s", path).out
    assert [line.split() for line in shown.splitlines()][2:6] == [
        ["struct", "head", "{"],
        ["int", "a;", "/*", "4", "4", "*/"],
        ["int", "b;", "/*", "8", "4", "*/"],
        ["};", "/*", "4", "8", "*/"],
    ]
    assert splitbtf("show", "s", path, "--expand").out == shown
    rows = [line.split() for line in splitbtf("show", "s", before, path).out.splitlines()]
    assert ["*", "a", "0", "4", "4", "4"] in rows and ["*", "b", "-", "8", "4"] in rows


def test_show_side_by_side(files: tuple[Path, Path]) -> None:
    rows = [line.split() for line in splitbtf("show", "in\x1bner", *files).out.splitlines()]
    assert ["a", "0", "4", "0", "4"] in rows
    assert ["*", "b", "4", "4", "-"] in rows and ["*", "c", "-", "4", "4"] in rows


def test_show_names_what_is_near(files: tuple[Path, Path]) -> None:
    done = splitbtf("show", "struct outre", files[0])
    assert done.code == 1 and "outer" in done.err


@pytest.mark.slow
def test_what_would_be_too_much_to_write_out_is_refused(tmp_path: Path) -> None:
    """A file of some hundred bytes, of structs that each hold the one before twice."""

    def make(w: bw.Writer) -> None:
        inner = INT
        for size in range(3, 23):
            bits = 1 << (size + 2)
            inner = w.struct(f"s{size}", bits >> 2, [("a", inner, 0), ("b", inner, bits)])

    path = tmp_path / "vmlinux.btf"
    path.write_bytes(written(make))
    done = splitbtf("show", "s22", path, "--expand")
    assert done.code == 2 and f"more than {MAX_LINES} members" in done.err
    assert splitbtf("show", "s22", path).code == 0


@pytest.mark.slow
def test_what_is_written_out_is_spelled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what spells ever the same at great length is refused in the end."""
    monkeypatch.setattr("btf.declaration.show.MAX_CHARACTERS", most := 1 << 19)

    def make(w: bw.Writer) -> None:
        inner = INT
        for _ in range(12):
            inner = w.union("", 4, [("a", inner, 0), ("b", inner, 0)])
        w.struct("deep", 4, [("it", inner, 0)])
        many = w.ptr(w.func_proto(INT, [("", INT)] * MAX_TEXT))
        w.struct("wide", 8 * 160, [(f"m{i}", many, 64 * i) for i in range(160)])

    types = btf.parse(written(make))
    deep = types.find("deep", "struct")
    assert isinstance(deep, btf.Struct)
    fields = [field for field in layout_of(deep).walk() if field.inside]
    assert len(fields) == (1 << 12) - 1
    assert max(len(field.text) for field in fields) < 30
    with pytest.raises(btf.BtfError, match=f"more than {most} characters"):
        list(show(types.find("wide", "struct")))
