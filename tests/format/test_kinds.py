"""Protects the table of kinds: what is derived from it agrees with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import btf
import btf.types.objects
from btf.format import kinds
from btf.format.kinds import Equivalence, NameSpace

TESTS: dict[str, tuple[Callable[[int], bool], Callable[[kinds.KindSpec], bool]]] = {
    "enum": (kinds.is_enum, lambda spec: spec.equivalence is Equivalence.ENUM),
    "scalar": (kinds.is_scalar, lambda spec: spec.equivalence is Equivalence.SCALAR),
    "transparent": (kinds.is_transparent, lambda spec: spec.transparent),
    "chain": (kinds.is_chain, lambda spec: spec.equivalence is Equivalence.CHAIN),
    "never merged": (kinds.is_never_merged, lambda spec: spec.equivalence is Equivalence.NEVER),
}


@pytest.mark.parametrize("name", TESTS)
def test_compiled_functions_ask_the_same_table(name: str) -> None:
    is_one, wanted = TESTS[name]
    found = {kind for kind in range(kinds.KIND_COUNT) if is_one(kind)}
    assert found == {spec.kind for spec in kinds.SPECS if wanted(spec)}


def test_every_kind_has_a_class() -> None:
    for spec in kinds.SPECS:
        (cls,) = (c for c in subclasses(btf.Type) if c.__dict__.get("KIND") == spec.kind)
        assert cls.__name__.upper() == spec.name.replace("_", "")


def subclasses(cls: type[btf.Type]) -> list[type[btf.Type]]:
    return [cls, *(found for inner in cls.__subclasses__() for found in subclasses(inner))]


def test_what_the_table_says_of_some_kinds() -> None:
    def named(space: NameSpace) -> set[str]:
        return {spec.name for spec in kinds.SPECS if spec.name_space is space}

    assert named(NameSpace.TAGS) == {"STRUCT", "UNION", "ENUM", "ENUM64", "FWD"}
    assert named(NameSpace.TYPE_NAMES) == {"INT", "FLOAT", "TYPEDEF"}
    sized = {kinds.KIND_NAMES[kind] for kind in kinds.SIZED}
    assert sized == {"INT", "FLOAT", "STRUCT", "UNION", "ENUM", "ENUM64", "DATASEC"}
    assert {kinds.KEYWORDS[kind] for kind in kinds.QUALIFIERS} == {"const", "volatile", "restrict"}
    assert kinds.ENUM_BITS[kinds.ENUM] == 32 and kinds.ENUM_BITS[kinds.ENUM64] == 64
