"""Protects the rules of this repository that a reviewer would otherwise have to remember."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import btf
from pipeline import __version__
from support.commands import commands
from support.paths import ROOT
from support.repository import tracked

# Dependencies point one way: jobs -> pipeline -> btf.
ON_RAY = {"ray", "splitbtf_start"}
MAY_IMPORT = {
    "btf": {"btf", "numba", "numpy", "llvmlite", "elftools", "lz4", "zstandard"},
    "pipeline": {"btf", "duckdb", "pipeline", "numpy", "pyarrow", "zstandard", *ON_RAY},
    "jobs": {"jinja2", "jobs", "markupsafe", "pipeline", "shtab", "vl_convert"},
}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).glob("**/*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node, (node.module or "").split(".")[0]


@pytest.mark.slow
@pytest.mark.parametrize("package", MAY_IMPORT)
def test_import_direction(package: str) -> None:
    import sys

    allowed = MAY_IMPORT[package] | set(sys.stdlib_module_names)
    for path in sorted((ROOT / package).glob("**/*.py")):
        for node, name in imports(tree_of(path)):
            assert name in allowed, f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"


def test_ray_and_arrow_are_imported_late() -> None:
    """Only the modules that are about them may import them when they are imported."""
    for path in SOURCES:
        for node in tree_of(path).body:
            for _, name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else ():
                assert name != "ray", path
                is_table = path.parent.name == "tables" and path.name != "describe.py"
                assert name != "pyarrow" or is_table, path


def test_arrow_makes_no_arrays_while_modules_are_imported() -> None:
    """With the first one it imports pandas, where that is installed: a third of a second."""
    for path in SOURCES:
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                calls = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
                assert all(ast.unparse(one) not in ("pa.array", "pa.scalar") for one in calls), path


def test_every_module_says_what_it_is() -> None:
    assert [path for path in SOURCES if not ast.get_docstring(tree_of(path))] == []


def test_every_command_and_option_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    reference = (ROOT / "docs/command-line.md").read_text()
    for name, command in commands().items():
        assert f"splitbtf {name}" in readme
        assert f"## splitbtf {name}" in reference
        section = reference.split(f"## splitbtf {name}")[1].split("\n## ")[0]
        of_most = {"-q", "--quiet", "-v", "--verbose"}  # said once, before the commands
        for action in command._actions:
            assert action.help, (name, action.dest)
            for option in action.option_strings:
                if option not in ("-h", "--help"):
                    where = reference.split("\n## ")[0] if option in of_most else section
                    assert f"`{option}" in where, f"{option} of {name}"
    # And nothing that does not exist.
    for name in re.findall(r"^## splitbtf (\S+)", reference, re.MULTILINE):
        assert name in commands()
    options = {o for c in commands().values() for a in c._actions for o in a.option_strings}
    for option in re.findall(r"`(--[a-z-]+)", reference):
        assert option in options | {"--version"}, option


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


def test_links_lead_somewhere() -> None:
    for document in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("**/*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_one_version() -> None:
    """It is written down once; everything else asks for it."""
    text = (ROOT / "pyproject.toml").read_text()
    tables = tomllib.loads(text)
    assert tables["project"]["dynamic"] == ["version"] and f'"{btf.__version__}"' not in text
    assert tables["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "btf.__version__"}
    assert __version__ == btf.__version__
    assert f"## {btf.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_is_found_and_typed() -> None:
    """As pyproject.toml has setuptools look for them: a folder with sources is a package."""
    for name in MAY_IMPORT:
        assert (ROOT / name / "py.typed").exists()
        for source in (ROOT / name).glob("**/*.py"):
            assert (source.parent / "__init__.py").exists(), source


def test_direct_dependencies_are_ranges_explained_and_locked() -> None:
    """Every lock has a version of the range; that of the oldest ones has its lower bound."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    dev = project["optional-dependencies"]["dev"]
    names = ("requirements.lock", "requirements-dev.lock", "requirements-oldest.lock")
    locks = {name: (ROOT / name).read_text() for name in names}
    assert not any("://" in locked for locked in locks.values())
    for requirement in project["dependencies"] + dev:
        form = re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)(?:,<([0-9.]+))?", requirement)
        assert form, requirement
        assert re.search(rf'"{re.escape(requirement)}", *# \S+', text), f"why {requirement}?"
        name, lowest, end = form.groups()
        for lock, locked in locks.items():
            if requirement in dev and lock == "requirements.lock":
                continue
            found = re.search(
                rf"^{name}==([0-9]+(?:\.[0-9]+)*)(?:\.post[0-9]+)? ", locked, re.MULTILINE
            )
            assert found, f"{requirement} is not in {lock}: make lock"
            version = numbers(found[1])
            assert numbers(lowest) <= version, f"{found[0]} in {lock}: make lock"
            assert end is None or version < numbers(end), f"{found[0]} in {lock}: make lock"
            if lock == "requirements-oldest.lock":
                assert version == numbers(lowest), f"{found[0]} in {lock}: make lock"


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_datasets_are_data() -> None:
    assert not list((ROOT / "datasets").glob("**/*.py"))


def test_no_file_is_unreasonably_large() -> None:
    for path in tracked():
        assert path.stat().st_size < 2 << 20, path
