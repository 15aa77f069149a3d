"""What Ray's workers do with an item: the bytes of a call, and what is shared, as the driver sends
them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..model.engine import Item, Outcome, WorkFunction
from .forker import unpack
from .isolation import attempt
from .malloc import use_system_pool

Signature = tuple[int, int, int] | None

_shared: tuple[Any, Any] = (None, None)  # key of what was shared last, and what it is
_seen: set[tuple[str, Signature]] = set()


def attempt_on(shared: Any, function: WorkFunction, item: Item, options: Any) -> Outcome:
    """Call the work function, as all engines do."""
    return attempt(function, item, shared, options)


def prepare_worker(_: None, prepare: Callable[[], None] | None) -> None:
    """Import on a worker what its first item would have to wait for."""
    use_system_pool()
    if prepare is not None:
        prepare()


def serve(key: Any, packed: Any, work: Any, begun: bytes | None) -> bytes:
    """Do what a task is to do.

    key     of what is shared, the same for the same; None where nothing is
    packed  uint8 array, what ``forker.pack`` has made of it, or None
    work    (function, arguments), pickled or packed; the function gets what is shared in front of
            these
    begun   name under which to write down in the cluster, at once, which node this is; or None

    Returns what the function does, pickled. What is shared is unpacked once in a process.
    """
    global _shared
    if begun is not None:
        import ray
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(begun, ray.get_runtime_context().get_node_id().encode())
    if packed is not None and _shared[0] != key:
        _shared = (None, None)
        _shared = (key, unpack(memoryview(packed)))
    is_pickled = isinstance(work, bytes)
    function, arguments = pickle.loads(work) if is_pickled else unpack(memoryview(work))
    shared = _shared[1] if packed is not None else None
    return pickle.dumps(function(shared, *arguments), protocol=5)


def signatures(paths: Sequence[str]) -> list[Signature]:
    """How files look from here: what no two different files have in common."""
    found: list[Signature] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return found


def look(_: None, paths: Sequence[str]) -> list[Signature]:
    """Say how files look from a worker."""
    return signatures(paths)


def sees(files: Mapping[str, Signature]) -> bool:
    """Whether files look from here as they do from another machine. What was seen once counts."""
    new = [path for path in files.items() if path not in _seen]
    if signatures([path for path, _ in new]) != [signature for _, signature in new]:
        return False
    _seen.update(new)
    return True
