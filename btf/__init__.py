"""btf: a library for BTF, the type information of the Linux kernel.

Words used throughout, as the field uses them:

base        a BTF that others continue: usually vmlinux's
split BTF   BTF that holds only what its base lacks; its type ids and string offsets go on where
            the base's end. Levels stack: a split BTF can be the base of another
standalone  BTF that needs no base
own         of a split BTF: the types and strings that it holds itself
type id     global: 0 is void, then the base's types, then the own ones
canonical   the one type that stands for all its equals after dedup
candidate   a type that another may turn out to be equal to
equivalent  equal for dedup: same graph, where a forward declaration agrees with any definition of
            its name
identical   the same literally
fingerprint 128 bits that are equal exactly for types that no walk tells apart, in whatever files

Nothing here knows of Ray, Parquet or the command line. ``open`` alone reads files.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"  # of the whole distribution: pyproject.toml takes it from here

# Where each public name is, out of the stub that tells type checkers the same. Something is
# imported when it is used for the first time: a command that deduplicates starts without what
# dumps, edits or compares.
_HOMES = {
    name: home
    for home, name in re.findall(
        r"^from (\.[\w.]*) import (\w+) as ", Path(__file__ + "i").read_text("utf-8"), re.MULTILINE
    )
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name], __name__), name, None)
    if found is None:  # a module of its own: elf, images, kinds
        found = import_module(f"{_HOMES[name]}.{name}", __name__)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
