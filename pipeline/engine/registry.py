"""All engines there are: each file of this package that has an ``ENGINE`` is one.

A new engine is a new file; nothing else has to know of it. To import such a file must be quick:
what an engine needs is imported when it is started.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..model.base import Announce
from ..model.engine import Executor, WorkFunction
from ..model.options import DEFAULT_ENGINE, RunOptions


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to have work done.

    name        what the user says to have it
    help        what does the work, in a few words
    isolates    whether, with these options, a module that kills its worker leaves the run alive
    start       makes the executor: of the options, the work function, what a worker may do before
                its first item, and a function for messages to the user
    clusters    whether it can join a cluster, by ``--ray-address``
    background  whether ``start`` may be called in another thread: not if it forks this process
    """

    name: str
    help: str
    isolates: Callable[[RunOptions], bool]
    start: Callable[[RunOptions, WorkFunction, Callable[[], None], Announce | None], Executor]
    background: bool
    clusters: bool = False


@cache
def engines() -> dict[str, Engine]:
    """Find all engines, by name, the default one first."""
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [importlib.import_module(f".{file.name}", __package__) for file in files]
    found = [module.ENGINE for module in modules if hasattr(module, "ENGINE")]
    found.sort(key=lambda engine: (engine.name != DEFAULT_ENGINE, engine.name))
    return {engine.name: engine for engine in found}
