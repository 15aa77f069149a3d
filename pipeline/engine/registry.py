"""All engines there are.

A new engine is a file of this package with a function ``start``, and its line in ``ENGINES``. The
file is imported when the engine is started: no other command waits for what it needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.base import Announce
    from ..model.engine import Executor, WorkFunction
    from ..model.options import RunOptions


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to have work done, in worker processes: one that dies leaves the run alive.

    file        of this package that has it
    help        what does the work, in a few words
    background  whether ``start`` may be called in another thread: not if it forks this process
    clusters    whether it can join a cluster, by ``--ray-address``
    """

    file: str
    help: str
    background: bool
    clusters: bool = False

    def start(
        self,
        options: RunOptions,
        function: WorkFunction,
        prepare: Callable[[], None],
        announce: Announce | None,
        ended: Event,
    ) -> Executor:
        """Make the executor.

        function  what workers do with an item
        prepare   what a worker may do before its first item
        announce  for messages to the user
        ended     whether the run has ended, and nobody waits for the executor any more
        """
        module = importlib.import_module(f".{self.file}", __package__)
        executor: Executor = module.start(options, function, prepare, announce, ended)
        return executor


# By the names that users say, the default one first.
ENGINES = {
    # It waits for other processes mostly.
    "ray": Engine("on_ray", "Ray, on this machine or a cluster", background=True, clusters=True),
    "local": Engine("local", "this machine's processes alone", background=False),
}
