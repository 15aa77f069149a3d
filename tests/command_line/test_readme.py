"""Protects: what the README shows is what happens."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.model.options import RunOptions
from pipeline.run import run
from support.commands import splitbtf
from support.paths import DEMO, DEMO_LATER, ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()


def blocks(first_word: str) -> list[str]:
    """Indented blocks of the README that begin with a word."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)
    return [text for text in map(textwrap.dedent, found) if text.lstrip().startswith(first_word)]


def test_the_summary_of_the_demo(tmp_path: Path) -> None:
    (shown,) = blocks("demo: 68 modules")
    done = splitbtf("run", DEMO, "-o", tmp_path / "out", "--engine", "local")
    printed = done.out.replace(str(tmp_path / "out"), "build/demo").splitlines()[:-1]

    def timeless(line: str) -> str:
        return re.sub(r"[\d.]+ s \(.*\)", "… s", line).rstrip()

    assert list(map(timeless, shown.strip().splitlines())) == list(map(timeless, printed))


@pytest.mark.parametrize("number", [0, 1])
def test_python(number: int, tmp_path: Path, demo_btf: Callable[[str], bytes]) -> None:
    (code,) = blocks(("import btf", "from pipeline")[number])
    (tmp_path / "vmlinux.btf").write_bytes(demo_btf("vmlinux"))
    (tmp_path / "xfs.btf").write_bytes(demo_btf("xfs"))
    if number == 1:
        splitbtf("run", DEMO, "-o", tmp_path / "build" / "demo", "--engine", "local")
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    command = [sys.executable, "-c", path + code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert 0 < (tmp_path / "xfs.split.btf").stat().st_size < 400_000


def test_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shown of commands on the demo, but for what an ellipsis stands for."""
    (tmp_path / "build").mkdir()
    run(RunOptions((str(DEMO), str(DEMO_LATER)), str(tmp_path / "build/demo"), engine="local"))
    monkeypatch.chdir(tmp_path)
    commands = [part for text in blocks("$ ") for part in re.split(r"^\$ ", text, flags=re.M)]
    asked = [command for command in commands if " build/demo" in command.partition("\n")[0]]
    assert len(asked) >= 4
    for command in asked:
        call, _, shown = command.partition("\n")
        assert main(shlex.split(call)[1:]) == 0
        assert_shown(shown, capsys.readouterr().out)
    (audit,) = [command for command in commands if command.startswith("splitbtf audit OUT")]
    assert_shown(
        audit, textwrap.dedent((ROOT / "docs/audit.md").read_text()).replace("\n    ", "\n")
    )


def assert_shown(shown: str, printed: str) -> None:
    at = 0
    for part in re.split("^…\n", shown, flags=re.MULTILINE):
        at = printed.index(part.strip("\n"), at)
