"""Dedup: BTF in, deduplicated BTF and the map from old to new type ids out.

Three forms, one algorithm (see ``passes``):

``dedup_split``  a standalone module: added to an empty split BTF on the base, then deduplicated.
                 Strings of types that turn out to be the base's stay, as in libbpf.
``dedup``        a parsed file by itself (plain), or split BTF again on its base. Strings are
                 rebuilt in order of first use.

The results equal libbpf's to the byte (type section and string section), but for the cases that
``docs/differences.md`` lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arguments import brief_repr, integers, takes
from ..edit.ext import BtfExt
from ..edit.permute import sort_by_name
from ..errors import BtfError, WrongBaseError
from ..types.btf import BTF, freeze, unknown_kind_error
from .core import dedup_arrays
from .index import BaseIndex


@dataclass(frozen=True, eq=False)
class DedupResult:
    """The deduplicated BTF, and what became of each type.

    id_map   uint32: by id of the input (void and, for split input, the base's types included),
             the id in ``btf``: of the type itself, or of the one it was merged into
    ext      the ``.BTF.ext`` that was given, with the ids and string offsets of ``btf``
    """

    __repr__ = brief_repr

    btf: BTF
    id_map: np.ndarray
    ext: BtfExt | None = None


_EXT = (BtfExt, type(None))
_PLAIN: BaseIndex | None = None


def plain_index() -> BaseIndex:
    """The index of no base: only void."""
    global _PLAIN
    if _PLAIN is None:
        _PLAIN = BaseIndex.build(None)
    return _PLAIN


@takes(module=BTF, index=BaseIndex, ext=_EXT)
def dedup_split(module: BTF, index: BaseIndex, *, ext: BtfExt | None = None) -> DedupResult:
    """Put a standalone BTF on a base: keep only what the base lacks.

    module  standalone BTF (no base of its own)
    index   of the base; both must have the same byte order
    ext     the module's ``.BTF.ext``, to be taken along

    ``result.btf`` is split BTF on ``index.base``. Raises BtfError naming the type when the module
    cannot be deduplicated.
    """
    require_standalone(module, index)
    return with_ext(deduplicated(module, index, added=True)[0], module, ext)


def require_standalone(module: BTF, index: BaseIndex) -> None:
    """Raise BtfError unless ``module`` is such that it can be put on the base of ``index``."""
    if module.base is not None:
        raise BtfError("split BTF given where standalone BTF is expected", module.path)
    if index.str_end and module.byteorder != index.byteorder:
        raise WrongBaseError(
            f"the module is {module.byteorder}-endian, the base {index.byteorder}-endian",
            module.path,
            "header",
            0,
        )


@takes(btf=BTF, index=(BaseIndex, type(None)), ext=_EXT)
def dedup(btf: BTF, index: BaseIndex | None = None, *, ext: BtfExt | None = None) -> DedupResult:
    """Deduplicate a parsed BTF in place of itself: plain, or split BTF on its base.

    btf    plain BTF with no ``index``, or split BTF whose base is the one indexed
    ext    its ``.BTF.ext``, to be taken along
    """
    if btf.base is None:
        if index is not None and index.type_end > 1:
            raise BtfError("standalone BTF is put on a base by dedup_split, not by dedup", btf.path)
        index = plain_index()
    elif index is None:
        index = BaseIndex.build(btf.base)
    elif not index.is_of(btf.base):
        raise WrongBaseError(
            "the index is not that of the base that this BTF was read on", btf.path
        )
    return with_ext(deduplicated(btf, index, added=False)[0], btf, ext)


def with_ext(result: DedupResult, source: BTF, ext: BtfExt | None) -> DedupResult:
    """The result, and ``ext`` of its source as it reads there. New strings come last."""
    if ext is None:
        return result
    moved = ext.moved_from(source, result.btf, result.id_map)
    return DedupResult(moved.btf, result.id_map, moved)


@takes(result=DedupResult)
def kernel_form(result: DedupResult) -> DedupResult:
    """Sort the types of a result by name, as the kernel's build does with what dedup left.

    Since Linux 7.0 ``resolve_btfids`` sorts the BTF of vmlinux and of modules; kernel and libbpf
    search a name in it by bisection then. The id map and ``.BTF.ext`` follow. Raises as
    ``sort_by_name``, and ValueError where the id map is of another BTF.
    """
    id_map = integers(result.id_map, "the id map", result.btf.type_end)
    renumbered = sort_by_name(result.btf, ext=result.ext)
    return DedupResult(renumbered.btf, renumbered.id_map[id_map], renumbered.ext)


def deduplicated(
    source: BTF, index: BaseIndex, *, added: bool, may_match: bool = True
) -> tuple[DedupResult, int]:
    """Deduplicate a ``BTF``: the result, and its own type that clashes with the base, or -1.

    See ``core.dedup_arrays`` for the arguments and for what is raised.
    """
    if source.has_unknown_kinds:
        raise unknown_kind_error(source)
    kept = dedup_arrays(
        index,
        source.words,
        source.offsets,
        source.strings,
        added=added,
        may_match=may_match,
        path=source.path,
    )
    result = BTF(
        words=freeze(kept.words.copy()),
        offsets=freeze(kept.offsets.copy()),
        strings=freeze(kept.strings.copy()),
        base=source.base if source.base is not None else index.base,
        byteorder=source.byteorder,
        flags=0 if added else source.flags,
        layout=b"" if added else source.layout,
        path=source.path,
        sound=True,
    )
    unchanged = np.arange(source.start_id, dtype=np.uint32)
    return DedupResult(result, np.concatenate([unchanged, kept.new_ids])), kept.clash
