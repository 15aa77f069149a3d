"""What flows between the stages, as frozen records with units in their names.

No behaviour beyond construction, and nothing of numpy, Arrow or Ray: a record crosses process
borders by pickling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DONE = "done"
FAILED = "failed"

# What can be wrong with an input (the column error_kind of the table modules).
UNREADABLE = "unreadable"  # it cannot be opened or read, or is no regular file
COMPRESSION = "compression"  # its compression is damaged or unfolds to too much
NO_BTF = "no_btf"  # a sound ELF file without BTF
BAD_BTF = "bad_btf"  # BTF, or what should be, that cannot be used as it is
WRONG_BASE = "wrong_base"  # BTF that was made for another base
BAD_NAME = "bad_name"  # it calls itself by a name that no kernel module can have
CRASHED = "crashed"  # workers died on it, also when it was alone

ERROR_KINDS: Mapping[str, str] = {
    UNREADABLE: "the file cannot be opened or read, or is no regular file",
    COMPRESSION: "its compression is damaged, or it unfolds to more than the limit",
    NO_BTF: "a sound file that holds no BTF",
    BAD_BTF: "not BTF, or BTF that breaks a rule of the format",
    WRONG_BASE: "its BTF was made for another base",
    BAD_NAME: "it calls itself by a name that no kernel module can have",
    CRASHED: "the worker died on it, repeatedly and with no other module beside it",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input gave no result, and where in it."""

    kind: str
    message: str
    section: str | None = None
    offset_bytes: int | None = None
    type_id: int | None = None


@dataclass(frozen=True, slots=True)
class ModuleInput:
    """One file that should hold a module's BTF.

    ``name`` is unique within the kernel and safe as a file name; ``path`` is where to read;
    ``source`` is the same relative to the source it was found under; ``object_id`` numbers the
    inputs of a kernel from 1 in the order of their names (0 is the base). ``problem`` is set when
    it is known beforehand that it cannot be read.
    """

    name: str
    path: str
    source: str
    object_id: int
    file_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class KernelInput:
    """One base and the inputs that belong to it. ``release`` is None where paths do not tell."""

    name: str
    base_path: str
    base_source: str
    release: str | None
    modules: tuple[ModuleInput, ...]

    @property
    def file_bytes(self) -> int:
        """Size of all inputs as they lie on disk."""
        return sum(module.file_bytes for module in self.modules)


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """One module's row. What was not reached before a failure is None (counts: empty)."""

    module: str
    object_id: int
    source: str
    path: str
    status: str
    module_name: str | None = None
    input_sha256: str | None = None
    form: str | None = None
    input_bytes: int | None = None
    types_in: int | None = None
    type_bytes_in: int | None = None
    string_bytes_in: int | None = None
    bytes_out: int | None = None
    types_out: int | None = None
    type_bytes_out: int | None = None
    string_bytes_out: int | None = None
    output_sha256: str | None = None
    build_id: str | None = None
    release: str | None = None
    depends: tuple[str, ...] | None = None
    kinds_in: Mapping[str, int] = field(default_factory=dict)
    kinds_out: Mapping[str, int] = field(default_factory=dict)
    kind_bytes_in: Mapping[str, int] = field(default_factory=dict)
    kind_bytes_out: Mapping[str, int] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """What is known about a kernel's base."""

    path: str
    source: str
    sha256: str
    byteorder: str
    bytes: int
    types: int
    type_bytes: int
    string_bytes: int
    kinds: Mapping[str, int]
    kind_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """How a batch is to be worked on.

    ``output_folder`` is where NAME.btf goes (None: nowhere). ``describe`` adds what the tables
    need and the result does not: hashes, counts by kind and the columns of the table types.
    ``release`` is that of the base's kernel, where known: a module that says another is refused.
    ``replace_whole`` writes each file under a temporary name first, for a folder that readers
    can see.
    """

    output_folder: str | None = None
    describe: bool = True
    release: str | None = None
    replace_whole: bool = False
