"""Names of kinds of types, as tables have them."""

from __future__ import annotations

from functools import cache

import btf


@cache
def kind_name(number: int) -> str:
    """Return ``STRUCT`` for 4; a kind without a name stays a number: ``KIND31``."""
    if number < len(btf.KIND_NAMES):
        return str(btf.KIND_NAMES[number])
    return f"KIND{number}"
