"""What builds left in the BTF that they ship: the table ``leftovers``, summed up and explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..sources.lookup import resolve_kernel
from .query import Tables

LARGEST = 5  # modules that are named
_MOSTLY = 0.9  # of what a cause explains, where it is the one


@dataclass(frozen=True, slots=True)
class Leftover:
    """Types of one kind that were left for one likely cause: see the table ``leftovers``.

    modules  how many have such types; 0 of the base
    """

    cause: str
    kind: str
    types: int
    bytes: int
    modules: int


@dataclass(frozen=True, slots=True)
class ShippedModule:
    """A module's BTF as it came, and what dedup leaves of it."""

    module: str
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class KnownCause:
    """Something that is known to leave types behind.

    versions  which have it, and since when it is mended
    causes    of the table ``leftovers``: what it leaves
    advice    what to do about it
    """

    name: str
    versions: str
    causes: tuple[str, ...]
    advice: str
    fits: Callable[[KernelAudit], bool]


@dataclass(frozen=True, slots=True)
class FoundCause:
    """A known cause, and what it left in a kernel."""

    name: str
    versions: str
    advice: str
    types: int
    bytes: int


@dataclass(frozen=True, slots=True)
class KernelAudit:
    """What a build left in a kernel's BTF.

    modules        that came as split BTF; the rest is about these
    others         that came otherwise, of which nothing can be said, or failed
    bytes_in, bytes_out, types_in, types_out   as shipped, and what dedup leaves
    median_factor  of the modules, how many times as large as need be the one in the middle is
    left, in_base  types that dedup removes, by cause and kind: of modules, and of vmlinux itself
    by_arrays      types that stay only because of how arrays are written: of all modules
    largest        modules of which most can be saved
    """

    kernel: str
    modules: int
    others: int
    bytes_in: int
    bytes_out: int
    types_in: int
    types_out: int
    median_factor: float | None
    left: tuple[Leftover, ...]
    in_base: tuple[Leftover, ...]
    by_arrays: tuple[Leftover, ...]
    largest: tuple[ShippedModule, ...]

    @property
    def causes(self) -> list[FoundCause]:
        """The known causes that this looks like."""
        found = []
        for known in KNOWN_CAUSES:
            left = [one for one in (*self.left, *self.by_arrays) if one.cause in known.causes]
            if left and known.fits(self):
                types, size = sum(one.types for one in left), sum(one.bytes for one in left)
                found.append(FoundCause(known.name, known.versions, known.advice, types, size))
        return found

    def left_by(self, *causes: str) -> int:
        """Count the types that were left for these causes; for all without any."""
        return sum(one.types for one in self.left if not causes or one.cause in causes)


def _is_libbpf_1_7(audit: KernelAudit) -> bool:
    """Nearly all that was left are typedefs and what leads to them, in most of the modules."""
    with_typedefs = max((one.modules for one in audit.left if one.cause == "typedef"), default=0)
    return (
        2 * with_typedefs > audit.modules
        and audit.left_by("typedef", "refers") >= _MOSTLY * audit.left_by()
    )


KNOWN_CAUSES = (
    KnownCause(
        "libbpf 1.7 does not find the base's typedefs",
        "since December 2025, in libbpf 1.7.0; mended in May 2026, in libbpf 1.8",
        ("typedef", "refers"),
        "build with a pahole that has libbpf 1.8; `splitbtf slim` mends modules",
        _is_libbpf_1_7,
    ),
    KnownCause(
        "dedup compares structs before forward declarations have become definitions",
        "all versions of libbpf: dedup run once more finds them",
        ("in_base",),
        "nothing needs to be done: it is little",
        lambda audit: audit.left_by("in_base") > 0,
    ),
    KnownCause(
        "modules and vmlinux were encoded by pahole of two generations",
        "until 1.31 it wrote an array of several dimensions as one, since 1.32 as arrays of arrays",
        ("arrays",),
        "encode modules with the pahole that vmlinux was encoded with",
        lambda audit: bool(audit.by_arrays),
    ),
)


def audit(out: str, kernel: str | None = None) -> list[KernelAudit]:
    """Say of each kernel in ``out`` what its build left in the BTF that came with it.

    kernel  only this one

    Raises OutputError or QueryError.
    """
    with Tables(out) as tables:
        meant = tables.kernels if kernel is None else [resolve_kernel(kernel, tables.kernels)]
        return [_audit(tables, name) for name in meant]


_SPLIT = "FROM modules WHERE kernel = $1 AND status = 'done' AND form = 'split'"


def _audit(tables: Tables, kernel: str) -> KernelAudit:
    sums = tables.ask(
        "SELECT count(*), coalesce(sum(input_bytes), 0), coalesce(sum(bytes_out), 0), "
        "coalesce(sum(types_in), 0), coalesce(sum(types_out), 0), "
        f"median(input_bytes / bytes_out) {_SPLIT}",
        [kernel],
    ).rows[0]
    all_modules = tables.ask("SELECT count(*) FROM modules WHERE kernel = $1", [kernel]).rows[0][0]
    largest = tables.ask(
        f"SELECT module, input_bytes, bytes_out {_SPLIT} AND bytes_out < input_bytes "
        "ORDER BY input_bytes - bytes_out DESC, module LIMIT $2",
        [kernel, LARGEST],
    )
    modules, bytes_in, bytes_out, types_in, types_out, median = sums
    return KernelAudit(
        kernel=kernel,
        modules=modules,
        others=all_modules - modules,
        bytes_in=int(bytes_in),
        bytes_out=int(bytes_out),
        types_in=int(types_in),
        types_out=int(types_out),
        median_factor=median,
        left=_left(tables, kernel, "object_id <> 0 AND cause <> 'arrays'"),
        in_base=_left(tables, kernel, "object_id = 0"),
        by_arrays=_left(tables, kernel, "cause = 'arrays'"),
        largest=tuple(ShippedModule(*row) for row in largest.rows),
    )


def _left(tables: Tables, kernel: str, which: str) -> tuple[Leftover, ...]:
    found = tables.ask(
        "SELECT cause, kind, sum(types), sum(bytes), count(DISTINCT module) FROM leftovers "
        f"WHERE kernel = $1 AND {which} GROUP BY ALL ORDER BY 3 DESC, 1, 2",
        [kernel],
    )
    return tuple(Leftover(c, k, int(t), int(b), m) for c, k, t, b, m in found.rows)
