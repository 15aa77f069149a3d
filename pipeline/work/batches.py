"""Cuts a kernel's inputs into batches of about equal bytes.

Batches are runs of neighbours in name order, so that results put one after the other are in name
order too, however many batches there were: the tables do not depend on the cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.records import ModuleInput

# A batch is large enough to make the cost of handing it out small, and small enough that what a
# worker holds at once, and what is left to do when the others are done, stays small.
MIN_BATCH_BYTES = 256 << 10
MAX_BATCH_BYTES = 6 << 20
BATCHES_PER_WORKER = 8
_FILE_COST_BYTES = 4096  # what opening and writing a file costs beside its bytes


def cut(inputs: Sequence[ModuleInput], workers: int) -> list[tuple[ModuleInput, ...]]:
    """Batches for ``workers`` workers, in the order of ``inputs``."""
    costs = [module.file_bytes + _FILE_COST_BYTES for module in inputs]
    target = sum(costs) // max(1, workers * BATCHES_PER_WORKER)
    target = min(max(target, MIN_BATCH_BYTES), MAX_BATCH_BYTES)
    batches: list[tuple[ModuleInput, ...]] = []
    start, size = 0, 0
    for end, cost in enumerate(costs):
        # Close the batch where it comes nearer to the target without this input than with it.
        if size and size + cost > target and size + cost - target > target - size:
            batches.append(tuple(inputs[start:end]))
            start, size = end, 0
        size += cost
    if start < len(inputs):
        batches.append(tuple(inputs[start:]))
    return batches
