"""Protects the shape of the code: sizes of files and folders, complexity, described parameters.

What does not comply yet is named here, and only ever shrinks.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT, TESTS

TOPS = ("btf", "pipeline", "jobs", "tests", "benchmarks")
SOURCES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))
COMPILED = {"compiled", "inlined", "noinline"}

MAX_FILES, MAX_LINES, MAX_COMPLEXITY = 20, 600, 15
MAX_FILES_IN_PIPELINE = 8  # the main job; all else is in rooms
MAX_FILES_THAT_KNOW_A_KIND = 8

TOO_COMPLEX = {
    "btf/format/header.py:parse_header",
    "btf/format/scan.py:locate_fault",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_folder_is_crowded() -> None:
    sources = {path for path in SOURCES if path.stat().st_size}
    sources |= {path for top in TOPS for path in (ROOT / top).rglob("*.[ch]")}
    count: dict[Path, int] = {}
    for path in sources:
        count[path.parent] = count.get(path.parent, 0) + 1
    assert {relative(folder): n for folder, n in count.items() if n > MAX_FILES} == {}
    assert count[ROOT / "pipeline"] <= MAX_FILES_IN_PIPELINE


def test_no_file_is_long() -> None:
    lines = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_a_new_kind_touches_few_files() -> None:
    named = [path for path in (ROOT / "btf").rglob("*.py") if "ENUM64" in path.read_text()]
    assert len(named) <= MAX_FILES_THAT_KNOW_A_KIND, list(map(relative, named))


def test_no_list_of_kinds_is_kept_by_hand() -> None:
    """FLOAT is like INT but for its words: who lists both forgets the next one of these."""
    kinds = ROOT / "btf/format/kinds.py"
    for path in (ROOT / "btf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path != kinds else ():
            if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.BoolOp):
                named = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
                named |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                assert not {"INT", "FLOAT"} <= named, f"{relative(path)}:{node.lineno}"


# ------------------------------------------------------------------ tests


def test_no_test_imports_from_another() -> None:
    """Parts that tests share are in tests/support, which any of them may import alone."""
    suspect = re.compile(r"^\s*(?:from|import)\s.*(?:test_|conftest)", re.MULTILINE)
    for path in (path for path in TESTS.rglob("*.py") if suspect.search(path.read_text())):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                last = name.rsplit(".", 1)[-1]
                assert not last.startswith("test_") and last != "conftest", (relative(path), name)


def test_no_room_of_the_tests_hides_a_package() -> None:
    """tests/ is on the search path of modules."""
    taken = {"btf", "pipeline", "jobs", *sys.stdlib_module_names}
    assert not taken & {path.stem for path in TESTS.iterdir()}


# ------------------------------------------------------------------ compiled functions


def is_compiled(function: ast.FunctionDef) -> bool:
    called = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    names = {d.id if isinstance(d, ast.Name) else getattr(d, "attr", "") for d in called}
    return bool(names & COMPILED)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_only_compiled_functions_are_complex() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901"]
    command += ["--config", f"lint.mccabe.max-complexity={MAX_COMPLEXITY}"]
    command += ["--output-format", "json", *TOPS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "No module named" in done.stderr:
        pytest.skip("NOT RUN: ruff is not installed")
    found = set()
    for one in json.loads(done.stdout):
        path, row = Path(one["filename"]), one["location"]["row"]
        (function,) = [f for f in functions(ast.parse(path.read_text())) if f.lineno == row]
        if not is_compiled(function):
            found.add(f"{relative(path)}:{function.name}")
    assert found <= TOO_COMPLEX


def undescribed(path: Path) -> list[str]:
    """Parameters of compiled functions that neither their docstring nor the module's names."""
    tree = ast.parse(path.read_text())
    module = ast.get_docstring(tree) or ""
    found = []
    for function in filter(is_compiled, functions(tree)):
        words = set(re.findall(r"\w+", f"{module}\n{ast.get_docstring(function) or ''}"))
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        found += [f"{function.name}({a.arg})" for a in arguments if a.arg not in words]
    return found


def test_every_parameter_of_a_compiled_function_is_described() -> None:
    sources = sorted((ROOT / "btf").rglob("*.py"))
    found = {relative(path): names for path in sources if (names := undescribed(path))}
    assert found == {}
