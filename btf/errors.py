"""What can go wrong with BTF, as exceptions that carry where it went wrong.

All arguments are positional and kept in ``args``, so that an error survives pickling between
processes with all it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .nearest import hint


class BtfError(Exception):
    """BTF that cannot be used as given: bad input, not a bug and not worth a retry.

    ``message`` says what is wrong and what to do. ``path`` is the file, ``section`` the part of
    it (``header``, ``types``, ``strings``, ``layout``, an ELF section), ``offset`` a byte offset
    in that section and ``type_id`` the type (global numbering), each ``None`` where not known.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        section: str | None = None,
        offset: int | None = None,
        type_id: int | None = None,
    ) -> None:
        super().__init__(message, path, section, offset, type_id)
        self.message = message
        self.path = path
        self.section = section
        self.offset = offset
        self.type_id = type_id

    def at(self, path: str | None) -> BtfError:
        """The same error, naming ``path`` where it named none."""
        return type(self)(self.message, self.path or path, *self.args[2:])

    def __str__(self) -> str:
        where = []
        if self.path is not None:
            where.append(self.path)
        if self.section is not None:
            where.append(f"{self.section} section" if self.section != "header" else "header")
        if self.offset is not None:
            where.append(f"offset {self.offset}")
        if self.type_id is not None:
            where.append(f"type [{self.type_id}]")
        return f"{', '.join(where)}: {self.message}" if where else self.message


class NoBtfError(BtfError):
    """The file is sound, but there is no BTF in it."""


class DwarfOnlyError(NoBtfError):
    """There is no BTF in the ELF file, but DWARF that it can be made from."""


class WrongBaseError(BtfError):
    """The module was not built for this base: its BTF cannot be put on it."""


class UnsupportedError(BtfError):
    """Valid as far as we know, but not something that this operation can handle."""


class KernelRefusal(BtfError):
    """The kernel would not take this BTF.

    ``source`` is the function of kernel/bpf/btf.c that refuses it, and ``words`` what it says, ""
    if it says nothing.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        section: str | None = None,
        offset: int | None = None,
        type_id: int | None = None,
        source: str = "",
        words: str = "",
    ) -> None:
        super().__init__(message, path, section, offset, type_id)
        self.args = (message, path, section, offset, type_id, source, words)
        self.source = source
        self.words = words


class NotFoundError(BtfError, LookupError):
    """There is no type of that name.

    ``nearest`` are the names that are spelled much like it, looked for when somebody reads them:
    who only asks whether there is such a type does not wait for it.
    """

    _look: Callable[[], tuple[str, ...]] = tuple

    def with_nearest(self, look: Callable[[], tuple[str, ...]]) -> NotFoundError:
        """The same error, with what finds the nearest names."""
        self._look = look
        return self

    @property
    def nearest(self) -> tuple[str, ...]:
        """Names that may have been meant, the likest first."""
        found = self._look()
        self._look = lambda: found
        return found

    def at(self, path: str | None) -> BtfError:
        found = super().at(path)
        assert isinstance(found, NotFoundError)
        return found.with_nearest(self._look)

    def __str__(self) -> str:
        return f"{super().__str__()}{hint(self.nearest)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _not_found, (type(self), self.args, self.nearest)


def _not_found(
    kind: type[NotFoundError], arguments: tuple[Any, ...], nearest: tuple[str, ...]
) -> NotFoundError:
    return kind(*arguments).with_nearest(lambda: nearest)


class NoSuchIdError(NotFoundError, IndexError):
    """There is no type with that id."""
