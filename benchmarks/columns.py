"""Section about what tables hold: time of the fingerprints, bytes of each column."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from inputs import Input
from measure import Sides, run, splitbtf
from report import Sample, Table, seconds, size, times
from whole import outputs

_ONE = "fingerprint"
_TIMED = {
    "both": "with `own_fingerprint`, of modules",
    "declarations": "`declaration_fingerprint` and `layout_fingerprint`",
    "spellings": "these and `spelling`",
    "all": "all but `spelling`, at once, as a run does",
}
_SHOWN = 0.002  # of all bytes: columns with less are taken together
# What says how C reads a type, beside its record and its fingerprint.
_OF_C = {
    "types.spelling", "types.layout_fingerprint", "types.declaration_fingerprint",
    "types.target_global_id", "types.nelems", "types.linkage", "types.encoding", "members.type",
}  # fmt: skip


def columns(sides: Sides, source: Input) -> list[Table]:
    """What fingerprints take, each kind against ``fingerprint`` alone, and what columns take."""
    files = [str(path) for path in source.modules]
    facts = sides.probe("fingerprints", base=str(source.base), files=files, repeat=9)
    rows = []
    for what, of in facts.items():
        alone = Sample(tuple(of.pop(_ONE)))
        rows.append((f"{what}: `fingerprint` alone", alone.show(seconds), times(1)))
        for name, found in of.items():
            ratios = [one / other for one, other in zip(found, alone.values, strict=True)]
            ratio = Sample(tuple(ratios)).show(times)
            rows.append((f"{what}: {_TIMED[name]}", Sample(tuple(found)).show(seconds), ratio))
    note = "CPU time; each ratio is of measurements that followed one another."
    timed = Table("Time of the fingerprints", ("", "time", "ratio"), tuple(rows), (note,))
    return [timed, _bytes(source)]


def _bytes(source: Input) -> Table:
    import pyarrow.parquet as parquet

    found: Counter[str] = Counter()
    with outputs() as folder:
        out = tempfile.mkdtemp(dir=folder)
        command = splitbtf("run", source.modules[0].parent, "-B", source.base, "-o", out)
        run([*command, "--engine", "local", "--json"])
        for path in Path(out, "tables").rglob("*.parquet"):
            table, meta = path.relative_to(out).parts[1], parquet.read_metadata(path)
            for group in map(meta.row_group, range(meta.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    name = column.path_in_schema.split(".")[0]
                    found[f"{table}.{name}"] += column.total_compressed_size
    total = sum(found.values())
    shown = [(name, amount) for name, amount in found.most_common() if amount >= _SHOWN * total]
    of_c = sum(found[name] for name in _OF_C)
    rows = [
        ("all", size(total), times(1)),
        ("all without what says how C reads a type", size(total - of_c), times(1 - of_c / total)),
        *((f"`{name}`", size(amount), times(amount / total)) for name, amount in shown),
        ("the others", size(rest := total - sum(a for _, a in shown)), times(rest / total)),
    ]
    return Table("Bytes of the tables by column", ("column", "bytes", "ratio"), tuple(rows))
