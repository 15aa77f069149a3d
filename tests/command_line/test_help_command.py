"""Protects ``splitbtf help`` and ``splitbtf completion``: every page can be had, no message leads
to a file that is not installed, and shells complete the whole command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.usage.completion import FILES, FOLDERS
from jobs.usage.help import read_pages, text_on
from support.commands import commands, splitbtf
from support.paths import ROOT

PAGES = read_pages()


def test_the_pages_are_those_of_docs() -> None:
    assert {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")} == PAGES


def test_contents() -> None:
    done = splitbtf("help")
    assert done.code == 0 and done.err == ""
    for topic in {*commands(), *PAGES}:
        assert re.search(rf"(^|\s){topic}(\s|$)", done.out), topic


def test_a_command_a_topic_and_what_is_both() -> None:
    run, output, explain = (splitbtf("help", topic).out for topic in ("run", "output", "explain"))
    assert run.startswith("# splitbtf run\n\n    splitbtf run SOURCE")
    assert "`--ray-address A`" in run and "## splitbtf dedup" not in run
    assert output.strip() == text_on("output", PAGES) and "# The output folder" in output
    assert explain.index("`--module M`") < explain.index("# Why types stay in modules")


def test_links_become_commands() -> None:
    for topic in {*commands(), *PAGES}:
        text = text_on(topic, PAGES)
        assert text and not re.search(r"\]\([\w-]*\.md|\]\(#", text), topic
        for name in re.findall(r"`splitbtf help ([a-z-]+)`", text):
            assert text_on(name, PAGES), name


def test_no_such_topic() -> None:
    done = splitbtf("help", "nothing")
    assert done.code == 2 and "`splitbtf help` lists all" in done.err


def test_what_arguments_stand_for() -> None:
    """Files and folders are completed: of all that an argument may be, these are neither."""
    words = {a.metavar for parser in commands().values() for a in parser._actions if a.metavar}
    others = {
        "A", "GLOB", "JSON", "K", "KERNEL", "KIND", "M", "N", "NAME", "QUERY", "RELEASE", "S", "T",
        "TOPIC",
    }  # fmt: skip
    assert words == FILES | FOLDERS | others


def test_descriptions_lead_to_topics_that_there_are() -> None:
    for name, command in commands().items():
        told = command.format_help()
        assert "docs/" not in told, name
        for topic in re.findall(r"`splitbtf\s+help\s+([a-z-]+)`", told):
            assert text_on(topic, PAGES), (name, topic)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(splitbtf("completion", "bash").out)
    return path


COMPLETE = """\
source "$1"
shift
COMP_WORDS=(splitbtf "$@")
COMP_CWORD=$#
COMPREPLY=()
_shtab_splitbtf splitbtf "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("",), set(commands())),
        (("de",), {"dedup"}),
        (("run", "--eng"), {"--engine"}),
        (("run", "--engine", ""), {"ray", "local"}),
        (("run", "src", "--engine", "local", "--work"), {"--workers", "--work-folder"}),
        (("find", "list_head", "out", "--kind", "str"), {"struct"}),
        (("help", "expl"), {"explain"}),
        (("fetch", "debian-6.1.0-50-s"), {"debian-6.1.0-50-s390x"}),
        (("run", "vm"), {"vmlinux.btf", "vmdir"}),
        (("run", "mod.ko", "vm"), {"vmlinux.btf", "vmdir"}),
        (("dedup", "-B", "vmlinux.btf", "-o", "vm"), {"vmdir"}),
        (("dump", "--asserts", "vmlinux.b"), {"vmlinux.btf"}),
        (("completion", ""), {"bash", "zsh"}),
    ],
)
def test_bash_completes(
    words: tuple[str, ...], expected: set[str], script: Path, tmp_path: Path
) -> None:
    (tmp_path / "vmlinux.btf").touch()
    (tmp_path / "mod.ko").touch()
    (tmp_path / "vmdir").mkdir()
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", script, *words],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert set(done.stdout.split()) == expected, done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    """It is sound, names every command, and defines what the completion system calls."""
    script = tmp_path / "_splitbtf"
    script.write_text(splitbtf("completion", "zsh").out)
    assert script.read_text().startswith("#compdef splitbtf\n")
    take = f'eval "$(<{script})" && whence -w _shtab_splitbtf'
    check = f"autoload -U compinit && compinit -D && {take}"
    for command in (["zsh", "-n", str(script)], ["zsh", "-f", "-c", check]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
    assert "_shtab_splitbtf: function" in done.stdout
    for name in commands():
        assert f'"{name}:' in script.read_text() or f"{name})" in script.read_text()
