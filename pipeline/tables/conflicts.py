"""The table ``conflicts``: names that stand for several types in one kernel.

Two steps, both in as many tasks as there are workers or more. The first groups the rows of
``types`` by kind, name and fingerprint; each task takes a part of all names. The second says in
words how definitions differ, for which it opens the BTF files of the modules that hold them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import btf
from btf.compare.reasons import DECLARED, REASONS
from btf.edit.concat import concat_split

from ..files.storage import Stored
from ..model.base import SharedBase
from .grouping import (
    Hashes,
    Pieces,
    batches,
    behind_one_another,
    distinct_per_group,
    grouped,
    hashes,
    shares_of,
    take_rows,
    with_modules,
)
from .schema import HASH, I64, TEXT, WORDS, Column, FinishedKernel, KernelTable

_REASONS = "; ".join(f"`{code}`: {meaning}" for code, meaning in REASONS.items())
_HASHES = ("layout_fingerprint", "declaration_fingerprint", "fingerprint")
_COLUMNS = ("global_id", "kind", "name", "size", *_HASHES)
LEVELS = {
    "layout": "they lie otherwise in memory",
    "declaration": "they are the same in memory, but not as C reads them: other types of the same "
    "layout, names of types, qualifiers",
    "fingerprint": "they say the same, but lead to something that is not the same, or differ in "
    "what a declaration does not count: names of parameters, linkage, tags",
    "declared": "they say the same, and so does all that they lead to, but for what one has only a "
    "forward declaration of",
}
TASKS_PER_WORKER = 4  # some names take longer than others to compare
_MAX_READ_BYTES = 2 << 20  # of BTF files that a worker opens as one
_MAX_OPEN_BYTES = 16 << 20  # of BTF files that it keeps open; what is made of them is as much
_LAST_BYTES = 6
LABELS = ("definition 1", "this one")
# What these are called is a text, not a name.
NAMELESS = ("DECL_TAG", "TYPE_TAG")


def _make(table: FinishedKernel) -> pa.Table:
    workforce, types, names = table.workforce, table.tables["types"], table.names
    count = shares_of(types, workforce.workers)
    shares = [(types, share, count) for share in range(count)]
    rows = pa.concat_tables(workforce.map(find_conflicts, shares))
    keys = ("kind", "name", "definition")
    rows = rows.sort_by([(key, "ascending") for key in keys])
    count = TASKS_PER_WORKER * workforce.workers
    order, tasks = _word_tasks(rows, names, (types, table.btf), count)
    words = [said for part in workforce.map(say_differences, tasks) for said in part]
    place = pa.array(np.argsort(order))
    for number, name in enumerate(("level", "reason", "difference")):
        column = pa.array([said[number] for said in words], pa.string())
        rows = rows.append_column(name, column.take(place))
    return with_modules(rows, names, TABLE.schema)


def find_conflicts(_: SharedBase, task: tuple[Sequence[Stored], int, int]) -> pa.Table:
    """Definitions of a share of all names (task: parts, share, of how many): rows of the table
    without words, and with object ids for modules."""
    parts, share, shares = task
    rows = Pieces(np.uint32, np.int64, np.uint16, np.uint64, np.uint64)
    names = []
    known_kinds: dict[str, int] = {}
    for start, batch in batches(parts, ("object_id", "kind", "name", "fingerprint")):
        text = batch["kind"].dictionary.to_pylist()
        length, mixed = _mixed(batch["name"])
        wanted = (length > 0) & (mixed % np.uint32(shares) == share)
        kind = batch["kind"].indices.to_numpy()
        wanted &= ~np.isin(text, NAMELESS)[kind]
        kept = np.flatnonzero(wanted)
        names.append(batch["name"].take(pa.array(kept)).dictionary_encode())
        of_text = [known_kinds.setdefault(each, len(known_kinds)) for each in text]
        kinds = np.array(of_text, np.uint16)[kind[kept]]
        values = hashes(batch["fingerprint"])[kept]
        object_ids = batch["object_id"].to_numpy()[kept]
        rows.add(object_ids, kept + start, kinds, values[:, 0], values[:, 1])
    name = _numbered(names)
    del names
    object_id, number, kind, *halves = rows.take()
    groups = grouped([name, kind, *halves])
    del halves
    holders = distinct_per_group(groups, object_id, at_least=1)[1]
    first, copies = groups.first, groups.sizes

    # Each group is a definition; those of one name and kind are neighbours.
    new = np.ones(len(first), np.bool_)
    new[1:] = (name[first[1:]] != name[first[:-1]]) | (kind[first[1:]] != kind[first[:-1]])
    meaning = np.cumsum(new) - 1
    definitions = np.bincount(meaning, minlength=1)[meaning] if len(first) else copies
    kept = np.flatnonzero(definitions > 1)
    in_base = object_id[first] == 0
    modules = holders.value_lengths().to_numpy() - in_base
    ranking = np.lexsort((first[kept], -modules[kept], ~in_base[kept], meaning[kept]))
    kept = kept[ranking]
    definition = np.arange(len(kept)) - np.searchsorted(meaning[kept], meaning[kept]) + 1
    chosen = take_rows(parts, _COLUMNS, number[first[kept]])
    return pa.table(
        {
            "kind": chosen["kind"].cast(pa.string()),
            "name": chosen["name"],
            "definitions": definitions[kept],
            "definition": definition,
            "size": chosen["size"],
            "copies": copies[kept],
            "in_base": in_base[kept],
            "module_count": modules[kept],
            "object_ids": _without_base(holders.take(pa.array(kept))),
            "global_id": chosen["global_id"],
            **{name: chosen[name] for name in _HASHES},
        }
    )


def _mixed(texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
    """The length of each text in bytes, and a number that equal texts share: of its length and
    last bytes, as names begin alike more often than they end alike."""
    _, ends, content = texts.buffers()
    ends = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    text = np.frombuffer(content or b"", np.uint8)
    length = np.diff(ends)
    mixed = length.astype(np.uint32)
    for back in range(1, min(_LAST_BYTES, int(length.max(initial=0))) + 1):
        there = np.flatnonzero(length >= back)
        mixed[there] += text[ends[there + 1] - back]
        mixed *= np.uint32(0x9E3779B1)
    return length, mixed >> np.uint32(8)


def _numbered(texts: Sequence[pa.DictionaryArray]) -> NDArray[np.int32]:
    """A number for each text, the same for equal ones."""
    whole = pa.chunked_array(texts, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    return behind_one_another([chunk.indices.to_numpy() for chunk in whole.chunks], np.int32)


def _without_base(object_ids: pa.ListArray) -> pa.ListArray:
    """The same lists without object 0."""
    values = object_ids.flatten().to_numpy()
    lengths = object_ids.value_lengths().to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    kept = np.bincount(row[values > 0], minlength=len(lengths))
    ends = np.append(0, np.cumsum(kept)).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(values[values > 0], pa.uint32()))


# One task of ``say_differences``: the rows of ``types`` of its kernel, in files that are named by
# their content, and the folder of its BTF files; names of the modules by object id where they are
# needed; global id and number of each definition, and which of them its layout or declaration tells
# from number 1.
_Kernel = tuple[Sequence[Stored], Stored]
_WordTask = tuple[
    _Kernel, dict[int, str], "NDArray[np.uint64]", "NDArray[np.int64]", "NDArray[np.str_]"
]
_Said = tuple[str | None, str | None, str | None]


def _word_tasks(
    rows: pa.Table, names: Sequence[str], kernel: _Kernel, count: int
) -> tuple[NDArray[np.int64], list[_WordTask]]:
    """Cut definitions into about that many parts, those of one name together, and names of the
    same modules, so that few files are opened: (rows in the order of the parts, the parts)."""
    global_id, number = rows["global_id"].to_numpy(), rows["definition"].to_numpy()
    starts = np.flatnonzero(number == 1)
    sizes = np.diff(np.append(starts, len(rows)))
    level = np.full(len(rows), "fingerprint", "U11")
    for name in ("declaration", "layout"):
        values = hashes(rows[f"{name}_fingerprint"].combine_chunks())
        level[(values != np.repeat(values[starts], sizes, axis=0)).any(axis=1)] = name
    by_module = np.argsort(global_id[starts + 1], kind="stable")
    starts, sizes = starts[by_module], sizes[by_module]
    ends = np.cumsum(sizes)
    order = np.arange(len(rows)) + np.repeat(starts - (ends - sizes), sizes)
    cuts = np.unique(np.searchsorted(ends, np.arange(1, count + 1) * len(rows) // count))
    tasks = []
    for part in np.split(order, ends[cuts[:-1]]) if len(rows) else ():
        ids = global_id[part]
        objects = {int(number): names[int(number)] for number in np.unique(ids >> 32)}
        tasks.append((kernel, objects, ids, number[part], level[part]))
    return order, tasks


def say_differences(base: SharedBase, task: _WordTask) -> list[_Said]:
    """Level, reason and words for each definition; none for those with the number 1."""
    kernel, names, *columns = task
    opened = _opened(base, kernel)
    said: list[_Said] = []
    waiting: list[tuple[int, int, str]] = []
    first = 0
    for global_id, number, level in zip(*(column.tolist() for column in columns), strict=True):
        if number == 1:
            first = global_id
        waiting.append((first, global_id, level))
        opened.read(first, names)
        opened.read(global_id, names)
        if opened.has_read_much:
            said += opened.say(waiting)
            waiting.clear()
    return said + opened.say(waiting)


class _Opened:
    """The BTF files of a kernel, opened as they are needed, and what was compared so far.

    Files that are read one after the other are opened as one BTF, as most of what a small one costs
    is calling.
    """

    def __init__(self, base: SharedBase, kernel: _Kernel) -> None:
        types, self._folder = kernel
        assert base.index.base is not None
        self._base = base.index.base
        self._known = base.fingerprints
        self._fingerprints = _by_object(types)
        self._start()

    def _start(self) -> None:
        # Late: no module has to wait for them.
        from btf.compare.alike import Fingerprinted
        from btf.types.objects import type_at

        self._type_at = type_at  # ``opened[...]`` would import it each time
        # By object: the BTF that its types are in, and by how much its own ids are higher there.
        self._files: dict[int, tuple[btf.BTF, int]] = {0: (self._base, 0)}
        self._file_bytes = 0
        self._read: dict[int, btf.BTF] = {}  # not yet among them
        self._read_bytes = 0
        self._types = Fingerprinted(self._base, self._known)
        key, ahead = self._types.key, self._types.ahead
        self._differences = btf.Differences(LABELS, key, ahead)
        self._but_for_declared = btf.Differences(
            LABELS, key, ahead, declared_is_same=True, like=self._differences
        )

    def read(self, global_id: int, names: dict[int, str]) -> None:
        """Read the file that a type is in; ``names`` of the modules by number."""
        object_id = global_id >> 32
        if object_id in self._files or object_id in self._read:
            return
        name = f"{names[object_id]}.btf"
        content = self._folder.read(name)
        self._read[object_id] = btf.parse(content, self._base, path=f"{self._folder}/{name}")
        self._read_bytes += len(content)

    @property
    def has_read_much(self) -> bool:
        """Whether it is time to say something, and let go of it."""
        return self._read_bytes > _MAX_READ_BYTES

    def say(self, pairs: Sequence[tuple[int, int, str]]) -> list[_Said]:
        """Level, reason and words for pairs of types, whose files were read since the last call:
        two global ids, which are the same in a name's first definition, and the level that their
        layouts and declarations tell."""
        if self._read:
            whole, before = concat_split(list(self._read.values())), 0
            for object_id, split in self._read.items():
                self._files[object_id] = whole, before
                before += split.type_count
            values = [piece for number in self._read for piece in self._fingerprints[number]]
            self._types.add(whole, np.concatenate(values))
            self._file_bytes += self._read_bytes
            self._read, self._read_bytes = {}, 0
        said = [self._said(*pair) for pair in pairs]
        if self._file_bytes > _MAX_OPEN_BYTES:
            self._start()  # what was compared keeps files open too
        return said

    def _said(self, first: int, second: int, level: str) -> _Said:
        if first == second:
            return None, None, None
        pair = self._type(first), self._type(second)
        difference = self._differences.between(*pair)
        if difference is None:
            return level, None, None
        if level == "fingerprint" and difference.reason == DECLARED:
            # Perhaps nothing but forward declarations tells them apart.
            level = "fingerprint" if self._but_for_declared.between(*pair) else "declared"
        return level, difference.reason, str(difference)

    def _type(self, global_id: int) -> btf.Type:
        """A type of the base or of a module."""
        opened, before = self._files[global_id >> 32]
        return self._type_at(opened, (global_id & 0xFFFFFFFF) + before)


def _by_object(types: Sequence[Stored]) -> dict[int, list[Hashes]]:
    """The fingerprints of the types of each object, in pieces, 16 bytes a type: read, as working
    them out again takes longer."""
    found: dict[int, list[Hashes]] = defaultdict(list)
    for _, batch in batches(types, ("object_id", "fingerprint")):
        object_id = batch["object_id"].to_numpy()
        starts = np.flatnonzero(np.diff(object_id, prepend=-1))
        pieces = np.split(hashes(batch["fingerprint"]), starts[1:])
        for number, piece in zip(object_id[starts].tolist(), pieces, strict=True):
            found[number].append(piece)
    return found


# The last kernel that this process had to do with: there are several tasks for each.
_last: dict[str, _Opened] = {}


def _opened(base: SharedBase, kernel: _Kernel) -> _Opened:
    name = " ".join(map(str, kernel[0]))
    if name not in _last:
        _last.clear()
        _last[name] = _Opened(base, kernel)
    return _last[name]


TABLE = KernelTable(
    name="conflicts",
    rank=60,
    row="one row per definition of a kind and name that have several in this kernel",
    order="kind, name, definition",
    columns=(
        Column("kind", WORDS, "", "BTF kind: STRUCT, FUNC, TYPEDEF, …"),
        Column("name", TEXT, "", "the name; tags are not names"),
        Column("definitions", I64, "", "how many different types have this kind and name"),
        Column(
            "definition",
            I64,
            "",
            "number from 1: that of the base first, then by the number of modules",
        ),
        Column("size", I64, "bytes", "size of the C type; null for kinds that have none"),
        Column("copies", I64, "types", "how often it is there"),
        Column("in_base", pa.bool_(), "", "whether the base has it"),
        Column("module_count", I64, "modules", "modules that keep it, the base not counted"),
        Column("modules", pa.list_(TEXT), "", "their names"),
        Column(
            "level",
            WORDS,
            "",
            "how much it differs from definition 1; "
            + "; ".join(f"`{level}`: {meaning}" for level, meaning in LEVELS.items()),
        ),
        Column("reason", WORDS, "", f"what differs from definition 1; {_REASONS}"),
        Column("difference", TEXT, "", "difference from definition 1 in words; null for that one"),
        Column("global_id", I64, "", "the first type that is defined so"),
        *(Column(name, HASH, "", "see the table types") for name in _HASHES),
    ),
    make=_make,
)
