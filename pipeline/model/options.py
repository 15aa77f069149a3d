"""What the user asked for, passed down whole, and what is derived from it for a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Of which modules BTF is made with pahole, of those that have DWARF.
ENCODE_MISSING = "missing"  # of those that have no BTF of use
ENCODE_ALL = "all"
ENCODE_NONE = "none"
ENCODE_CHOICES = (ENCODE_MISSING, ENCODE_ALL, ENCODE_NONE)
# In which form split BTF is written.
FORM_DEDUP = "dedup"  # as libbpf's dedup leaves it
FORM_KERNEL = "kernel"  # sorted by name, as builds of Linux 7.0 and later do it afterwards
FORM_AUTO = "auto"  # sorted where the base is
FORM_CHOICES = (FORM_AUTO, FORM_DEDUP, FORM_KERNEL)
ENCODE_SECONDS = 300.0  # a large module takes one, on a quiet machine
MODULE_SECONDS = 600.0  # beside encoding: a large module takes a hundredth of one
DEFAULT_ENGINE = "ray"


@dataclass(frozen=True, slots=True)
class Debuginfod:
    """Servers that have files with debug information, and what such a file may cost.

    servers      URLs, asked in their order
    seconds      in which 100 KiB of it have to come
    max_seconds  in which all of it has to come, if there is such a limit
    max_bytes    that it may have
    """

    servers: tuple[str, ...]
    seconds: float
    max_seconds: float | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user asked for.

    sources         folders, files, packages, manifests, URIs
    out             the output folder
    base            the base of all modules; None: it is found among the sources
    kernel          the kernel's name; None: its release, or its folder
    engine          a name in ``engine.registry.ENGINES``
    workers         worker processes; None: as many as the engine finds right
    ray_address     of an existing Ray cluster
    runtime_env     what Ray makes on each node of that cluster first, see Ray's documentation
    encode          of which modules BTF is made of their DWARF
    encode_seconds  how long that may take for a module
    module_seconds  how long the rest may take for a module or a base; then its worker is killed
    retry           whether to try again what failed because a worker died or took too long
    work_folder     where packages are unpacked; None: in the output folder
    form            of the split BTF that is written: one of ``FORM_CHOICES``
    check           whether to tell of each module if its kernel would load what is written
    debuginfod      where to look for debug information of files that have neither BTF nor DWARF
    """

    sources: tuple[str, ...]
    out: str
    base: str | None = None
    kernel: str | None = None
    engine: str = DEFAULT_ENGINE
    workers: int | None = None
    ray_address: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    encode: str = ENCODE_MISSING
    encode_seconds: float = ENCODE_SECONDS
    module_seconds: float = MODULE_SECONDS
    retry: bool = False
    work_folder: str | None = None
    form: str = FORM_AUTO
    check: bool = False
    debuginfod: Debuginfod | None = None

    def sorts(self, base_is_sorted: bool) -> bool:
        """Whether split BTF on a base is sorted by name."""
        return self.form == FORM_KERNEL or (self.form == FORM_AUTO and base_is_sorted)


@dataclass(frozen=True, slots=True)
class KernelContext:
    """What all modules of a kernel have in common.

    release  of the base's kernel, where known: a module that says another is refused
    digest   stands for all that results depend on beside the module: program, base, options
    by_name  whether split BTF is sorted by name
    """

    options: RunOptions
    release: str | None = None
    digest: str = ""
    by_name: bool = False
