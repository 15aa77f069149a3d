"""The reference for fingerprints: which types no walk tells apart, by plain partition refinement.

Standard library and naive.py only, nothing from btf/: an oracle must not import what it checks. All
types of all files are thrown into one pot. At first two types are in one class when their records
agree but for the type ids in them; then every type is looked at with the classes of what it refers
to, again and again, until no class is split any more. A type that is alone in its class stays so.
Slow: each round looks at all the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from support.oracles import naive_btf

Place = tuple[str, int]  # file, type id


def classes(files: dict[str, naive_btf.Btf], base_by_id: bool = False) -> dict[Place, int]:
    """The class of every own type of every file, by (file, type id).

    Files may continue one base; it is a file like any other if it is named itself. With
    `base_by_id` a type of the base is not looked into: it is the same only as itself.
    """
    levels: dict[int, naive_btf.Btf] = {}
    for btf in files.values():
        level: naive_btf.Btf | None = btf
        while level is not None and id(level) not in levels:
            levels[id(level)] = level
            level = level.base
    own = {id(btf) for btf in files.values()}
    where: dict[tuple[int, int], int] = {}  # by the level's id() and the type's
    for key, level in levels.items():
        for type_id in range(level.start_id, level.end_id):
            where[key, type_id] = len(where)

    def node(btf: naive_btf.Btf, type_id: int) -> int:
        level: naive_btf.Btf | None = btf
        while level is not None and type_id < level.start_id:
            level = level.base
        return where[id(level), type_id] if level is not None else -1

    labels: list[object] = []
    references: list[list[int]] = []
    for key, level in levels.items():
        for type_id, words in enumerate(level.types, level.start_id):
            if base_by_id and key not in own:
                labels.append(("base", key, type_id))
                references.append([])
                continue
            ids, strings = naive_btf.id_words(words), naive_btf.string_words(words)
            label: list[object] = list(words)
            for word in ids:
                label[word] = "type"
            for word in strings:
                label[word] = level.text(words[word])
            labels.append(tuple(label))
            references.append([node(level, words[word]) for word in ids])

    found = [*numbered(labels), -1]  # the last is void, node -1
    shared = list(range(len(labels)))
    while True:
        sizes = Counter(found[number] for number in shared)
        shared = [number for number in shared if sizes[found[number]] > 1]
        rows = [(found[number], *[found[ref] for ref in references[number]]) for number in shared]
        refined = numbered(rows)
        if len(set(refined)) == len({found[number] for number in shared}):
            break
        above = max(found) + 1
        for number, refined_number in zip(shared, refined, strict=True):
            found[number] = above + refined_number
    return {
        (name, btf.start_id + i): found[where[id(btf), btf.start_id + i]]
        for name, btf in files.items()
        for i in range(len(btf.types))
    }


def numbered(rows: Sequence[object]) -> list[int]:
    """The same number for equal rows."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(row, len(numbers)) for row in rows]


def same_partition(one: Mapping[Place, object], other: Mapping[Place, object]) -> bool:
    """Whether two ways to tell types apart are the same one."""
    assert one.keys() == other.keys()
    pairs = {(one[place], other[place]) for place in one}
    return len(pairs) == len(set(one.values())) == len(set(other.values()))


Row = tuple[str, str, int, int, tuple[str, ...]]  # kind, name, bytes each, copies, modules


def duplicates(modules: dict[str, naive_btf.Btf], found: dict[Place, int]) -> list[Row]:
    """Classes of own types that two or more modules keep, types of their base being themselves:
    ``found`` is ``classes(modules, base_by_id=True)``."""
    members: dict[int, list[Place]] = defaultdict(list)
    for place, number in found.items():
        members[number].append(place)
    rows = []
    for places in members.values():
        names = tuple(sorted({name for name, _ in places}))
        if len(names) > 1:
            name, type_id = places[0]
            btf = modules[name]
            words = btf.types[type_id - btf.start_id]
            kind = naive_btf.KIND_NAMES[naive_btf.kind_of(words)]
            rows.append((kind, btf.text(words[0]).decode(), 4 * len(words), len(places), names))
    return sorted(rows)


# What a DECL_TAG or TYPE_TAG is called is its text, not a name that could be looked up.
NAMELESS = (naive_btf.DECL_TAG, naive_btf.TYPE_TAG)

Definitions = dict[tuple[str, str], list[tuple[str, ...]]]


def conflicts(files: dict[str, naive_btf.Btf], found: dict[Place, int]) -> Definitions:
    """(kind, name) with several meanings -> for each of these types, the files that hold it.
    ``found`` is ``classes(files)``."""
    meanings: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (name, type_id), number in found.items():
        btf = files[name]
        words = btf.types[type_id - btf.start_id]
        kind = naive_btf.kind_of(words)
        text = btf.text(words[0]).decode()
        if text and kind not in NAMELESS:
            meanings[naive_btf.KIND_NAMES[kind], text][number].add(name)
    return {
        key: sorted(tuple(sorted(names)) for names in holders.values())
        for key, holders in meanings.items()
        if len(holders) > 1
    }
