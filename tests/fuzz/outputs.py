"""Mutants of output folders: what every command does with an OUT that was damaged, or prepared.

Whatever stands in it, nothing outside is changed or read, each command answers or refuses with a
message, and a run leaves files that are those of a run into an empty folder, or says otherwise.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import mutate
from fuzz.operations import digest, expect
from pipeline.analysis.explain import Explanations
from pipeline.analysis.find import find
from pipeline.analysis.layers import layer_kernels
from pipeline.analysis.query import Tables
from pipeline.analysis.questions import questions
from pipeline.model.errors import CommandError, OutputError
from pipeline.model.options import RunOptions
from pipeline.run import run
from pipeline.store.output import read_manifests, read_table
from support.commands import commands, splitbtf
from support.runs import small_kernel
from support.trees import files_below

WORDS: tuple[Any, ...] = (
    None, 0, -1, 1 << 70, 1.5, True, "", ".", "..", "../../victim", "/etc", "a/b", "a\nb",
    "\x1b[2J", "x" * 5000, "\udcff", [], {},
    "versions/kernel=k/../../../victim", "tables/../../victim/secret",
    "s3://bucket/x", "k'; DROP TABLE modules; --", "btf/kernel=k", "2", "*",
)  # fmt: skip
TABLES = ("modules", "types", "members", "misses", "kernels", "runs", "duplicates", "conflicts")
Command = Callable[[Path, Path], object]


def _query(out: Path, source: Path) -> object:
    with Tables(str(out)) as tables:
        return [tables.ask(f"SELECT * FROM {name}").rows for name in TABLES]


def _explain(out: Path, source: Path) -> object:
    with Explanations(str(out)) as explanations:
        (found,) = explanations.of("k", "one")
        return [found.of_kernel(), found.of_module(), found.of_type("struct driver")]


def _read(out: Path, source: Path) -> object:
    kernels = [manifest.kernel for manifest in read_manifests(out)]
    return kernels, read_table(out, "modules").num_rows


def _run(out: Path, source: Path) -> object:
    report = run(RunOptions((str(source),), str(out), engine="local", workers=1))
    for kernel in report.kernels:
        if kernel.problem is not None:  # a place in OUT that cannot be used
            raise OutputError(kernel.problem)
    return report.run_id


def _spoken(*ways: tuple[str, ...]) -> Command:
    """Command lines: each is answered or refused in words."""

    def run_all(out: Path, source: Path) -> object:
        statuses = []
        for way in ways:
            done = splitbtf(*(str(out) if word == "OUT" else word for word in way))
            said = done.out + done.err
            expect(done.code in (0, 1, 2), f"{way}: exit status {done.code}")
            expect(done.code != 2 or done.err, f"{way}: status 2, and no word why")
            expect("a bug in splitbtf" not in said, f"{way}: {said}")
            odd = {c for c in said if ord(c) < 32 and c not in "\n\t"}
            expect(not odd, f"{way}: control characters {odd}")
            statuses.append(done.code)
        return statuses

    return run_all


# Those that the command line does not have yet are left out.
SPOKEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "verify": (("verify", "OUT"),),
    "diff": (
        ("diff", "k", "older", "--in", "OUT"),
        ("diff", "older", "k", "--in", "OUT", "--json"),
    ),
    "audit": (("audit", "OUT"),),
    "questions": tuple(("query", "OUT", name, "--format=csv") for name in questions()),
    "ls": (("ls", "OUT"), ("ls", "OUT", "--json")),
    "history": (("history", "driver", "OUT"), ("history", "driver.a", "OUT", "--json")),
    "show": (("show", "driver", "OUT"),),
    "report": (("report", "OUT", "-o", "/dev/null"),),
}
COMMANDS: dict[str, Command] = {
    "query": _query, "explain": _explain, "read": _read, "run": _run,
    **{name: _spoken(*ways) for name, ways in SPOKEN.items() if ways[0][0] in commands()},
    "find": lambda out, source: find("driver", [str(out)]),
    "layers": lambda out, source: layer_kernels(str(out), str(out.parent / "layers")),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """``files``: what is in the folder, by relative path: bytes, or where a link leads."""

    command: str
    files: dict[str, bytes | str]


class OutputTarget:
    """One command on an OUT that is a mutant."""

    name = "outputs"
    is_compiled = False

    def prepare(self) -> None:
        """The sound OUT, and every command on it."""
        for command in COMMANDS:
            list(self.run(Mutant(command, sound())))

    def mutant(self, seed: int) -> Mutant:
        roll = random.Random(seed)
        files = dict(sound())
        for _ in range(roll.choice((1, 1, 2, 3))):
            _change(files, roll)
        return Mutant(list(COMMANDS)[seed % len(COMMANDS)], files)

    def group(self, mutant: Mutant) -> str:
        return f"{mutant.command} on OUT"

    def size(self, mutant: Mutant) -> int:
        return sum(map(len, mutant.files.values()))

    def run(self, mutant: Mutant) -> Iterator[bytes]:
        with tempfile.TemporaryDirectory(prefix="splitbtf-fuzz-", dir="/dev/shm") as place:
            folder = Path(place)
            out, victim = folder / "a" / "out", folder / "victim"
            victim.mkdir()
            (victim / "secret").write_bytes(b"PAR1 what nobody may read\n")
            (victim / "keep.btf").write_bytes(b"what nobody may delete\n")
            before = files_below(victim)
            write(mutant.files, out)
            refused = None
            try:
                COMMANDS[mutant.command](out, source())
            except CommandError as error:
                refused = error
            finally:
                expect(files_below(victim) == before, "a folder outside of OUT has changed")
                strays = {path.name for path in folder.iterdir()} - {"a", "victim"}
                expect(not strays, f"beside OUT now: {strays}")
            yield digest(mutant.command)
            if refused is not None:
                raise refused
            if mutant.command == "run":
                expect(_results(out) == _results_of_sound(), "other results than in an empty OUT")

    def allowed(self, mutant: Mutant) -> tuple[type[Exception], ...]:
        return ()

    def shrunk(self, mutant: Mutant) -> Iterator[Mutant]:
        """One change fewer: a file as it was."""
        whole = sound()
        for path in {*mutant.files, *whole}:
            if mutant.files.get(path) != whole.get(path):
                files = {k: v for k, v in mutant.files.items() if k != path}
                if path in whole:
                    files[path] = whole[path]
                yield Mutant(mutant.command, files)

    def files(self, mutant: Mutant) -> dict[str, bytes]:
        listed = {path: text if isinstance(text, str) else list(text)
                  for path, text in mutant.files.items()}  # fmt: skip
        return {"out.json": json.dumps([mutant.command, listed]).encode()}

    def again(self, group: str, seed: int, files: dict[str, bytes]) -> Mutant:
        command, listed = json.loads(files["out.json"])
        return Mutant(command, {path: text if isinstance(text, str) else bytes(text)
                                for path, text in listed.items()})  # fmt: skip


def _results(out: Path) -> dict[str, bytes]:
    """Committed split BTF, as readers find it."""
    return files_below(out / "btf" / "kernel=k")


@functools.cache
def _results_of_sound() -> dict[str, bytes]:
    return _results(_place() / "out")


@functools.cache
def _place() -> Path:
    """A folder of this process, with a kernel and the OUT of a run."""
    place = Path(tempfile.mkdtemp(prefix="splitbtf-fuzz-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not at the end of a forked one
            shutil.rmtree(place, ignore_errors=True)

    atexit.register(remove)
    for name in ("k", "older"):
        small_kernel(place / name)
    (place / "older" / "three.btf").rename(place / "older" / "two.btf")
    sources = tuple(str(place / name) for name in ("k", "older"))
    run(RunOptions(sources, str(place / "out"), engine="local", workers=1))
    return place


def source() -> Path:
    """The kernel that OUT is of."""
    return _place() / "k"


@functools.cache
def sound() -> dict[str, bytes | str]:
    """Everything in the OUT."""
    out, found = _place() / "out", dict[str, bytes | str]()
    for parent, folders, names in os.walk(out):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path.relative_to(out))] = os.readlink(path)
            elif path.is_file():
                found[str(path.relative_to(out))] = path.read_bytes()
    return found


def write(files: dict[str, bytes | str], out: Path) -> None:
    """What of it can be written: a file and a folder of one name cannot."""
    out.mkdir(parents=True)
    for name, content in sorted(files.items()):
        with contextlib.suppress(OSError, ValueError):
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)


# ------------------------------------------------------------------------------------ mutation


def _change(files: dict[str, bytes | str], roll: random.Random) -> None:
    path = roll.choice(sorted(files))
    content = files[path]
    match roll.randrange(8):
        case 0 | 1 | 2 if path.endswith(".json") or roll.random() < 0.6:
            path = roll.choice([path for path in sorted(files) if path.endswith(".json")])
            content = files[path]
            if isinstance(content, bytes):
                files[path] = _other_json(content, roll)
        case 3:
            del files[path]
        case 4:  # a link instead, of the file or of a folder above it
            parts = path.split("/")
            depth = roll.randrange(1, len(parts) + 1)
            link = "/".join(parts[:depth])
            for inside in [name for name in files if f"{name}/".startswith(f"{link}/")]:
                del files[inside]
            up = "../" * (depth + 1)
            files[link] = up + roll.choice(("victim", "victim/secret", "victim/keep.btf", "none"))
        case 5:
            name = roll.choice(("kernel=x", "x.json", ".tmp-1", "kernel=k", "k\n.json", "-rf"))
            files[f"{path.rpartition('/')[0]}/{name}"] = roll.choice((b"", b"{}", "../../victim"))
        case 6:
            other = roll.choice(sorted(files))
            files[path], files[other] = files[other], content
        case _ if isinstance(content, bytes):
            files[path] = mutate.noise(content, roll)


def _other_json(content: bytes, roll: random.Random) -> bytes:
    """Another value somewhere, a key more or fewer."""
    try:
        whole = json.loads(content)
    except ValueError:
        return mutate.noise(content, roll)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    if isinstance(whole, (dict, list)):
        walk(whole)
    if not places:
        return b"[]"
    holder, key = roll.choice(places)
    if roll.random() < 0.2:
        del holder[key]
    else:
        holder[key] = roll.choice(WORDS)
    return json.dumps(whole).encode()
