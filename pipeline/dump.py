"""The BTF of one file, or of several as one, as text: the formats of ``splitbtf dump``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import btf

from .model.base import Announce
from .model.errors import SourceError
from .sources.names import printable
from .sources.unpack import find_one, unpacked
from .work.base import load_base_types
from .work.open import open_file

FORMATS = ("raw", "c", "json")


def dump_files(
    paths: Sequence[str],
    base_path: str | None = None,
    style: str = "raw",
    *,
    wanted: Sequence[str] = (),
    asserts: bool = False,
    announce: Announce | None = None,
) -> Iterable[str]:
    """Dump the types that a file itself holds, in pieces of text; of several files, of what
    ``merge`` makes of them.

    paths    files, or packages with one kernel's BTF each; with several, folders too
    style    one of FORMATS
    wanted   names or ids of types: only these, in C with what they need; all if there are none
    asserts  of the C header: whether it asserts its own layout

    Raises SourceError or BaseError, always before the first piece is yielded.
    """
    if len(paths) > 1 or os.path.isdir(paths[0]):
        from .merge import merge_types

        types = merge_types(paths, base_path, announce)[1]
    else:
        types = _open(paths[0], base_path)
    try:
        roots = [root for text in wanted for root in _ids_of(types, text)] if wanted else None
        if style == "c":  # whole: it may still find a fault
            return list(btf.dump_c(types, asserts=asserts, roots=roots, announce=announce))
        dump = btf.dump_json if style == "json" else btf.dump_raw
        return dump(types, roots=roots)
    except btf.BtfError as error:
        raise SourceError(str(error)) from error


def _open(path: str, base_path: str | None) -> btf.BTF:
    base, release = load_base_types(base_path) if base_path is not None else (None, None)
    with unpacked([find_one(path)]) as (file,):
        types = open_file(file, base, release).btf
    if base is not None and types.base is None:
        shown = printable(file.path)
        raise SourceError(f"{shown}: standalone BTF, not split: dump it without a base (-B)")
    return types


def _ids_of(types: btf.BTF, wanted: str) -> list[int]:
    """The types that a name (``xfs_inode``, ``struct xfs_inode``) or an id means; of a name all
    that are defined. Raises NotFoundError."""
    from .sources.lookup import KIND_WORD_OF, Name

    if wanted.isdecimal():
        return [types[int(wanted)].id]
    name = Name.of(wanted)
    found = [one for one in types.find_all(name.name) if one.kind]
    if name.kind is not None:
        found = [one for one in found if KIND_WORD_OF.get(one.kind) == name.kind]
    if not found:
        types.find(name.name, name.kind)  # says what there is instead
    defined = [one.id for one in found if not isinstance(one, btf.Fwd)]
    return defined or [one.id for one in found]
