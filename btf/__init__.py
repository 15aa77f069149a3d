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

Nothing here knows of Ray, Parquet, the command line or where files live.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import elf, images, kinds
    from .compare.difference import Difference, Differences, difference
    from .deduplication.deduplicate import DedupResult, dedup, dedup_split
    from .deduplication.index import BaseIndex
    from .deduplication.merging import MergeResult, merge
    from .deduplication.module import (
        STANDALONE,
        Module,
        dedup_module,
        detect_form,
        load_base,
        make_ready,
        open_module,
    )
    from .deduplication.straight import SplitBytes, dedup_bytes
    from .distilled.distill import Distilled, distill_base
    from .distilled.relocate import relocate
    from .dump.as_c import dump_c
    from .dump.as_json import dump_json
    from .dump.as_raw import dump_raw
    from .edit.builder import Builder
    from .edit.reorder import Renumbered, permute, sort_by_name
    from .errors import BtfError, NoBtfError, NotFoundError, UnsupportedError, WrongBaseError
    from .ext import BtfExt, CodeSection, CoreRelo, CoreReloKind, FuncInfo, LineInfo, parse_ext
    from .fingerprint.fingerprints import (
        BaseFingerprints,
        both_fingerprints,
        fingerprints,
        own_fingerprints,
    )
    from .kinds import KIND_NAMES
    from .own_columns import columns, texts, type_names
    from .own_members import members
    from .table import BTF, parse
    from .view.objects import (
        AnyEnum,
        Array,
        Composite,
        Const,
        Datasec,
        DatasecEntry,
        DeclTag,
        Enum,
        Enum64,
        EnumValue,
        Float,
        Func,
        FuncProto,
        Fwd,
        Int,
        Member,
        Param,
        Ptr,
        Restrict,
        Struct,
        Typedef,
        TypeTag,
        Union,
        Var,
        Void,
        Volatile,
    )
    from .view.typebase import Encoding, Linkage, Reference, Type, Unknown
    from .warmup import warm_up
    from .why.find import Miss, RootCause, misses
    from .why.names import BaseNames
    from .workspaces import release_workspaces

# Where each public name is. A module is imported when something of it is used for the first time:
# a command that deduplicates starts without what dumps, edits or compares.
_HOMES = {
    "own_columns": "columns texts type_names",
    "compare.difference": "Difference Differences difference",
    "deduplication.deduplicate": "DedupResult dedup dedup_split",
    "deduplication.index": "BaseIndex",
    "deduplication.merging": "MergeResult merge",
    "deduplication.straight": "SplitBytes dedup_bytes",
    "deduplication.module": (
        "STANDALONE Module dedup_module detect_form load_base make_ready open_module"
    ),
    "distilled.distill": "Distilled distill_base",
    "distilled.relocate": "relocate",
    "dump.as_c": "dump_c",
    "dump.as_json": "dump_json",
    "dump.as_raw": "dump_raw",
    "edit.builder": "Builder",
    "edit.reorder": "Renumbered permute sort_by_name",
    "errors": "BtfError NoBtfError NotFoundError UnsupportedError WrongBaseError",
    "ext": "BtfExt CodeSection CoreRelo CoreReloKind FuncInfo LineInfo parse_ext",
    "fingerprint.fingerprints": "BaseFingerprints both_fingerprints fingerprints own_fingerprints",
    "kinds": "KIND_NAMES",
    "own_members": "members",
    "why.find": "Miss RootCause misses",
    "why.names": "BaseNames",
    "table": "BTF parse",
    "view.objects": "AnyEnum Array Composite Const Datasec DatasecEntry DeclTag Enum Enum64 "
    "EnumValue Float Func FuncProto Fwd Int Member Param Ptr Restrict Struct "
    "Typedef TypeTag Union Var Void Volatile",
    "view.typebase": "Encoding Linkage Reference Type Unknown",
    "warmup": "warm_up",
    "workspaces": "release_workspaces",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
_MODULES = ("elf", "images", "kinds")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        found = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "BTF",
    "KIND_NAMES",
    "STANDALONE",
    "AnyEnum",
    "Array",
    "BaseFingerprints",
    "BaseIndex",
    "BaseNames",
    "BtfError",
    "BtfExt",
    "Builder",
    "CodeSection",
    "Composite",
    "Const",
    "CoreRelo",
    "CoreReloKind",
    "Datasec",
    "DatasecEntry",
    "DeclTag",
    "DedupResult",
    "Difference",
    "Differences",
    "Distilled",
    "Encoding",
    "Enum",
    "Enum64",
    "EnumValue",
    "Float",
    "Func",
    "FuncInfo",
    "FuncProto",
    "Fwd",
    "Int",
    "LineInfo",
    "Linkage",
    "Member",
    "MergeResult",
    "Miss",
    "Module",
    "NoBtfError",
    "NotFoundError",
    "Param",
    "Ptr",
    "Reference",
    "Renumbered",
    "Restrict",
    "RootCause",
    "SplitBytes",
    "Struct",
    "Type",
    "TypeTag",
    "Typedef",
    "Union",
    "Unknown",
    "UnsupportedError",
    "Var",
    "Void",
    "Volatile",
    "WrongBaseError",
    "both_fingerprints",
    "columns",
    "dedup",
    "dedup_bytes",
    "dedup_module",
    "dedup_split",
    "detect_form",
    "difference",
    "distill_base",
    "dump_c",
    "dump_json",
    "dump_raw",
    "elf",
    "fingerprints",
    "images",
    "kinds",
    "load_base",
    "make_ready",
    "members",
    "merge",
    "misses",
    "open_module",
    "own_fingerprints",
    "parse",
    "parse_ext",
    "permute",
    "release_workspaces",
    "relocate",
    "sort_by_name",
    "texts",
    "type_names",
    "warm_up",
]
