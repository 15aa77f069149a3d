"""Protects what people use by hand: opening files, names, C text, members by path, notebooks."""

from __future__ import annotations

import copy
import gzip
import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import btf
from support import btfwriter as bw
from support.btfwriter import Writer, bitfield

HOSTILE = "<b>&\x1b[31m"


def kernel() -> Writer:
    w = Writer()
    number = w.int("int", 4)  # 1
    pair = w.struct("pair", 8, [("first", number, 0), ("second", number, 32)])  # 2
    own = w.struct("", 8, [("flag", number, bitfield(3, 4)), ("", pair, bitfield(0, 32))], 1)  # 3
    inner = w.union("", 8, [("whole", pair, 0), ("", own, 0)])  # 4
    task = w.next_id
    members = [("next", task + 1, 0), ("", inner, 64), ("se", pair, 128), ("names", task + 2, 192)]
    w.struct("task_struct", 40, members)  # 5
    w.ptr(task)
    w.array(number, number, 4)
    w.typedef("pid_t", number)
    proto = w.func_proto(number, [("task", task + 1), ("", task + 2)], variadic=True)
    w.func("run", proto)
    w.enum("mode", 4, [("LOW", -1), ("HIGH", 2)], signed=True)
    w.fwd("hidden")
    w.datasec(".data", 8, [(w.var("counter", number), 4, 4)])
    w.struct(HOSTILE, 4, [(HOSTILE, number, 0)])
    w.decl_tag("tag", task)
    return w


BTF = btf.parse(kernel().to_bytes())


def test_types_by_name() -> None:
    assert BTF["task_struct"] == BTF.find("task_struct", kind="struct") == BTF[5]
    assert BTF[b"pair"] == BTF.find("pair", "STRUCT") == BTF[2]
    assert BTF.find_all("mode", "enum") and not BTF.find_all("mode", "enum64")
    with pytest.raises(ValueError, match="'class' is no kind: kinds are void, int, ptr"):
        BTF.find("pair", "class")


def test_near_names_are_looked_for_when_they_are_read() -> None:
    with pytest.raises(btf.NotFoundError) as raised:
        BTF["tsk_struct"]
    error = raised.value
    assert error.message == "there is no type 'tsk_struct'" and error.nearest == ("task_struct",)
    assert str(error) == (
        "types section: there is no type 'tsk_struct'; the nearest names: task_struct"
    )
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), error.at("file")):
        assert type(twin) is btf.NotFoundError and twin.nearest == ("task_struct",)
        assert str(twin).endswith("; the nearest names: task_struct")
    with pytest.raises(btf.NotFoundError, match=r"'pair', only as STRUCT$"):
        BTF.find("pair", "union")
    with pytest.raises(btf.NotFoundError, match=r"'pai'$"):  # near, but no union
        BTF.find("pai", "union")


def test_members_by_path() -> None:
    task = BTF["task_struct"]
    assert isinstance(task, btf.Struct)
    at = {
        path: (task.member(path).bit_offset, task.member(path).bitfield_size)
        for path in ("se", "se.second", "whole.second", "flag", "second", "next")
    }
    assert at == {"se": (128, 0), "se.second": (160, 0), "whole.second": (96, 0),
                  "flag": (68, 3), "second": (128, 0), "next": (0, 0)}  # fmt: skip
    assert task.member("se.second").name == "second" and task.member("").type == BTF[4]
    for path, said in (
        ("sse", "has no member 'sse'; the nearest names: se"),
        ("se.secnd", "pair size=8, 2 members> has no member 'secnd'; the nearest names: second"),
        ("se.second.x", "has no members, so no 'x'"),
        ("next.se", "has no members, so no 'se'"),
        ("se.", "has no member 'se'"),
        (".se", "has no member 'se'"),
        ("se" + ".x" * 5000, "has no member 'x'"),
    ):
        with pytest.raises(KeyError) as raised:
            task.member(path)
        assert said in raised.value.args[0], path


def test_parameters_of_a_function() -> None:
    run = BTF["run"]
    assert isinstance(run, btf.Func)
    assert [(p.name, p.type_id) for p in run.params] == [("task", 6), ("", 7)]
    assert BTF.find("run", btf.Func).params == run.params


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pair", "struct pair {\n\tint first;\n\tint second;\n};"),
        (
            "task_struct",
            "struct task_struct {\n\tstruct task_struct *next;\n\tunion {\n\t\tstruct pair whole;\n"
            "\t\tstruct {\n\t\t\tint flag : 3;\n\t\t\tstruct pair;\n\t\t};\n\t};\n"
            "\tstruct pair se;\n\tint names[4];\n};",
        ),
        ("run", "int run(struct task_struct *task, int[4], ...);"),
        ("pid_t", "typedef int pid_t;"),
        ("mode", "enum mode {\n\tLOW = -1,\n\tHIGH = 2,\n};"),
        ("hidden", "struct hidden;"),
        ("counter", "int counter;"),
        ("int", "int"),
        (6, "struct task_struct *"),
        (7, "int[4]"),
        (0, "void"),
        (".data", ""),
        ("tag", ""),
    ],
)
def test_c(name: str | int, text: str) -> None:
    assert BTF[name].c == text


def test_a_definition_that_never_ends_is_cut() -> None:
    w = Writer()
    inner = w.int("int", 4)
    for _ in range(40):  # each twice as large as the one before
        inner = w.struct("", 8, [("", inner, 0), ("", inner, 0)])
    text = btf.parse(w.to_bytes())[inner].c
    assert "…" in text and len(text) < 2 << 20


class Tags(HTMLParser):
    """Reads a table; complains about tags that are not expected there."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"div", "code", "table", "thead", "tbody", "tr", "th", "td", "pre"}
        self.open.append(tag)
        self.cells += [""] * (tag == "td")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "td":
            self.cells[-1] += data


def read_html(of: Any) -> list[str]:
    reader = Tags()
    text = of._repr_html_()
    assert "\x1b" not in text
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader.cells


def test_html() -> None:
    for one in BTF:
        read_html(one)
    assert read_html(BTF["pair"]) == ["0", "", "int first", "4", "", "int second"]
    assert read_html(BTF["mode"]) == ["-1", "LOW", "2", "HIGH"]
    assert read_html(BTF[".data"]) == ["4", "4", "counter"]
    assert read_html(BTF[HOSTILE])[2] == "int <b>&\\x1b[31m"
    cells = read_html(BTF)
    assert cells[:3] == ["STRUCT", "4", str(sum(4 * len(t.words) for t in BTF if t.kind == 4))]
    w = Writer()
    w.enum("large", 4, [(f"v{number}", number) for number in range(1200)])
    assert read_html(btf.parse(w.to_bytes())[1])[-1] == "… and 200 more"


def test_repr_is_short_and_safe_to_print() -> None:
    assert repr(BTF[HOSTILE]) == "<Struct [15] <b>&\\x1b[31m size=4, 1 member>"
    assert "\x1b" not in repr(BTF[HOSTILE].members[0])  # type: ignore[attr-defined]
    index = btf.BaseIndex.build(BTF)
    module = btf.parse(bw.Writer(base=kernel()).to_bytes(), BTF)
    made = btf.dedup_bytes(kernel().to_bytes(), index)
    for one in (index, btf.dedup(BTF), made, btf.declarations(BTF), btf.BaseNames.build(index),
                btf.BaseFingerprints.build(BTF), btf.sort_by_name(BTF),
                btf.merge([BTF]), module):  # fmt: skip
        assert len(repr(one)) < 400, type(one)


def test_open(tmp_path: Path) -> None:
    base, split = tmp_path / "vmlinux.btf", tmp_path / "split.btf"
    content = kernel().to_bytes()
    base.write_bytes(content)
    (tmp_path / "vmlinux.btf.gz").write_bytes(gzip.compress(content))
    own = Writer(base=kernel())
    own.struct("own", 4, [("x", 1, 0)])
    split.write_bytes(own.to_bytes())
    for path in (base, str(base), tmp_path / "vmlinux.btf.gz"):
        assert btf.open(path).to_bytes() == content
    for on in (base, str(tmp_path / "vmlinux.btf.gz"), BTF, btf.BaseIndex.build(BTF)):
        assert btf.open(split, base=on)["own"].id == len(BTF)
    with pytest.raises(btf.WrongBaseError, match=r"split\.btf.*name it: btf\.open\("):
        btf.open(split)
    (tmp_path / "cut.btf.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(btf.BtfError, match=r"cut\.btf\.gz: damaged gzip"):
        btf.open(tmp_path / "cut.btf.gz")
    base.write_bytes(b"#!/bin/sh")
    with pytest.raises(btf.BtfError, match=r"vmlinux\.btf, header.*not BTF"):
        btf.open(base)
    with pytest.raises(FileNotFoundError):
        btf.open(tmp_path / "none")
