"""Protects the README and docs/: every command that they show runs, and prints what they show."""

from __future__ import annotations

import contextlib
import difflib
import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import commands, splitbtf
from support.pages import PAGES, Shown, blocks, commands_shown, fits, forms
from support.paths import ROOT

pytestmark = pytest.mark.slow

# Commands on what is not in the repository: only their form is looked at.
NOT_HERE = re.compile(
    r"(?<!/)\b(?:6\.1\.0-\d\d|old|new)/vmlinux|--kernel 7\.2\.13|linux-modules-|mine\.btf|\bOUT\b"
)
# Pages whose figures are of many kernels: their commands are run on the demo's two.
FIGURES_OF_OTHERS = {"findings.md": "all-kernels"}
_SHELL = re.compile(r"[|<>&;$`\n]")
EVERY = [shown for page in PAGES for shown in commands_shown(page)]


@pytest.fixture(scope="module")
def folder(both_demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages have their commands run: the repository, in which `make demo` was."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("datasets", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("vmlinux.btf", "xfs.btf"):
        (folder / name).symlink_to(f"build/demo/btf/kernel=demo/{name}")
    (folder / "bin").mkdir()
    command = folder / "bin" / "splitbtf"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jobs.cli "$@"\n')
    command.chmod(0o755)
    shutil.copytree(both_demos, folder / "build" / "demo", symlinks=True)
    run, report = recipe_of_the_demo()
    assert run == ["run", "datasets/demo", "datasets/demo-6.12", "-o", "build/demo"]
    summary = both_demos.with_suffix(".summary").read_text()
    (folder / "summary").write_text(summary.replace(str(both_demos), "build/demo"))
    with contextlib.chdir(folder):
        done = splitbtf(*report)
    assert done.code == 0, done.err
    for name in FIGURES_OF_OTHERS.values():
        (folder / name).symlink_to("build/demo")
    return folder


def recipe_of_the_demo() -> list[list[str]]:
    """The commands of `make demo`."""
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = re.findall(r"\$\(BIN\)/splitbtf (.*)", recipe[1])
    return [shlex.split(line.replace("$(DEMO)", "build/demo")) for line in lines]


def run(shown: Shown, folder: Path) -> tuple[int, str, str]:
    """Status, output and errors: in this process, where no shell is needed."""
    if not _SHELL.search(shown.command) and shown.command.startswith("splitbtf "):
        with contextlib.chdir(folder):
            done = splitbtf(*shlex.split(shown.command)[1:])
        return done.code, done.out, done.err
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    ended = subprocess.run(
        ["bash", "-c", shown.command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("shown", EVERY, ids=lambda one: f"{one.page}:{one.line}")
def test_a_command_prints_what_the_page_shows(shown: Shown, folder: Path) -> None:
    if NOT_HERE.search(shown.command):
        check_form(shown.command)
        return
    code, printed, errors = run(shown, folder)
    assert code == 0, errors
    if shown.printed and shown.page not in FIGURES_OF_OTHERS:
        difference = difflib.unified_diff(
            shown.printed.split("\n"), printed.rstrip("\n").split("\n"), "shown", "printed", n=1
        )
        assert fits(shown.printed, printed), "\n".join(difference)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_forms_are_those_of_commands(page: Path) -> None:
    for line, form in forms(page):
        check_form(form, f"{page.name}:{line}")


def check_form(form: str, where: str = "") -> None:
    """That there is such a command, and that it has these options."""
    words = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*|[\w-]+", form.replace("splitbtf ", "", 1))
    if words[0] in ("--version", "COMMAND", "version"):
        return
    known = commands()
    assert words[0] in known, f"{where}: {form}"
    options = {option for action in known[words[0]]._actions for option in action.option_strings}
    for word in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", form):
        assert word in options, f"{where}: {form}: {word}"


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()],
                         ids=lambda page: str(page.name))  # fmt: skip
def test_examples_in_python(page: Path, folder: Path) -> None:
    """What stands behind ``>>>`` gives what follows."""
    with contextlib.chdir(folder):
        failed, tried = doctest.testfile(str(page), module_relative=False)
    assert not failed and tried


def test_the_summary_of_the_demo(folder: Path) -> None:
    """What `make demo` begins with."""
    found = ["\n".join(lines).rstrip() for _, lines in blocks((ROOT / "README.md").read_text())]
    (shown,) = [text for text in found if text.startswith("demo: 68 modules")]
    printed = (folder / "summary").read_text()
    assert fits(f"{shown}\n…", printed), printed


def test_what_the_readme_shows_of_others_is_what_their_page_shows() -> None:
    """Of commands on what is not in the repository: the page has them whole."""
    for shown in commands_shown(ROOT / "README.md"):
        if NOT_HERE.search(shown.command):
            pages = [other for other in EVERY if other.page != "README.md"]
            whole = [other.printed for other in pages if other.command == shown.command]
            assert any(fits(shown.printed, text) for text in whole), shown.command


def test_python_of_the_readme(folder: Path) -> None:
    """Scripts in indented blocks."""
    texts = ["\n".join(lines) for _, lines in blocks((ROOT / "README.md").read_text())]
    scripts = [text for text in texts if re.match(r"import btf$|from pipeline", text, re.MULTILINE)]
    assert len(scripts) == 2
    with contextlib.chdir(folder):
        for script in scripts:
            exec(script, {})
    assert 0 < (folder / "xfs.split.btf").stat().st_size < 400_000


def test_commands_are_found() -> None:
    """That none is passed over because it is written in another way."""
    for page in PAGES:
        found = sum(line.startswith("    $ ") for line in page.read_text().split("\n"))
        assert found == len(commands_shown(page)), page.name


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a … c", "a and c", True),
        ("a … c", "a and\nc", False),
        ("a\n…", "b\na\n", False),
        ("took 1.2 s (4 MB/s)", "took 0.7 s (13.5 MB/s)", True),
        ("2 types", "3 types", False),
    ],
)
def test_what_fits(shown: str, printed: str, expected: bool) -> None:
    assert fits(shown, printed) is expected
