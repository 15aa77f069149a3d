"""Which file with debug information belongs to which module, which has none itself.

By name: they are the same module of one release (``usr/lib/debug/lib/modules/RELEASE``), or one
lies beside the other (``foo.ko.debug``, ``foo.debug``, ``.debug/foo.ko``). Else by the build id
that a module and a path ``.build-id/XX/YY.debug``, or a ``.ko.debug`` anywhere, have in common. For
that modules have to be read; it is done only where there are such files.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from btf import BtfError
from btf.files.elf import read_elf

from ..files.read import ReadError, open_content
from ..files.scratch import ScratchFolder
from . import names
from .listing import FoundFile
from .packages import unpack


def pair_debug_files(
    found: Sequence[FoundFile], more: Sequence[FoundFile], by_build_id: bool
) -> dict[str, FoundFile]:
    """Return the files with debug information of modules, by the path of the module.

    found        modules, and files with debug information that may be used as such
    more         files that have debug information, and nothing else that could be used
    by_build_id  whether files are read for it
    """
    debug = [file for file in found if names.has_debug_info(file.path)]
    if not debug and not more:
        return {}
    by_name: dict[str, FoundFile] = {}
    for file in debug:
        for what in names.same_module(file.path):
            by_name.setdefault(what, file)
    for file in more:  # of any kernel
        by_name.setdefault(names.same_module(file.path)[-1], file)
    pairs: dict[str, FoundFile] = {}
    alone: list[FoundFile] = []
    for file in found:
        if names.has_debug_info(file.path):
            continue
        named = (by_name.get(what) for what in names.same_module(file.path))
        if (which := next(filter(None, named), None)) is not None:
            pairs[file.path] = which
        elif file.problem is None:
            alone.append(file)
    if by_build_id and alone:
        used = {file.path for file in pairs.values()}
        ids = {names.build_id_in_path(file.path): file for file in more}
        ids.pop(None, None)
        rest = [f for f in debug if f.path not in used and f.file_name.endswith(".ko.debug")]
        if ids or rest:
            ids |= {build_id: file for file, build_id in _build_ids(rest)}
            pairs |= {file.path: ids[of] for file, of in _build_ids(alone) if of in ids}
    return pairs


def _build_ids(files: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, str]]:
    """Yield files with their build ids; those without are left out."""
    packaged: dict[str, dict[str, FoundFile]] = defaultdict(dict)
    for file in files:
        if file.package is not None:
            packaged[file.package][file.path[len(file.package) + 1 :]] = file
        elif (build_id := _build_id_of(file.path)) is not None:
            yield file, build_id
    if not packaged:
        return
    with ScratchFolder() as folder:
        for package, members in packaged.items():
            targets = {name: f"{folder.path}/{number}" for number, name in enumerate(members)}
            for name, problem in unpack(package, targets):
                if problem is None:
                    build_id = _build_id_of(targets[name])
                    os.unlink(targets[name])
                    if build_id is not None:
                        yield members[name], build_id


def _build_id_of(path: str) -> str | None:
    try:
        return read_elf(open_content(path), path).build_id
    except (ReadError, BtfError):
        return None  # it is reported when it is worked on
