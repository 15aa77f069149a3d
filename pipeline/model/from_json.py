"""Records made of JSON that may come from anywhere: every type is checked."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any


def from_json(wanted: Any, raw: Any) -> Any:
    """Make a value of a type out of what ``json.loads`` gives.

    wanted  a dataclass, ``str``, ``int``, ``float``, ``bool``, ``Any``; ``tuple``, ``list`` or
            ``Mapping`` (``dict``) of these; any of them or None

    Raises ValueError, which says where ``raw`` is something else.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return raw
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return _record(wanted, raw)
    if origin in (types.UnionType, typing.Union):
        (wanted,) = (each for each in arguments if each is not types.NoneType)
        return None if raw is None else from_json(wanted, raw)
    if origin in (tuple, list) and isinstance(raw, list):
        return origin(from_json(arguments[0], each) for each in raw)
    if origin in (dict, Mapping) and isinstance(raw, dict):
        return {name: _within(name, arguments[1], each) for name, each in raw.items()}
    if type(raw) is wanted or (wanted is float and type(raw) is int):
        return raw
    name = getattr(wanted, "__name__", wanted)
    raise ValueError(f"{str(raw)[:50]!r} is no {name}")


@functools.cache
def _fields(record: type) -> dict[str, tuple[Any, bool]]:
    """Type of each field, and whether it must be there."""
    hints = typing.get_type_hints(record)
    missing = dataclasses.MISSING
    return {
        field.name: (
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(record)
    }


def _record(record: type, raw: Any) -> Any:
    if not isinstance(raw, dict):
        raise ValueError(f"{str(raw)[:50]!r} is no {record.__name__}")
    fields = _fields(record)
    for name in (*fields, *raw):
        if name not in fields:
            raise ValueError(f"a field {name[:50]!r} that nobody knows")
        if name not in raw and fields[name][1]:
            raise ValueError(f"{name} is missing")
    return record(**{name: _within(name, fields[name][0], raw[name]) for name in raw})


def _within(name: str, wanted: Any, raw: Any) -> Any:
    try:
        return from_json(wanted, raw)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
