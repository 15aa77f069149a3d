"""What changed between the kernels of an output folder, for its report.

Compared are neighbours in time, which are two kernels of one architecture and flavour with no
release between them, and configurations: kernels of one release but of different flavours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...model.steps import STEPS
from ...sources.names import RESERVED as VMLINUX
from ..changes.compare import CHANGED, Comparison
from ..changes.details import details
from ..changes.names import KIND_WORDS
from ..changes.stored import StoredKernel, stored_kernels

Row = dict[str, Any]
TIME, CONFIGURATION = "time", "configuration"
MOST_CHANGED, MOST_DETAILS = 100, 5
COUNTS = ("both", "changed", "embedded", "reached", "added", "removed")  # of KindCounts
_WITH_MEMBERS = ("struct", "union", "enum")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two kernels to compare, and whether they are neighbours in TIME or two CONFIGURATIONs."""

    what: str
    old: str
    new: str


def configurations(kernels: Sequence[Row]) -> list[Pair]:
    """Find kernels of one release and architecture: the first is compared with each of the others.

    ``kernels`` are rows of that figure.
    """
    found = defaultdict(list)
    for row in kernels:
        if row["flavour"] is not None and row["release"] is not None:
            version = row["release"].removesuffix(row["flavour"])
            found[row["architecture"], version].append(row["kernel"])
    return [Pair(CONFIGURATION, same[0], other) for same in found.values() for other in same[1:]]


def changes(
    out: str, neighbours: Iterable[tuple[str, str]], kernels: Sequence[Row]
) -> dict[str, list[Row]]:
    """Compare neighbours, and configurations: rows of two figures.

    changes   how many names of each kind changed
    changed   what changed most in vmlinux between the last kernel of each line and the one before

    A kernel is read once, and let go after the last of its pairs: those are taken by release.
    """
    stored = stored_kernels(out)
    age = {row["kernel"]: (row["release_key"] or "", row["kernel"]) for row in kernels}
    wanted = [Pair(TIME, old, new) for old, new in neighbours]
    lasting = {pair.new for pair in wanted} - {pair.old for pair in wanted}
    wanted += configurations(kernels)
    counts: dict[Pair, list[Row]] = {}
    changed: dict[Pair, list[Row]] = {}
    for number, pair in enumerate(todo := sorted(wanted, key=lambda pair: age[pair.new])):
        STEPS.debug("comparing %s and %s", pair.old, pair.new)
        old, new = stored[pair.old], stored[pair.new]
        comparison = Comparison(old.named_types, new.named_types)
        counts[pair] = _counts(pair, comparison)
        if pair.what == TIME and pair.new in lasting:
            changed[pair] = _changed(pair, comparison, old, new)
        needed = {name for later in todo[number + 1 :] for name in (later.old, later.new)}
        stored = {name: kernel for name, kernel in stored.items() if name in needed}
    return {
        "changes": [row for pair in wanted for row in counts[pair]],
        "changed": [row for pair in wanted for row in changed.get(pair, ())],
    }


def _counts(pair: Pair, comparison: Comparison) -> list[Row]:
    """Rows of a pair: for vmlinux, and for all modules together."""
    objects = comparison.counts
    rows = []
    for part, ones in ((VMLINUX, objects[:1]), ("modules", objects[1:])):
        for kind in KIND_WORDS:
            of_kind = [one.kinds[kind] for one in ones]
            sums = {count: sum(getattr(one, count) or 0 for one in of_kind) for count in COUNTS}
            if any(sums.values()):
                rows.append({**asdict(pair), "part": part, "kind": kind, **sums})
    return rows


def _changed(pair: Pair, comparison: Comparison, old: StoredKernel, new: StoredKernel) -> list[Row]:
    """What changed most: the types of vmlinux with most details."""
    ones = [
        change
        for change in comparison.changes
        if (change.object, change.change) == (VMLINUX, CHANGED) and change.kind in _WITH_MEMBERS
    ]
    told = zip(ones, details(ones, old.rows, new.rows), strict=True)
    most = sorted(told, key=lambda one: (-len(one[1]), one[0].kind, one[0].name))[:MOST_CHANGED]
    return [
        {
            "old": pair.old,
            "new": pair.new,
            "kind": change.kind,
            "name": change.name,
            "count": len(found),
            "details": [detail.text.replace("`", "") for detail in found[:MOST_DETAILS]],
        }
        for change, found in most
    ]
