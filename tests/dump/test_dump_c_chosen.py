"""Protects the C dump of kfuncs, which are declared, and of chosen types with what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

import btf
from support import btfwriter as bw
from support import dumping


def with_kfuncs() -> bw.Writer:
    """Three kfuncs, one of the name of a typedef, and a function that is tagged otherwise."""
    w = bw.Writer()
    number = w.int("int", 4)
    task = w.struct("task", 4, [("pid", number, 0)])
    pointer = w.ptr(task)
    w.typedef("taken", number)
    proto = w.func_proto(pointer, [("pid", number), ("taken", number)])
    for name, tag, attribute in (
        ("task_from_pid", "bpf_kfunc", False),
        ("taken", "bpf_kfunc", False),
        ("other", "bpf_other", False),
        ("noted", "bpf_kfunc", True),
    ):
        w.decl_tag(tag, func := w.func(name, proto), attribute=attribute)
        if name == "task_from_pid":
            w.decl_tag("bpf_fastcall", func)
    release = w.func("task_release", w.func_proto(0, [("task", pointer), ("", 0)]))
    w.decl_tag("bpf_kfunc", release)
    w.decl_tag("bpf_kfunc", proto)
    return w


def test_kfuncs_have_prototypes(tmp_path: Path) -> None:
    text = "".join(btf.dump_c(btf.parse(with_kfuncs().to_bytes())))
    assert (
        "\n\n/* not expressible in C: a function taken */\n"
        "extern __bpf_fastcall struct task *task_from_pid(int pid, int taken_) __weak __ksym;\n"
        "extern void task_release(struct task *task, ...) __weak __ksym;\n#endif\n"
    ) in text
    assert "#ifndef BPF_NO_KFUNC_PROTOTYPES\n" in text

    dumping.need("gcc")
    file = tmp_path / "kfuncs.h"
    file.write_text(text)
    assert dumping.compiled(file) == ""
    plain = bw.Writer()
    plain.func("f", plain.func_proto(0, []))
    assert "KFUNC" not in "".join(btf.dump_c(btf.parse(plain.to_bytes())))


def test_chosen_types_and_what_they_need() -> None:
    w = with_kfuncs()
    types = btf.parse(w.to_bytes())
    name = {one.name: one.id for one in types.own_types() if isinstance(one, btf.Func)}
    text = "".join(btf.dump_c(types, roots=[name["task_from_pid"]]))
    assert "struct task *task_from_pid(" in text and "task_release" not in text
    assert "struct task;" in text and "struct task {" not in text and "taken;" not in text
    text = "".join(btf.dump_c(types, roots=[name["other"], types["taken"].id, 0]))
    assert "typedef int taken;" in text and "KFUNC" not in text
    with pytest.raises(btf.NotFoundError):
        list(btf.dump_c(types, roots=[99]))
