"""What flows between the stages, as frozen records with units in their names.

No behaviour beyond construction, and nothing of numpy, Arrow or Ray: a record crosses process
borders by pickling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

DONE = "done"
FAILED = "failed"
SPLIT = "split"  # the form of BTF that continues the base, as builds leave it

# What can be wrong with an input (the column error_kind of the table modules).
UNREADABLE = "unreadable"  # it cannot be opened or read, or is no regular file
COMPRESSION = "compression"  # its compression is damaged or unfolds to too much
NO_BTF = "no_btf"  # a sound ELF file without BTF, and none can be made
NO_BASE = "no_base"  # its kernel has no base that could be used
NO_ENCODER = "no_encoder"  # DWARF to make BTF from, but no pahole that could be run
ENCODE_FAILED = "encode_failed"  # pahole could make no BTF of it
ENCODE_TIMEOUT = "encode_timeout"  # pahole took too long
BAD_BTF = "bad_btf"  # BTF, or what should be, that cannot be used as it is
WRONG_BASE = "wrong_base"  # BTF that was made for another base
BAD_NAME = "bad_name"  # it calls itself by a name that no kernel module can have
CRASHED = "crashed"  # workers died on it, also when it was alone
TIMED_OUT = "timed_out"  # work on it took longer than allowed

ERROR_KINDS: Mapping[str, str] = {
    UNREADABLE: "the file cannot be opened or read, or is no regular file",
    COMPRESSION: "its compression is damaged, or it unfolds to more than the limit",
    NO_BTF: "a sound file that holds no BTF, nor DWARF that it could be made from",
    NO_BASE: "no vmlinux of its kernel was found, or none with BTF",
    NO_ENCODER: "it has DWARF, but pahole, which makes BTF of it, is not installed",
    ENCODE_FAILED: "pahole could make no BTF of its DWARF",
    ENCODE_TIMEOUT: "pahole took longer than allowed",
    BAD_BTF: "not BTF, or BTF that breaks a rule of the format",
    WRONG_BASE: "its BTF was made for another base",
    BAD_NAME: "it calls itself by a name that no kernel module can have",
    CRASHED: "the worker died on it, repeatedly and with no other module beside it",
    TIMED_OUT: "the worker was still at it when its time was up",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input gave no result, and where in it."""

    kind: str
    message: str
    section: str | None = None
    offset_bytes: int | None = None
    type_id: int | None = None


class _Packable:
    """Where the content of a file lies, be it in a package or not."""

    __slots__ = ()
    path: str
    package: str | None
    unpacked: str | None

    @property
    def content_path(self) -> str:
        """The file to read."""
        return self.unpacked or self.path

    @property
    def member(self) -> str | None:
        """The name in the package."""
        return self.path[len(self.package) + 1 :] if self.package is not None else None


@dataclass(frozen=True, slots=True)
class FileInput(_Packable):
    """One file of a source.

    ``path`` says where it was found; that of a file in a package is the package's path, a slash,
    and the name in it. ``source`` is the same relative to the source it was found under.
    ``package`` is the package's path, ``package_name`` and ``package_version`` are what it says of
    itself, the version with its architecture. ``unpacked`` is where the content lies once it was
    taken out of the package. ``problem`` is set when it is known beforehand that it cannot be read.
    """

    path: str
    source: str
    problem: str | None = None
    package: str | None = None
    unpacked: str | None = None
    package_name: str | None = None
    package_version: str | None = None


@dataclass(frozen=True, slots=True)
class ModuleInput(_Packable):
    """One file that should hold a module's BTF; see FileInput for what both have.

    ``name`` is unique within the kernel and safe as a file name; ``object_id`` numbers the inputs
    of a kernel from 1 in the order of their names (0 is the base). ``file_bytes`` is 0 while the
    file is in its package. ``debug`` is the same module's file with debug information, which BTF
    can be made from if this one has none.
    """

    name: str
    path: str
    source: str
    object_id: int
    file_bytes: int
    problem: str | None = None
    package: str | None = None
    unpacked: str | None = None
    debug: FileInput | None = None


@dataclass(frozen=True, slots=True)
class KernelInput:
    """One kernel: where its base may be, the likeliest first, and the inputs that belong to it.

    ``release`` is None where paths do not tell.
    """

    name: str
    bases: tuple[FileInput, ...]
    release: str | None
    modules: tuple[ModuleInput, ...]

    @property
    def object_names(self) -> list[str]:
        """Names of its objects by object id; the base's is empty."""
        return ["", *(module.name for module in self.modules)]


class ModuleRecord(NamedTuple):
    """One module's row. What was not reached before a failure is None.

    No dataclass, which took as long to make as to read a small module's file.
    """

    module: str
    object_id: int
    source: str
    path: str
    status: str
    module_name: str | None = None
    input_sha256: str | None = None
    form: str | None = None
    encoder: str | None = None
    input_bytes: int | None = None
    types_in: int | None = None
    type_bytes_in: int | None = None
    string_bytes_in: int | None = None
    bytes_out: int | None = None
    types_out: int | None = None
    type_bytes_out: int | None = None
    string_bytes_out: int | None = None
    kept_by_arrays: int | None = None
    output_sha256: str | None = None
    build_id: str | None = None
    release: str | None = None
    depends: tuple[str, ...] | None = None
    loads: bool | None = None
    check_error: str | None = None
    failure: Failure | None = None
