"""Compares what two kernels are said to differ in with an own computation. Prints N of N.

    python tests/full_changes.py OUT [OLD NEW]

Of each two kernels of OUT that follow one another (or OLD and NEW) the counts of every object, of
vmlinux and all modules, are worked out from the BTF files with `support/oracles/naive_declared.py`,
which has none of the library's code. Modules that failed in either are left out.
Exit status 0 if all are the same, 1 if not.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.analysis.changes.compare import Comparison
from pipeline.analysis.changes.stored import in_order, named_types_of, stored_kernels
from support.oracles import naive_declared


def main(out: str, names: list[str]) -> int:
    kernels = stored_kernels(out)
    ordered = [kernels[name] for name in names] or in_order(kernels.values())
    naive = {
        one.name: naive_declared.objects_of(Path(out, one.manifest.btf_folder)) for one in ordered
    }
    wrong = 0
    for old, new in pairwise(ordered):
        found = Comparison(*named_types_of(old, new)).counts
        ours = {one.object.replace("-", "_"): _plain(one.kinds) for one in found}
        expected = naive_declared.counts_of_objects(naive[old.name], naive[new.name])
        for name in {*old.unread, *new.unread}:  # of which only one side is known: not compared
            expected.pop(name.replace("-", "_"), None)
        same = [name for name in expected if ours.get(name) == expected[name]]
        wrong += len(expected) - len(same) + len(ours.keys() - expected.keys())
        print(f"{old.name} → {new.name}: {len(same)} of {len(expected)} objects")
        for name in sorted(expected.keys() - set(same)):
            print(f"  {name}: {ours.get(name)}, not {expected[name]}")
        for kind, label in (("vmlinux", "vmlinux"), ("modules", "modules")):
            rows = [one for one in found if (one.object == "vmlinux") == (kind == "vmlinux")]
            print(f"  {label}: {_sums(rows)}")
    return int(wrong > 0)


def _plain(kinds: dict[str, Any]) -> dict[str, dict[str, int]]:
    rows = {kind: row._asdict() for kind, row in kinds.items()}
    return {kind: {k: v for k, v in row.items() if k != "reached"} for kind, row in rows.items()}


def _sums(objects: list[Any]) -> str:
    """By kind both, added, removed, changed, embedded, reached."""
    kinds = objects[0].kinds if objects else {}
    sums = {
        kind: "/".join(str(sum(getattr(one.kinds[kind], c) for one in objects)) for c in _COLUMNS)
        for kind in kinds
    }
    return ", ".join(f"{kind} {text}" for kind, text in sums.items())


_COLUMNS = ("both", "added", "removed", "changed", "embedded", "reached")

if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
