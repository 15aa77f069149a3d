"""Records made of JSON that may come from anywhere: every type is checked."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


def from_json(wanted: Any, raw: Any) -> Any:
    """Make a value of a type out of what ``json.loads`` gives.

    wanted  a dataclass, ``str``, ``int``, ``float``, ``bool``, ``Any``; ``tuple``, ``list`` or
            ``Mapping`` (``dict``) of these; any of them or None

    Raises ValueError, which says where ``raw`` is something else.
    """
    return _maker(wanted)(raw)


_Make = Callable[[Any], Any]


@functools.cache
def _maker(wanted: Any) -> _Make:
    """What ``from_json`` does for a type: to look that up for each value would take most of its
    time."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return lambda raw: raw
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return functools.partial(_record, wanted)
    if origin in (types.UnionType, typing.Union):
        (present,) = (each for each in arguments if each is not types.NoneType)
        make = _maker(present)
        return lambda raw: None if raw is None else make(raw)
    if origin in (tuple, list):
        return functools.partial(_sequence, origin, _maker(arguments[0]))
    if origin in (dict, Mapping):
        return functools.partial(_mapping, _maker(arguments[1]))
    return functools.partial(_plain, wanted)


def _plain(wanted: type, raw: Any) -> Any:
    if type(raw) is wanted or (wanted is float and type(raw) is int):
        return raw
    raise _is_no(getattr(wanted, "__name__", wanted), raw)


def _sequence(wanted: type, make: _Make, raw: Any) -> Any:
    if not isinstance(raw, list):
        raise _is_no(wanted.__name__, raw)
    return wanted(map(make, raw))


def _mapping(make: _Make, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _is_no("dict", raw)
    return {name: _within(name, make, each) for name, each in raw.items()}


def _is_no(name: object, raw: Any) -> ValueError:
    return ValueError(f"{str(raw)[:50]!r} is no {name}")


@functools.cache
def _fields(record: type) -> dict[str, tuple[_Make, bool]]:
    """What makes each field, and whether it must be there."""
    hints = typing.get_type_hints(record)
    missing = dataclasses.MISSING
    return {
        field.name: (
            _maker(hints[field.name]),
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(record)
    }


def _record(record: type, raw: Any) -> Any:
    if not isinstance(raw, dict):
        raise _is_no(record.__name__, raw)
    fields = _fields(record)
    for name in (*fields, *raw):
        if name not in fields:
            raise ValueError(f"a field {name[:50]!r} that nobody knows")
        if name not in raw and fields[name][1]:
            raise ValueError(f"{name} is missing")
    return record(**{name: _within(name, fields[name][0], raw[name]) for name in raw})


def _within(name: str, make: _Make, raw: Any) -> Any:
    try:
        return make(raw)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
