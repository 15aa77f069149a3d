"""Protects the form of split BTF: as libbpf's dedup leaves it, or sorted by name as builds of new
kernels do it afterwards, by default where the base is sorted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import btf
from pipeline.dedup import dedup_files
from pipeline.model.options import FORM_AUTO, FORM_DEDUP, FORM_KERNEL
from support import btfwriter as bw
from support.runs import rows, run_on

NAMES = ("shared", "b", "a", "b", "aa", "", "Z", "_", "shared_more")


def base_file(*, by_name: bool) -> bytes:
    w = bw.Writer()
    integer = w.int("int", 4)
    w.struct("shared", 4, [("x", integer, 0)])
    w.typedef("early", integer)
    types = btf.parse(w.to_bytes())
    return (btf.sort_by_name(types).btf if by_name else types).to_bytes()


def module_file() -> bytes:
    w = bw.Writer()
    integer = w.int("int", 4)
    for number, name in enumerate(NAMES):
        size = 4 if name == "shared" else 8 + number
        pointer = w.ptr(w.struct(name, size, [("x", integer, 0)]))
        w.func(f"f{9 - number}", w.func_proto(pointer, [("p", pointer)]))
    return w.to_bytes()


def sorted_slowly(split: btf.BTF) -> tuple[list[bytes], list[int]]:
    """Names in order, and the ids of own types in it."""
    named = [(split.string_bytes(t.name_off), t.id) for t in split.own_types()]
    return sorted(name for name, _ in named), [number for _, number in sorted(named)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "by_name"),
    [
        (FORM_AUTO, False),
        (FORM_AUTO, True),
        (FORM_DEDUP, True),
        (FORM_KERNEL, False),
        pytest.param(FORM_DEDUP, False, marks=pytest.mark.long),
        pytest.param(FORM_KERNEL, True, marks=pytest.mark.long),
    ],
)
def test_what_run_and_dedup_write(tmp_path: Path, form: str, by_name: bool) -> None:
    """Both write the same, with the tables about it; other forms of one input are not mixed up."""
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    (kernel / "vmlinux.btf").write_bytes(base_file(by_name=by_name))
    (kernel / "alone.btf").write_bytes(module_file())
    base = btf.parse(base_file(by_name=by_name))
    left = btf.dedup_split(btf.parse(module_file()), btf.BaseIndex.build(base)).btf
    (kernel / "again.btf").write_bytes(left.to_bytes())
    names, order = sorted_slowly(left)
    wanted = left
    if form == FORM_KERNEL or (form == FORM_AUTO and by_name):
        wanted = btf.permute(left, order).btf
        assert [wanted.string_bytes(t.name_off) for t in wanted.own_types()] == names

    run_on(kernel, tmp_path / "out", form=FORM_KERNEL if form == FORM_DEDUP else FORM_DEDUP)
    out = run_on(kernel, tmp_path / "out", form=form)
    files = out / "btf" / "kernel=kernel"
    assert (files / "alone.btf").read_bytes() == wanted.to_bytes()
    again = btf.parse((files / "again.btf").read_bytes(), base)
    assert_same_order(again, wanted)
    written: dict[tuple[Any, Any], Any] = {
        (row["module"], row["type_id"]): row["name"] for row in rows(out, "types")
    }
    for number, one in enumerate(wanted.own_types(), wanted.start_id):
        assert written["alone", number] == (wanted.string(one.name_off) or None)

    dedup_files(str(kernel / "vmlinux.btf"), [str(kernel)], str(tmp_path / "few"), form=form)
    for name in ("alone", "again"):
        assert (tmp_path / "few" / f"{name}.btf").read_bytes() == (
            files / f"{name}.btf"
        ).read_bytes()


def assert_same_order(one: btf.BTF, other: btf.BTF) -> None:
    """Their strings may lie elsewhere."""
    assert [str(t) for t in one.own_types()] == [str(t) for t in other.own_types()]


def test_is_sorted_by_name(demo_btf: Any) -> None:
    vmlinux = btf.parse(demo_btf("vmlinux"))
    assert not btf.is_sorted_by_name(vmlinux)
    assert btf.is_sorted_by_name(btf.sort_by_name(vmlinux).btf)
    nameless = bw.Writer()
    nameless.ptr(0)
    assert not btf.is_sorted_by_name(btf.parse(nameless.to_bytes()))


@pytest.mark.parametrize("name", ["xfs", "nf_tables", "nls_cp949"])
def test_kernel_form_of_the_demo(demo_btf: Any, name: str) -> None:
    """Ids in the map lead to the same types as before."""
    base = btf.parse(demo_btf("vmlinux"))
    source = btf.parse(demo_btf(name))
    left = btf.dedup_split(source, btf.BaseIndex.build(base))
    result = btf.kernel_form(left)
    names, order = sorted_slowly(left.btf)
    assert [result.btf.string_bytes(t.name_off) for t in result.btf.own_types()] == names
    assert result.btf.to_bytes() == btf.permute(left.btf, order).btf.to_bytes()
    for number in range(0, source.type_end, 7):
        before, after = left.btf[int(left.id_map[number])], result.btf[int(result.id_map[number])]
        assert (before.kind, before.name_off) == (after.kind, after.name_off)
