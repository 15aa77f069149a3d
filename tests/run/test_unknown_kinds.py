"""Protects: BTF with kinds that are not known yet fails alone, and is told which kind it is, where,
and what that means; nothing else of the run is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import btfwriter as bw
from support.commands import splitbtf
from support.runs import rows

# Kinds that were proposed for inlined functions: bytes after the head, and bytes of each element.
LAYOUT = [*bw.full_layout(), (4, 0, 0), (0, 4, 0), (0, 16, 0)]
NOT_KNOWN = 60


def written(*, proposed: bool = False, own: str = "task") -> bw.Writer:
    w = bw.Writer()
    integer = w.int("int", 4)
    w.struct(own, 4, [("x", integer, 0)])
    if proposed:
        param = w.raw(0, 20 << 24, 4, 1)
        proto = w.raw(0, 21 << 24 | 1, 0, param)
        w.raw(w.string("site"), 22 << 24 | 1, 0, w.string("f"), integer, proto, 256)
    return w


def with_layout(w: bw.Writer) -> bytes:
    return w.to_bytes(32, layout=LAYOUT)


def kernel(folder: Path, base: bytes, **modules: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "vmlinux.btf").write_bytes(base)
    for name, content in modules.items():
        (folder / f"{name}.btf").write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_only_what_has_them_fails(engine: str, tmp_path: Path) -> None:
    plain, proposed = written().to_bytes(), with_layout(written(proposed=True))
    good = with_layout(written(own="own"))
    strange = written(own="strange")
    strange.raw(0, NOT_KNOWN << 24, 0)
    bare = written(own="bare", proposed=True)
    source = tmp_path / "source"
    kernel(source / "a", plain, good=good, bad=with_layout(written(own="bad", proposed=True)),
           bare=bare.to_bytes(), strange=strange.to_bytes(32, layout=LAYOUT))  # fmt: skip
    kernel(source / "b", proposed, good=good)
    for name in ("c", "d"):
        kernel(source / name, plain, good=good)
    done = splitbtf("run", source, "-o", tmp_path / "out", "--engine", engine, "--workers", "1")
    assert done.code == 1 and "Traceback" not in done.err
    found = {(row["kernel"], row["module"]): row for row in rows(tmp_path / "out", "modules")}
    assert {place: row["error_kind"] for place, row in found.items()} == {
        ("a", "good"): None, ("a", "bad"): "bad_btf", ("a", "bare"): "bad_btf",
        ("a", "strange"): "bad_btf", ("b", "good"): "no_base", ("c", "good"): None,
        ("d", "good"): None,
    }  # fmt: skip
    bad: dict[str, Any] = found["a", "bad"]
    assert (bad["error_section"], bad["error_type_id"]) == ("types", 3)
    assert bad["error"].startswith(
        "kind 20 (proposed as LOC_PARAM): the layout section tells that it has 16 bytes here"
    )
    assert "type [3]: kind 20 (proposed as LOC_PARAM)" in found["b", "good"]["error"]
    bare_row, strange_row = found["a", "bare"], found["a", "strange"]
    assert bare_row["error_type_id"] == 3 and "no layout section tells" in bare_row["error"]
    assert strange_row["error"].startswith("kind 60 is not known, and no layout section tells")
    assert {row["kernel"] for row in rows(tmp_path / "out", "kernels")} == {*"abcd"}
    table, below = done.out.split("split BTF:")[0].split("a:\n", 1)
    head, rule, *lines = table.splitlines()
    assert head.split() == ["kernel", "modules", "now", "vmlinux", "BTF", "needed", "left"]
    assert set(rule) == {"-", " "}
    assert [line.split()[:2] for line in lines] == [["a", "4"], ["b", "1"], ["c", "1"], ["d", "1"]]
    assert below.count("failed:") == 2 and "a/bad.btf, types section, offset 40, type 3:" in below


def test_single_files(tmp_path: Path) -> None:
    """As a base they end the command with its reason; as a module they are one that failed."""
    kernel(tmp_path / "b", with_layout(written(proposed=True)), m=written(own="own").to_bytes())
    kernel(tmp_path / "a", written().to_bytes(), m=with_layout(written(proposed=True)))
    base = splitbtf("dedup", "-B", tmp_path / "b/vmlinux.btf", tmp_path / "b/m.btf", "--no-output")
    assert base.code == 2 and "vmlinux.btf, types section, offset 40, type [3]: kind 20" in base.err
    module = splitbtf(
        "dedup", "-B", tmp_path / "a/vmlinux.btf", tmp_path / "a/m.btf", "--no-output"
    )
    assert module.code == 1 and "m.btf, types section, offset 40, type 3: kind 20" in module.out
    dumped = splitbtf("dump", tmp_path / "b/vmlinux.btf")
    assert dumped.code == 0 and "[3] UNKNOWN '(anon)' kind=20" in dumped.out
