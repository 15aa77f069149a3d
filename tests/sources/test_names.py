"""Protects: names stay in their folder, stay distinct, and do not depend on the order."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import names

FILE_NAMES = st.binary(min_size=1, max_size=60).map(os.fsdecode)


@pytest.mark.parametrize(
    ("file_name", "stem"),
    [
        ("kvm-amd.btf.zst", "kvm-amd"),
        ("kvm.ko", "kvm"),
        ("kvm.ko.xz", "kvm"),
        ("vmlinux", "vmlinux"),
        (".btf", ".btf"),
        ("a.b.btf", "a.b"),
    ],
)
def test_stem(file_name: str, stem: str) -> None:
    assert names.stem(file_name) == stem


@pytest.mark.parametrize(
    ("file_name", "base", "module"),
    [
        ("vmlinux", True, False),
        ("vmlinux.btf", True, False),
        ("vmlinux.btf.zst", True, False),
        ("vmlinux-6.1.0-50-amd64", True, False),
        ("vmlinux.o", False, False),
        ("vmlinux.lds", False, False),
        ("xfs.ko", False, True),
        ("xfs.btf.zst", False, True),
        ("xfs.o", False, False),
        ("README", False, False),
    ],
)
def test_what_a_file_is_taken_for(file_name: str, base: bool, module: bool) -> None:
    assert names.looks_like_base(file_name) == base
    assert names.looks_like_input(file_name) == (base or module)


def test_releases() -> None:
    assert names.release_of_base("vmlinux-6.1.0-50-amd64") == "6.1.0-50-amd64"
    assert names.release_of_base("vmlinux-6.1.0.btf.zst") == "6.1.0"
    assert names.release_of_base("vmlinux.btf") is None
    assert names.release_in_path("/x/lib/modules/6.1.0/kernel/fs/xfs.ko") == "6.1.0"
    assert names.release_in_path("/x/modules/6.1.0/xfs.ko") is None


@given(FILE_NAMES)
def test_safe_names_stay_in_their_folder(name: str) -> None:
    safe = names.safe(name)
    assert "/" not in safe and "\0" not in safe and not safe.startswith(".")
    assert safe.isascii() and safe.isprintable() and 0 < len(safe) <= 200


@given(st.lists(FILE_NAMES, unique=True, min_size=2, max_size=2))
def test_different_names_stay_different(pair: list[str]) -> None:
    assert names.safe(pair[0]) != names.safe(pair[1])


@given(st.lists(st.tuples(st.sampled_from("abc~@"), st.sampled_from(["", "x", "x/y", "x+y", "z"]))))
def test_distinct_names_are_distinct(paths: list[tuple[str, str]]) -> None:
    result = names.distinct(sorted(paths))
    assert len(set(result)) == len(paths)
    assert names.RESERVED not in result


def test_modules_of_one_name_are_told_apart_by_their_folders() -> None:
    paths = [("foo", "drivers/a"), ("foo", "drivers/b"), ("bar", "x"), ("foo@drivers+a", "")]
    for order in itertools.permutations(paths):
        named = dict(zip(sorted(order), names.distinct(sorted(order)), strict=True))
        assert named[("bar", "x")] == "bar"
        assert named[("foo@drivers+a", "")] == "foo@drivers+a"
        assert named[("foo", "drivers/a")] == "foo@drivers+a~2"
        assert named[("foo", "drivers/b")] == "foo@drivers+b"
    assert names.distinct([("vmlinux", "")]) == ["vmlinux~2"]


def test_printable_is_one_line_of_utf_8() -> None:
    assert names.printable(os.fsdecode(b"a\xffb\nc\x1b[0m")) == "a\\xffb\\nc\\x1b[0m"
    assert names.printable("größe") == "größe"
