"""Questions with a name: SQL over the tables, in files that people can read and adapt.

Each file of ``sql`` is one: its name, a comment whose first line is the question, the query. One
that reads the view ``pairs`` compares kernels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from btf.nearest import hint_of

from ..model.errors import QueryError

_SUFFIX = ".sql"
_ORDER = re.compile(
    r"^ORDER BY (pair|(?:\w+\.)?release_key, (?:\w+\.)?kernel|kernel)\b", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Question:
    """``asked``: the question in words; ``sql``: comment and query."""

    name: str
    asked: str
    sql: str

    @property
    def order(self) -> str | None:
        """Whether it answers for one pair of kernels, or one kernel, after the other: see
        ``Tables``."""
        found = _ORDER.findall(self.sql)
        return re.sub(r"\w+\.", "", found[-1]) if found else None

    @property
    def compares(self) -> bool:
        """Whether it is about two kernels."""
        return re.search(r"\bFROM pairs\b", self.sql) is not None


@cache
def questions() -> dict[str, Question]:
    """All of them, by name."""
    found = sorted(files(__package__).joinpath("sql").iterdir(), key=lambda file: file.name)
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in found
        if file.name.endswith(_SUFFIX)
    }
    return {
        name: Question(name, text.partition("\n")[0].lstrip("- "), text)
        for name, text in texts.items()
    }


def question(name: str) -> Question:
    """The question of a name. Raises QueryError, with the nearest names."""
    known = questions()
    name = name.replace("_", "-")
    if name not in known:
        raise QueryError(f"no question is called {name!r}{hint_of(name, known)}")
    return known[name]


def is_name(text: str) -> bool:
    """Whether ``text`` can be meant as a question's name: no query is a single word."""
    return re.fullmatch(r"[\w-]+", text.strip()) is not None
