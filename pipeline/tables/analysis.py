"""Tables that compare the modules of a kernel with each other, made when all modules are done.

Each reads what it needs from the kernel's other tables and from its BTF files, which are complete
but not committed yet, and may have functions called on workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.scheduler import Workforce
from ..files.storage import Stored

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Analysed:
    """A kernel whose modules are done.

    names   of its objects by object id; the base's is empty
    tables  the parts of the tables that have rows by module; objects are in order of their ids
    btf     the folder of its BTF files
    """

    names: Sequence[str]
    tables: Mapping[str, Sequence[Stored]]
    btf: Stored
    workforce: Workforce


# Both are imported late: the first module does not wait for what comes after the last one.
def _duplicates(kernel: Analysed) -> pa.Table:
    from .duplicates import duplicates_table

    return duplicates_table(kernel.workforce, kernel.tables["types"], kernel.names)


def _conflicts(kernel: Analysed) -> pa.Table:
    from .conflicts import conflicts_table

    return conflicts_table(kernel.workforce, kernel.tables["types"], kernel.names, kernel.btf)


ANALYSES: Mapping[str, Callable[[Analysed], pa.Table]] = {
    "duplicates": _duplicates,
    "conflicts": _conflicts,
}


def analyse(kernel: Analysed) -> dict[str, pa.Table]:
    """All of them, beside one another: while one waits for its last task, workers do another's."""
    with ThreadPoolExecutor(len(ANALYSES), "analyse") as pool:
        coming = {name: pool.submit(make, kernel) for name, make in ANALYSES.items()}
    return {name: future.result() for name, future in coming.items()}


class Here(Workforce):
    """A workforce of one: this thread. For a kernel that workers have nothing to do with."""

    workers = 1

    def __init__(self, base: Any) -> None:
        self._base = base

    def submit(self, function: Callable[[Any, Any], Any], argument: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(self._base, argument))
        return done
