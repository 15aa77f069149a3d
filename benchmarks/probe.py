"""Measurements that need a look inside: run as a process each, arguments and results as JSON.

modules  how long each module takes, by itself
load     how long it takes to read and check a BTF, and to find a type in it
load_memory  how far a process's memory grows over that
fingerprints  how long the fingerprints of a base and of modules take
index    how long the index takes to build, and how large it is
memory   how far a process's memory grows over what it holds once the base is indexed
without_tables  how long a run with several workers takes that makes split BTF and nothing else
store    what Ray's object store holds for one, two, four workers
driver   CPU that handing out the work of a run on Ray takes, and bytes to and from its workers
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import btf
from btf.edit.concat import concat_split
from pipeline.engine import on_ray
from pipeline.engine.local import Local
from pipeline.files.storage import LocalFolder
from pipeline.model.base import SharedBase
from pipeline.model.engine import Batch, Item, Result
from pipeline.model.options import ENCODE_NONE, KernelContext, RunOptions
from pipeline.model.records import ModuleInput, ModuleRecord
from pipeline.sources.discover import find_kernels
from pipeline.tables.describe import TYPES_AT_ONCE
from pipeline.work.base import load_base
from pipeline.work.batch import BatchOptions, Shared, run_batch
from pipeline.work.batches import cut
from pipeline.work.module import ModuleResult, run_module
from status import in_status

CONTEXT = KernelContext(RunOptions((), "", encode=ENCODE_NONE))


def _inputs(files: Sequence[str]) -> list[ModuleInput]:
    return [
        ModuleInput(Path(path).stem, path, path, number, Path(path).stat().st_size)
        for number, path in enumerate(files, 1)
    ]


def _work(module: ModuleInput, index: btf.BaseIndex) -> ModuleRecord:
    return _run(module, index).record


def _run(module: ModuleInput, index: btf.BaseIndex) -> ModuleResult:
    """Make a module's split BTF and nothing else."""
    done = run_module(module, index, CONTEXT)
    assert isinstance(done, ModuleResult)
    return done


def modules(base: str, files: list[str], repeat: int) -> list[dict[str, Any]]:
    """For each module the least of its times: what disturbs a short measurement only adds.

    All modules in turns: a machine that is slow for a while is so for all of them.
    """
    index = load_base(base).index
    inputs = _inputs(files)
    took: list[list[float]] = [[] for _ in inputs]
    records = [_work(module, index) for module in inputs]
    for _ in range(repeat):
        for module, times in zip(inputs, took, strict=True):
            if sum(times) <= 2:
                began = time.perf_counter()
                _work(module, index)
                times.append(time.perf_counter() - began)
    return [
        {
            "seconds": min(times),
            "types": record.types_in,
            "types_out": record.types_out,
            "bytes": record.input_bytes,
            "failure": record.failure.message if record.failure else None,
        }
        for times, record in zip(took, records, strict=True)
    ]


def _load(path: str) -> btf.BTF:
    return btf.load_base(Path(path).read_bytes(), path=path)


def load(base: str, repeat: int) -> dict[str, Any]:
    """Load a BTF several times, and look for a type in the last one."""
    btf.warm_up()
    _load(base).find_all("no such type")  # everything is compiled and imported now
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        loaded = _load(base)
        took.append(time.perf_counter() - began)
    began = time.perf_counter()
    found = loaded.find_all("task_struct", btf.Struct)
    find = time.perf_counter() - began
    return {
        "seconds": took,
        "find": find,
        "found": found[0].id if found else -2,
        "types": loaded.type_count,
    }


def load_memory(base: str) -> dict[str, int]:
    """Bytes beyond those before, at the highest: of loading, and with the first find by name."""
    btf.warm_up()
    small = btf.Builder()
    small.add_int("int", 4)
    small.build().find("int")  # what comes with the first use of anything
    before = _forget_peak()
    loaded = _load(base)
    after = _status("VmHWM")
    loaded.find_all("task_struct")
    return {"loaded": after - before, "found": _status("VmHWM") - before}


def _forget_peak() -> int:
    """Resident size, in bytes, from which VmHWM counts from now on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def index_bytes(index: btf.BaseIndex) -> int:
    """Of all its arrays."""
    values = [getattr(index, field.name) for field in dataclasses.fields(index)]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def index(base: str, repeat: int) -> dict[str, Any]:
    """Build the index several times in a process where everything is compiled and loaded."""
    loaded = load_base(base)
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        built = btf.BaseIndex.build(loaded.types)
        took.append(time.perf_counter() - began)
    return {
        "seconds": took,
        "first": loaded.index_seconds,
        "bytes": index_bytes(built),
        "base_bytes": len(loaded.content),
        "types": loaded.types.type_count,
    }


def fingerprints(base: str, files: list[str], repeat: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of CPU that each kind of fingerprints takes: of the base, and of what modules keep,
    as many together as a run describes at once."""
    index = load_base(base).index
    types = index.base
    assert types is not None
    known, declared = btf.BaseFingerprints.build(types), btf.declarations(types, spell=True)
    groups: list[btf.BTF] = []
    waiting: list[btf.BTF] = []
    for file in files:
        split = btf.dedup_split(btf.parse(Path(file).read_bytes()), index).btf
        if waiting and sum(one.type_count for one in (*waiting, split)) > TYPES_AT_ONCE:
            groups.append(concat_split(waiting))
            waiting = []
        waiting.append(split)
    groups.append(concat_split(waiting))
    of_base: dict[str, Callable[[], object]] = {
        "fingerprint": lambda: btf.fingerprints(types),
        "declarations": lambda: btf.declarations(types),
        "spellings": lambda: btf.declarations(types, spell=True),
        "all": lambda: btf.fingerprint_base(types),
    }
    of_modules: dict[str, Callable[[], object]] = {
        "fingerprint": lambda: [btf.fingerprints(one, known) for one in groups],
        "both": lambda: [btf.both_fingerprints(one, known) for one in groups],
        "declarations": lambda: [btf.declarations(one, declared) for one in groups],
        "spellings": lambda: [btf.declarations(one, declared, spell=True) for one in groups],
        "all": lambda: [btf.all_fingerprints(one, known, declared) for one in groups],
    }
    found: dict[str, dict[str, list[float]]] = {}
    for name, functions in {"base": of_base, "modules": of_modules}.items():
        took = found[name] = {each: [] for each in functions}
        for _ in range(repeat):
            for each, function in functions.items():
                began = time.process_time()
                function()
                took[each].append(time.process_time() - began)
    return found


def _status(name: str) -> int:
    """A size of this process, in bytes."""
    return in_status(name, Path("/proc/self/status").read_text())


def memory(base: str, files: list[str], out: str | None = None) -> dict[str, int]:
    """Resident size with the index, and the highest one from then on: of dedup alone, or, with a
    folder, of all that a worker of ``run`` does."""
    loaded = load_base(base)
    if out is None:
        before = _forget_peak()
        for module in _inputs(files):
            _work(module, loaded.index)
    else:
        shared = Shared(SharedBase.of(loaded.types, loaded.index), {})
        options = _writing_to(out)
        before = _forget_peak()
        for batch in cut(_inputs(files), 2):
            run_batch(Batch(batch), shared, options)
    return {"before": before, "peak": _status("VmHWM"), "modules": len(files)}


def _writing_to(out: str) -> BatchOptions:
    for name in ("btf", "results", "rows"):
        Path(out, name).mkdir()
    return BatchOptions(CONTEXT, LocalFolder(out), "btf", "results", "rows")


def _split_only(batch: Batch, index: btf.BaseIndex, folder: LocalFolder) -> Result:
    for module in batch.modules:
        content = _run(module, index).content
        if content is not None:
            folder.write(f"btf/{module.name}.btf", content)
    return Result(None, 0.0, os.getpid())


def without_tables(base: str, folder: str, out: str, workers: int) -> dict[str, float]:
    """From finding the modules to their last BTF file, the engine's start and end included."""
    began = time.perf_counter()
    (kernel,) = find_kernels((folder,), base=base)
    btf.warm_up()
    executor = Local(workers, _split_only)
    Path(out, "btf").mkdir()
    shared = executor.share(load_base(base).index)
    batches = cut(kernel.modules, workers)
    for batch in batches:
        executor.submit(Batch(batch), shared, LocalFolder(out))
    for _ in batches:
        done = executor.wait(600.0)
        assert done is not None and isinstance(done[1], Result)
    executor.close()
    return {"seconds": time.perf_counter() - began}


def _one_batch(batch: Batch, index: btf.BaseIndex, options: None) -> Result:
    """A batch that takes long enough for every worker to get some, and tells what it mapped."""
    for module in batch.modules:
        _run(module, index)
    time.sleep(0.2)
    values = [getattr(index, field.name) for field in dataclasses.fields(index)]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    mapped = sum(a.nbytes for a in arrays if not a.flags.owndata and not a.flags.writeable)
    return Result(mapped, 0.0, os.getpid())


def store(base: str, files: list[str], workers: int) -> dict[str, Any]:
    """Give the index to so many Ray workers, have all of them use it, and look into the store."""
    import ray

    from pipeline.engine.on_ray import OnRay
    from probe import _one_batch  # by this name workers find it

    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=1 << 30)
    loaded = load_base(base)
    executor = OnRay(workers, None, _one_batch)
    try:
        before = _store_used()
        shared = executor.share(loaded.index)
        batches = [_inputs(files)[number::workers] for number in range(workers)] * 3
        for batch in batches:
            executor.submit(Batch(tuple(batch)), shared, None)
        results = [executor.wait(60.0) for _ in batches]
        used = _store_used()
    finally:
        executor.close()
    done = [each[1] for each in results if each is not None and isinstance(each[1], Result)]
    return {
        "before": before,
        "used": used,
        "index_bytes": index_bytes(loaded.index),
        "processes": len({result.process_id for result in done}),
        "mapped": min(result.value for result in done),
    }


def _store_used() -> float:
    """Bytes in the object store of all nodes together, as Ray reports them."""
    import ray

    time.sleep(2)  # the report is made now and then
    total, free = ray.cluster_resources(), ray.available_resources()
    return total["object_store_memory"] - free.get("object_store_memory", 0.0)


def driver(base: str, folder: str, out: str, sent: bool) -> dict[str, int | float]:
    """Run on two workers of Ray. CPU of this process and of the one that talks to Ray: until the
    first batch is handed out (``run_start``, ``driver_start``), from then on, of this process until
    the last module is done (``run``, ``driver``), and after that (``tables``); and bytes.

    sent  whether workers get the files with their items, and return what they make
    """
    from pipeline import run
    from pipeline.engine.on_ray import OnRay
    from pipeline.kernel import KernelJob

    found: dict[str, int | float] = {"to_workers": 0, "back": 0, "shared": 0}
    done: list[float] = []

    class Watched(OnRay):
        def can_read(self, paths: Sequence[str]) -> bool:
            return not sent

        def share(self, value: Any) -> int:
            found["shared"] += len(pickle.dumps(value, protocol=5))
            return super().share(value)

        def submit(self, item: Item, shared: int, options: Any) -> int:
            if "run_start" not in found:
                found["run_start"] = time.process_time()
                found["driver_start"] = _cpu_seconds(self._driver.pid)
            return super().submit(item, shared, options)

        def _send(self, message: tuple[Any, ...], file: int | None = None) -> None:
            if message[0] == "submit":
                sent = len(message[-1]) if file is None else os.fstat(file).st_size
                found["to_workers"] += sent
            super()._send(message, file)

        def _next_message(self, seconds: float) -> tuple[Any, ...] | None:
            message = super()._next_message(seconds)
            found["back"] += len(message[2]) if message and message[0] == "done" else 0
            return message

        def close(self) -> None:
            found["driver"] = _cpu_seconds(self._driver.pid) - found["driver_start"]
            super().close()

    class WatchedJob(KernelJob):
        def complete(self) -> None:
            done.append(time.process_time())
            super().complete()

    on_ray.OnRay, run.KernelJob = Watched, WatchedJob  # type: ignore[misc]
    report = run.run(RunOptions((folder,), out, base=base, engine="ray", workers=2))
    (kernel,) = report.kernels
    times = {"run": done[0] - found["run_start"], "tables": time.process_time() - done[0]}
    return {**found, **times, "modules": kernel.summary.modules}


def _cpu_seconds(process: int) -> float:
    """User and system, of a process alone."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


PROBES: dict[str, Callable[..., Any]] = {
    "modules": modules,
    "fingerprints": fingerprints,
    "load": load,
    "load_memory": load_memory,
    "index": index,
    "memory": memory,
    "without_tables": without_tables,
    "store": store,
    "driver": driver,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](**json.load(sys.stdin))))
