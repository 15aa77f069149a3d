"""Protects ``splitbtf explain``: what is said of a kernel, a module and a type, and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.explain import type_lines
from pipeline.analysis.explain import Explanations
from support.btfwriter import Writer
from support.commands import Finished, splitbtf
from support.trees import small_tree

pytestmark = pytest.mark.slow

MODULES = ("act_bpf", "btrfs", "ip_vs_dh", "ip_vs_nq", "ip_vs_wrr", "nft_nat", "xt_bpf")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    small_tree(folder / "demo", MODULES, whole=True)
    done = splitbtf("run", folder / "demo", "-o", folder / "out", "--engine", "local")
    assert done.code == 0, done.err
    return folder / "out"


def explain(out: Path, *arguments: object) -> Finished:
    done = splitbtf("explain", out, *arguments)
    assert "Traceback" not in done.err
    return done


def test_a_kernel(out: Path) -> None:
    done = explain(out)
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0].startswith("demo: ") and "in 5 of 7 modules" in lines[0]
    assert lines[4].split(":")[0].split() == ["31", "4.58", "kB", "3", "struct", "netns_ipvs"]
    assert any("struct dir_entry: members: 3 in vmlinux, 4 in the module" in x for x in lines)
    assert not any("percpu" in line for line in lines)  # nobody's fault


def test_a_module(out: Path) -> None:
    done = explain(out, "--module", "ip_vs_dh")
    assert done.code == 0
    assert done.out.splitlines()[0].endswith("of 2 named types vmlinux has one of the name:")
    assert "keeps 13 types, 2 kB (28 %); also in 2 other modules" in done.out
    assert "[95072] module.mkobj → module_kobject.kobj → " in done.out
    nothing = explain(out, "--module", "xt_bpf")
    assert nothing.code == 0 and "vmlinux has no type of any of their names" in nothing.out


def test_a_type_by_name_and_by_id(out: Path) -> None:
    by_name = explain(out, "--module", "ip_vs_dh", "--type", "module")
    assert by_name.code == 0
    for wanted in ("struct module", "95072"):
        assert explain(out, "--module", "ip_vs_dh", "--type", wanted).out == by_name.out
    assert (
        by_name.out.splitlines()[0] == "struct module [95072] stayed in ip_vs_dh (demo), 876 bytes"
    )
    for said in (
        "vmlinux has struct module [141].",
        " → possible_net_t.net → net.ipvs → struct netns_ipvs: vmlinux has only a forward ",
        "The module's struct netns_ipvs [95081] is used by: ",
        "It is the first type of the module that leads to struct netns_ipvs",
        "To change it: if something that is built into the kernel included",
        "That would save at least 13 types, 2 kB in ip_vs_dh (28 % of its types). 2 other modules",
    ):
        assert said in by_name.out
    clash = explain(out, "--module", "btrfs", "--type", "struct dir_entry").out
    assert "these are two different types: give the module's struct dir_entry another" in clash
    number = explain(out, "--module", "nft_nat", "--type", "double").out
    assert "float double in vmlinux, int double in the module" in number and "pahole" in number


def test_types_of_another_fate(out: Path) -> None:
    def said(wanted: object, module: str = "ip_vs_dh") -> str:
        done = explain(out, "--module", module, "--type", wanted)
        assert done.code == 0
        return done.out

    assert "did not stay in ip_vs_dh (demo): it is vmlinux's" in said("task_struct")
    others = "vmlinux has no type of that name; 2 other modules keep the same"
    assert others in said("ip_vs_service")
    assert "vmlinux has no type of that name" in said("btrfs_inode", "btrfs")
    with Explanations(str(out)) as explanations:  # not a process for each
        (explanation,) = explanations.of(None, "ip_vs_dh")
        query = "FROM types WHERE module = 'ip_vs_dh' AND kind = 'PTR' ORDER BY type_id LIMIT 12"
        ids = [row["type_id"] for row in splitbtf("query", out, query, "--json").json]
        answers = {i: explanation.of_type(str(i)).found for i in ids}
    pointers = {i: "\n".join(type_lines(answer)) for i, (answer,) in answers.items()}
    (to_root,) = [i for i, text in pointers.items() if "that stayed: struct netns_ipvs" in text]
    assert "struct netns_ipvs [95081]:" in pointers[to_root]
    (unnamed, *_) = [
        i for i, text in pointers.items() if "a type without a name that vmlinux lacks" in text
    ]
    for type_id in (to_root, unnamed):
        assert said(type_id) == f"{pointers[type_id]}\n"


def test_json(out: Path) -> None:
    kernel = explain(out, "--json").json
    assert kernel["kernel"] == "demo" and kernel["causes"][0]["name"] == "netns_ipvs"
    assert kernel["causes"][0]["modules"] == ["ip_vs_dh", "ip_vs_nq", "ip_vs_wrr"]
    module = explain(out, "--module", "ip_vs_dh", "--json").json
    (cause,) = module["causes"]
    assert (cause["types"], cause["bytes"], cause["modules"]) == (13, 2000, 3)
    assert [row["name"] for row in cause["stayed"]] == ["netns_ipvs", "module"]
    answer = explain(out, "--module", "ip_vs_dh", "--type", "module", "--json").json
    (found,) = answer["found"]
    assert found["outcome"] == "stayed" and found["row"]["path"].endswith("→ struct netns_ipvs")
    assert found["cause"]["users"]


def test_none_of_that_name(out: Path) -> None:
    done = explain(out, "--module", "ip_vs_dh", "--type", "tasc_struct")
    assert done.code == 1 and "the nearest names: task_struct" in done.out
    done = explain(out, "--module", "ip_vs_dh", "--type", "union module", "--json")
    assert done.code == 1 and done.json["found"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--type", "module"), "--type needs --module"),
        (("--module", "missing"), "no module 'missing' in demo; there are: "),
        (("--module", "vmlinux"), "vmlinux is what modules are compared with"),
        (("--kernel", "missing"), "no kernel 'missing'; there are: demo"),
        (("--module", "ip_vs_dh", "--type", "999999"), "no type [999999]"),
    ],
)
def test_nothing_could_be_done(out: Path, arguments: tuple[object, ...], message: str) -> None:
    done = explain(out, *arguments)
    assert done.code == 2 and message in done.err and done.out == ""


def test_no_kernels(tmp_path: Path) -> None:
    done = explain(tmp_path)
    assert done.code == 2 and "no kernel there" in done.err


def test_several_kernels_and_a_failed_module(tmp_path: Path) -> None:
    """And the path as C writes it, in BTF that was made for it."""

    def write(w: Writer, size: int) -> None:
        i = w.int("int", 4)
        bar = w.struct("bar", size, [("x", i, 0)])
        ops = w.struct("ops", 8, [("bar", w.ptr(bar), 0)])
        net = w.struct("net_device", 48, [("foo", w.array(w.ptr(ops), i, 6), 0)])
        w.struct("sk_buff", 8, [("dev", w.ptr(net), 0)])

    for kernel in ("one", "two"):
        folder = tmp_path / "src" / kernel
        folder.mkdir(parents=True)
        for name, size in (("vmlinux", 48), ("driver", 16)):
            writer = Writer()
            write(writer, size)
            (folder / f"{name}.btf").write_bytes(writer.to_bytes())
    (tmp_path / "src" / "two" / "broken.btf").write_bytes(b"")
    out = tmp_path / "out"
    assert splitbtf("run", tmp_path / "src", "-o", out, "--engine", "local").code == 1
    several = explain(out, "--module", "driver")
    alone = [explain(out, "--module", "driver", "--kernel", name).out for name in ("one", "two")]
    assert several.code == 0 and several.out == f"one: {alone[0]}\ntwo: {alone[1]}"
    both = explain(out, "--module", "driver", "--json").json
    assert [answer["kernel"] for answer in both] == ["one", "two"]
    assert explain(out, "--kernel", "two", "--module", "driver", "--json").json == both[1]
    assert [answer["kernel"] for answer in explain(out, "--json").json] == ["one", "two"]
    assert explain(out).out == f"{explain(out, '--kernel', 'one').out}\n" + (
        explain(out, "--kernel", "two").out
    )
    done = explain(out, "--kernel", "one", "--module", "driver", "--type", "sk_buff")
    path = "sk_buff.dev → net_device.foo[] → ops.bar → struct bar"
    assert f"  {path}: 48 bytes in vmlinux, 16 in the module" in done.out.splitlines()
    assert "  The module's struct bar [10] is used by: ops.bar" in done.out.splitlines()
    assert "That would save 8 types, 156 bytes in driver" in done.out
    broken = explain(out, "--module", "broken")
    assert broken.code == 2 and "two: broken could not be deduplicated: " in broken.err
    only = explain(out, "--module", "driver", "--type", "999999")
    assert only.code == 2 and only.err.count("999999") == 1
