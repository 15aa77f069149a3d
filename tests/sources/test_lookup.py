"""Protects names as people type them: which kernel or module is meant, and the nearest names."""

from __future__ import annotations

import pytest

from btf.nearest import _edits, hint_of, listed, nearest_names
from pipeline.model.errors import QueryError
from pipeline.sources.lookup import Name, resolve_kernel, resolve_module

KERNELS = (
    "debian-6.1.0-50-amd64",
    "debian-6.1.0-50-cloud-amd64",
    "debian-6.12.111+deb12-cloud-amd64",
    "debian-6.12.117+deb12-cloud-amd64",
    "7.2.13",
    "7.2.130",
)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("debian-6.1.0-50-amd64", 0),
        ("debian-6.1.0-50-c", 1),
        ("6.1.0-50-cloud", 1),
        ("6.1.0-50-amd64", 0),
        ("6.12.117", 3),
        (" 6.12.117 ", 3),
        ("6.12.111+deb12", 2),
        ("7.2.13", 4),
        ("7.2.130", 5),
        ("7.2.1", None),
        ("7.2.", (4, 5)),
        ("6.1.0-50", (0, 1)),
        ("6.1", (0, 1)),
        ("6.12", (2, 3)),
        ("cloud-amd64", (1, 2, 3)),
        ("deb", (0, 1, 2, 3)),
        ("7.2", (4, 5)),
        ("6.12.11", None),
        ("debian-6.12.11", None),
        ("debian-6.1", (0, 1)),
        ("1.0-50", None),
        ("", None),
    ],
)
def test_kernels(wanted: str, meant: int | tuple[int, ...] | None) -> None:
    if isinstance(meant, int):
        assert resolve_kernel(wanted, KERNELS) == KERNELS[meant]
        return
    with pytest.raises(QueryError) as refused:
        resolve_kernel(wanted, KERNELS)
    if meant is not None:
        names = ", ".join(KERNELS[at] for at in meant)
        assert str(refused.value) == f"which kernel? {wanted!r} fits {names}"


def test_what_begins_so_comes_first() -> None:
    names = ("6.1.0-50-amd64", "6.12.111-amd64", "debian-6.1.0-50-amd64")
    assert resolve_kernel("6.1", names) == resolve_kernel("6.1.0-50", names) == names[0]
    assert resolve_kernel("6.1.0-50-a", names) == names[0]
    assert resolve_kernel("debian", names) == names[2]
    assert resolve_kernel("A.c", ("A.c", "A.c.d", "Abc")) == "A.c", "no pattern"
    with pytest.raises(QueryError, match="no kernel 'abc'; the nearest names: Abc"):
        resolve_kernel("abc", ["Abc"])


@pytest.mark.parametrize("other", ["6.12.11", "6.12.1", "7.2.1", "6.1.0-5", "6"])
def test_a_number_is_not_shortened(other: str) -> None:
    """Another release is not there, and is not answered with one whose number begins so."""
    names = ("6.1.0-50-cloud", "6.12.117+deb12-cloud", "66.1.0-cloud", "7.2.13+deb14-cloud")
    if other == "6":
        with pytest.raises(QueryError, match=r"which kernel\? '6' fits 6.1.0.*, 6.12.117[^,]*$"):
            resolve_kernel(other, names)
        return
    with pytest.raises(QueryError, match=f"no kernel '{other}'; the nearest names: ") as refused:
        resolve_kernel(other, names)
    assert next(name for name in names if name.startswith(other)) in str(refused.value)


def test_a_manifest_s_name_means_what_a_run_calls_by_its_release() -> None:
    names = ("6.1.0-50-amd64", "6.1.0-50-cloud-amd64@1", "6.1.0-50-cloud-amd64@2", "fedora-6.1.0-7")
    assert resolve_kernel("debian-6.1.0-50-amd64", names) == names[0]
    with pytest.raises(QueryError, match=r"which kernel.* fits .*@1, .*@2"):
        resolve_kernel("debian-6.1.0-50-cloud-amd64", names)
    for other in ("debian-6.1.0-7", "debian-", "debian-6.2", "6-6.1.0-50-amd64"):
        with pytest.raises(QueryError, match="no kernel"):
            resolve_kernel(other, names)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("6.12.118", f"the nearest names: {KERNELS[2]}, {KERNELS[3]}"),
        ("debain-6.1.0-50-cloud-amd64", "the nearest names: debian-6.1.0-50-cloud-amd64"),
        ("xyz", "there are: 7.2.13, 7.2.130, debian-6.1.0-50-amd64"),
    ],
)
def test_no_such_kernel(wanted: str, said: str) -> None:
    with pytest.raises(QueryError) as refused:
        resolve_kernel(wanted, KERNELS)
    message = str(refused.value)
    assert message.startswith(f"no kernel {wanted!r}; ")
    assert all(name in message for name in said.split(": ")[1].split(", "))
    assert said.partition(":")[0] in message


def test_modules() -> None:
    known = {"snd-hda-core": "snd_hda_core", "a@x": "a", "a@y": "a", "b": None, "c-d": None}
    for wanted in ("snd_hda_core", "snd-hda-core", "snd-hda-core.ko.xz", "sound/snd-hda_core.ko"):
        assert resolve_module(wanted, known) == "snd-hda-core"
    assert resolve_module("c_d", known) == "c-d" and resolve_module("a@x", known) == "a@x"
    assert resolve_module("snd", known) is None
    with pytest.raises(QueryError, match=r"which module\? 'a' fits a@x, a@y"):
        resolve_module("a", known)


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("xsf", "xfs", 1), ("xsf", "xt_osf", 3), ("ca", "abc", 3), ("abcd", "badc", 2),
        ("", "ab", 2), ("same", "same", 0), ("aab", "aba", 1), ("kitten", "sitting", 3),
        ("x" * 300 + "ab" + "y" * 200, "x" * 300 + "ba" + "y" * 200, 1), ("a" * 70, "b" * 70, 70),
    ],
)  # fmt: skip
def test_edits(one: str, other: str, edits: int) -> None:
    assert _edits(one, other) == _edits(other, one) == edits


def test_types() -> None:
    assert Name.of(" struct  tcp_* ") == Name("tcp_*", "struct") and Name.of("tcp_*").is_pattern
    assert Name.of("unsigned int") == Name("unsigned int") and not Name.of("int").is_pattern
    assert Name.of("struct") == Name("struct"), "a name, too"
    assert Name.of("struct tcp_*").fits("struct", "tcp_sock")
    assert not Name.of("struct tcp_*").fits("union", "tcp_sock")


def test_nearest_names() -> None:
    names = [f"name_{number}" for number in range(5000)] + ["task_struct", "taskstats", "Ab", ""]
    assert nearest_names("task_strut", names) == ("task_struct", "taskstats")
    assert nearest_names("TASK-struct", names)[0] == "task_struct"
    assert nearest_names("tsak_struct", names)[0] == "task_struct"
    assert nearest_names("ab", names) == ("Ab",)
    assert nearest_names("size", ["size-per-kernel", "oversized-things"]) == ("size-per-kernel",)
    assert nearest_names("xyzzy", names) == nearest_names("", names) == ()
    assert len(nearest_names("name_1", names)) == 5, "the same whatever the order of the names"
    assert nearest_names("name_1", reversed(names)) == nearest_names("name_1", names)
    modules = ["xt_osf", "xsk", "xfs", "xfrm", "sxf_long", *(f"osf_{n}" for n in range(100))]
    assert nearest_names("xsf", modules)[0] == "xfs", "two neighbours exchanged are one edit"
    assert nearest_names("abcd", ["abcdee", "abce", "abc", "abcde"]) == (
        "abc", "abce", "abcde", "abcdee",
    ), "by edits, then length, then name"  # fmt: skip
    assert hint_of("x", ["b", "a"]) == "; there are: a, b" and hint_of("x", []) == ""
    assert listed([str(number) for number in range(22)]).endswith("18, 19 and 2 more")
