"""Protects the list of what compiled functions require: btf/compiled/requirements.toml.

It names all of them, each parameter has a condition, each guarantee is by something that there is,
and each place where Python code calls one is known to have been looked at.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "btf"
LIST = tomllib.loads((PACKAGE / "compiled" / "requirements.toml").read_text())
DECORATORS = {"compiled", "inlined", "noinline"}


@cache
def sources() -> dict[str, ast.Module]:
    """All modules of the package, by their dotted names within it."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def is_compiled(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(d, ast.Name) and d.id in DECORATORS for d in node.decorator_list
    )


@cache
def functions() -> dict[str, dict[str, list[str]]]:
    """Parameters of all compiled functions, by module and name."""
    found: dict[str, dict[str, list[str]]] = {}
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if is_compiled(node):
                assert isinstance(node, ast.FunctionDef)
                arguments = [argument.arg for argument in node.args.args]
                found.setdefault(module, {})[node.name] = arguments
    return found


def test_every_function_is_listed() -> None:
    listed = {(module, name) for module, names in LIST["functions"].items() for name in names}
    assert listed == {(module, name) for module, names in functions().items() for name in names}
    assert len(listed) > 200


@pytest.mark.parametrize("module", LIST["functions"])
def test_every_parameter_has_one_condition(module: str) -> None:
    for name, arguments in functions()[module].items():
        conditions: dict[str, str] = LIST["functions"][module][name]
        assert set(conditions) <= set(LIST["conditions"]), name
        listed = [argument for names in conditions.values() for argument in names.split()]
        assert sorted(listed) == sorted(arguments), name


def test_every_condition_is_used_and_somebody_guarantees_it() -> None:
    every = [function for names in LIST["functions"].values() for function in names.values()]
    used = {condition for function in every for condition in function}
    assert used == set(LIST["conditions"])
    for name, condition in LIST["conditions"].items():
        assert condition["says"].strip().endswith("."), name
        for guarantor in condition["by"]:
            assert thing(guarantor) is not None, (name, guarantor)


def thing(dotted: str) -> Any:
    """What a dotted name within the package stands for."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in sources():
            found: Any = importlib.import_module(f"btf.{'.'.join(parts[:end])}")
            for part in parts[end:]:
                found = getattr(found, part)
            return found
    raise AssertionError(f"{dotted} is in no module")


# -- where Python code calls them


def imported(module: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name here, dotted name) of what a module imports from this package."""
    parts = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = [*parts[: len(parts) - node.level], *filter(None, [node.module])]
            for alias in node.names:
                yield alias.asname or alias.name, ".".join([*package, alias.name])


def uses(module: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(compiled function, function of Python's that names it), both dotted."""
    every = {f"{m}.{name}" for m, names in functions().items() for name in names}
    known = {name: f"{module}.{name}" for name in functions().get(module, ())}
    known |= dict(imported(module, tree))

    def visit(node: ast.AST, inside: list[str]) -> Iterator[tuple[str, str]]:
        if is_compiled(node):
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            inside = [*inside, node.name]
        named = ""
        if isinstance(node, ast.Name):
            named = known.get(node.id, "")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            named = f"{known.get(node.value.id, '')}.{node.attr}"
        if named in every and inside:
            yield named, ".".join([module, *inside])
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(tree, [])


def test_every_call_from_python_is_listed() -> None:
    found: dict[str, set[str]] = {}
    for module, tree in sources().items():
        for function, caller in uses(module, tree):
            found.setdefault(function, set()).add(caller)
    assert {name: set(callers) for name, callers in LIST["called"].items()} == found
    assert "deduplication.core.Workspace.call" in found["deduplication.passes.dedup_whole"]
