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

Nothing here knows of Ray, Parquet, the command line or where files live.
"""

from .columns import columns, type_names
from .deduplicate import DedupResult, dedup, dedup_split
from .errors import BtfError, NoBtfError, UnsupportedError, WrongBaseError
from .index import BaseIndex
from .kinds import KIND_NAMES
from .module import Module, dedup_module, detect_form, load_base, open_module
from .table import BTF, parse
from .warmup import warm_up

__all__ = [
    "BTF",
    "KIND_NAMES",
    "BaseIndex",
    "BtfError",
    "DedupResult",
    "Module",
    "NoBtfError",
    "UnsupportedError",
    "WrongBaseError",
    "columns",
    "dedup",
    "dedup_module",
    "dedup_split",
    "detect_form",
    "load_base",
    "open_module",
    "parse",
    "type_names",
    "warm_up",
]
