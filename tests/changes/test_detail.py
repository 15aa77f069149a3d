"""Protects the list of what a detail can tell: the source, its table and docs/diff.md agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from pipeline.analysis.changes.detail import WHATS
from support.paths import ROOT


def told() -> Iterator[str]:
    """Regular expressions for the first argument of each ``Detail(...)`` in the source."""
    for file in (ROOT / "pipeline" / "analysis").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Detail":
                what = node.args[0]
                parts = what.values if isinstance(what, ast.JoinedStr) else [what]
                yield "".join(
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+"
                    for part in parts
                )


def test_all_that_is_told_is_in_the_table_and_nothing_else() -> None:
    found = {pattern: {w for w in WHATS if re.fullmatch(pattern, w)} for pattern in told()}
    assert all(found.values()), found
    assert set().union(*found.values()) == WHATS.keys()


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "diff.md").read_text()
    _, _, after = page.partition("| `what` | what changed |\n|---|---|\n")
    table, _, _ = after.partition("\n\n")
    assert table == "\n".join(f"| `{what}` | {meaning} |" for what, meaning in WHATS.items())
