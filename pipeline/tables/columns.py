"""Rows as numpy arrays, column by column, put end to end.

A table's rows of one module are a data class of arrays, or of such data classes, whose fields can
be concatenated, each by itself. A field with an entry per object says which rows are whose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

Columns = TypeVar("Columns")


def concatenated(parts: Sequence[Columns]) -> Columns:
    """All parts' arrays, field by field, in the order of the parts; there must be a part."""
    if len(parts) == 1:
        return parts[0]
    values: list[Any] = []
    for field in dataclasses.fields(parts[0]):  # type: ignore[arg-type]
        columns = [getattr(part, field.name) for part in parts]
        if dataclasses.is_dataclass(columns[0]):
            values.append(concatenated(columns))
        else:
            values.append(np.concatenate(columns))
    return type(parts[0])(*values)
