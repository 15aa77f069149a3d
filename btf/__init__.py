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
    from .compare.difference import Difference, Differences, difference
    from .compiled.workspaces import release_workspaces
    from .deduplication.deduplicate import DedupResult, dedup, dedup_split
    from .deduplication.fast_path import SplitBytes, dedup_bytes
    from .deduplication.index import BaseIndex
    from .deduplication.merge import MergeResult, merge
    from .deduplication.module import dedup_module, make_ready
    from .distill.distill import Distilled, distill_base
    from .distill.relocate import relocate
    from .dump.c import dump_c
    from .dump.json import dump_json
    from .dump.raw import dump_raw
    from .edit.builder import Builder
    from .edit.ext import BtfExt, CodeSection, CoreRelo, CoreReloKind, FuncInfo, LineInfo, parse_ext
    from .edit.permute import Renumbered, permute, sort_by_name
    from .errors import (
        BtfError,
        DwarfOnlyError,
        NoBtfError,
        NotFoundError,
        UnsupportedError,
        WrongBaseError,
    )
    from .files import elf, images
    from .files.open import STANDALONE, Module, detect_form, load_base, open_module
    from .fingerprint.fingerprints import (
        BaseFingerprints,
        both_fingerprints,
        fingerprints,
        own_fingerprints,
    )
    from .format import kinds
    from .format.kinds import KIND_NAMES
    from .types.btf import BTF, parse
    from .types.columns import columns, texts, type_names
    from .types.members import members
    from .types.objects import (
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
    from .types.typebase import Encoding, Linkage, Reference, Type, Unknown
    from .unmerged.find import Miss, RootCause, misses
    from .unmerged.names import BaseNames
    from .warmup import warm_up

# Where each public name is. A module is imported when something of it is used for the first time:
# a command that deduplicates starts without what dumps, edits or compares.
_HOMES = {
    "types.columns": "columns texts type_names",
    "compare.difference": "Difference Differences difference",
    "deduplication.deduplicate": "DedupResult dedup dedup_split",
    "deduplication.index": "BaseIndex",
    "deduplication.merge": "MergeResult merge",
    "deduplication.fast_path": "SplitBytes dedup_bytes",
    "deduplication.module": "dedup_module make_ready",
    "files.open": "STANDALONE Module detect_form load_base open_module",
    "distill.distill": "Distilled distill_base",
    "distill.relocate": "relocate",
    "dump.c": "dump_c",
    "dump.json": "dump_json",
    "dump.raw": "dump_raw",
    "edit.builder": "Builder",
    "edit.permute": "Renumbered permute sort_by_name",
    "errors": "BtfError DwarfOnlyError NoBtfError NotFoundError UnsupportedError WrongBaseError",
    "edit.ext": "BtfExt CodeSection CoreRelo CoreReloKind FuncInfo LineInfo parse_ext",
    "fingerprint.fingerprints": "BaseFingerprints both_fingerprints fingerprints own_fingerprints",
    "format.kinds": "KIND_NAMES",
    "types.members": "members",
    "unmerged.find": "Miss RootCause misses",
    "unmerged.names": "BaseNames",
    "types.btf": "BTF parse",
    "types.objects": "AnyEnum Array Composite Const Datasec DatasecEntry DeclTag Enum Enum64 "
    "EnumValue Float Func FuncProto Fwd Int Member Param Ptr Restrict Struct "
    "Typedef TypeTag Union Var Void Volatile",
    "types.typebase": "Encoding Linkage Reference Type Unknown",
    "warmup": "warm_up",
    "compiled.workspaces": "release_workspaces",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
_MODULES = {"elf": "files.elf", "images": "files.images", "kinds": "format.kinds"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        found = import_module(f".{_MODULES[name]}", __name__)
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
    "DwarfOnlyError",
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
