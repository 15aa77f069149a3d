"""Seeded (base, module) pairs, and the digests that libbpf gives for them.

`build(case)` makes the bytes of one case, `cases()` lists them all, `vectors/contract.tsv` holds
what libbpf's dedup made of each. Run as a program, this file writes that table again:

    PYTHONPATH=tests python -m support.vectors ORACLE

ORACLE is tests/support/oracles/libbpf_oracle.c built on libbpf f7081a6b with its array comparison
mended.

How a pair comes about. A *world* is one graph of types, each type once: what a whole source tree
declares. A *unit* is what one compilation unit shows of it: a part of the graph, copied, in an
order of
its own, with some definitions out of sight (forward declarations), some declared otherwise (same
name,
another layout), some written twice although they are the same. A base or a module is a few units
one
after the other; a base is then deduplicated, as a vmlinux's is, or left as it is.

Anonymous structs come in families whose members have the same names and offsets and point to
different records. With forward declarations among those, several candidates fit, and which one wins
depends on libbpf's candidate order: see `naive.CandidateTable`.

Only `random.Random.random()` is drawn from, so a seed gives the same bytes on every Python.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from support import btfwriter as bw
from support import handmade
from support.oracles import naive, naive_btf
from support.paths import DATA

T = TypeVar("T")
CONTRACT = DATA / "vectors" / "contract.tsv"
MODES = ("split", "plain", "resplit", "merge")

INTS = (
    ("int", 4, bw.SIGNED),
    ("unsigned int", 4, 0),
    ("char", 1, bw.SIGNED),
    ("long unsigned int", 8, 0),
    ("_Bool", 1, bw.BOOL),
    ("short int", 2, bw.SIGNED),
    ("u128", 16, 0),
)
NAMES = [
    "queue",
    "inode",
    "skb",
    "cred",
    "zone",
    "slab",
    "mount",
    "dentry",
    "socket",
    "rq",
    "hrtimer",
    "vma",
    "bdi",
    "kobj",
    "cgroup",
    "tty",
]
FIELDS = ["next", "owner", "flags", "count", "lock", "private", "state", "ops", "size", "id"]
MODIFIERS = (bw.CONST, bw.VOLATILE, bw.RESTRICT)
NOTHING = -1  # a reference to void


class Dice:
    """All randomness, from `random()` alone."""

    def __init__(self, seed: int) -> None:
        self.roll = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.roll() * n)

    def chance(self, p: float) -> bool:
        return self.roll() < p

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def some(self, items: Iterable[T], share: float) -> list[T]:
        return [item for item in items if self.chance(share)]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        return [
            item for _, item in sorted((self.roll(), i, item)[::2] for i, item in enumerate(items))
        ]


@dataclass
class Node:
    """A type whose references are indices into the list that it stands in."""

    kind: int
    name: str = ""
    size: int = 0
    flag: int = 0
    refs: list[int] = field(
        default_factory=list
    )  # ARRAY: element, index; FUNC_PROTO: return, params
    names: list[str] = field(default_factory=list)  # of members, enumerators, parameters
    nums: list[int] = field(default_factory=list)  # offsets, values, linkage, encoding, component …

    def copy(self, refs: list[int] | None = None) -> Node:
        kept = list(self.refs) if refs is None else refs
        return dataclasses.replace(self, refs=kept, names=list(self.names), nums=list(self.nums))

    @property
    def is_record(self) -> bool:
        return self.kind in (bw.STRUCT, bw.UNION)


@dataclass
class Knobs:
    """How large a pair is and how much its units differ."""

    records: int = 10
    families: int = 2
    base_units: int = 2
    module_units: int = 3
    share: float = 0.6  # of the world that a unit shows
    hidden: float = 0.3  # records of which it shows a forward declaration only
    hidden_enums: float = 0.2
    varied: float = 0.05
    twins: float = 0.05
    base_deduped: bool = True
    strings: str = "plain"  # or "copies" (strings twice), "tails" (offsets into other strings)
    order: str = "<"


def knobs_of(seed: int) -> Knobs:
    """The first sixteen seeds run through the combinations, later ones are drawn."""
    dice = Dice(seed * 31 + 7)
    knobs = Knobs(
        hidden=dice.pick([0.1, 0.3, 0.6]),
        varied=dice.pick([0.0, 0.03, 0.12]),
        twins=dice.pick([0.0, 0.05, 0.15]),
        share=dice.pick([0.3, 0.6, 0.9]),
        base_deduped=seed % 3 != 2,
        strings=("plain", "plain", "copies", "tails")[seed % 4],
        order=">" if seed % 8 == 5 else "<",
    )
    if seed % 6 == 4:  # the candidate table grows some six times while the module is read
        knobs.records, knobs.families, knobs.module_units, knobs.base_units = 60, 12, 8, 3
    elif seed % 6 == 1:
        knobs.families, knobs.hidden, knobs.module_units = 8, 0.6, 6
    return knobs


# ------------------------------------------------------------------------------------------ world


class World:
    """Every declaration of one imaginary source tree, each type once."""

    def __init__(self, dice: Dice, knobs: Knobs) -> None:
        self.dice = dice
        self.nodes: list[Node] = []
        self.known: dict[tuple, int] = {}
        pool = NAMES if knobs.records < 30 else [f"{n}_{i}" for i in range(4) for n in NAMES]
        self.ints = [
            self.add(Node(bw.INT, name, size, nums=[encoding << 24 | size * 8]))
            for name, size, encoding in INTS
        ]
        self.floats = [self.add(Node(bw.FLOAT, "double", 8)), self.add(Node(bw.FLOAT, "float", 4))]
        self.enums = [self.enum(dice.pick(pool)) for _ in range(3 + knobs.records // 4)]
        self.enums += [self.enum("") for _ in range(2)]
        self.scalars = [*self.ints, *self.floats, *self.enums]
        # Records exist before their members do: pointers may lead anywhere, cycles included.
        self.records = [
            self.add(Node(bw.UNION if dice.chance(0.2) else bw.STRUCT, dice.pick(pool)))
            for _ in range(knobs.records)
        ]
        self.typedefs: list[int] = []
        for i in range(2 + knobs.records // 3):
            target = dice.pick([*self.scalars, *self.records, self.pointer(), self.proto()])
            self.typedefs.append(self.add(Node(bw.TYPEDEF, f"{dice.pick(pool)}_t", refs=[target])))
            if i == 0 and dice.chance(0.15):
                self.typedefs.append(self.recursive_typedef())
        for record in self.records:
            self.fill(record, depth=2)
        for _ in range(knobs.families):
            self.family()
        self.functions(pool, knobs)

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def once(self, node: Node) -> int:
        """The same reference type again gives the same node."""
        key = (node.kind, node.name, node.flag, *node.refs, *node.names, *node.nums)
        if key not in self.known:
            self.known[key] = self.add(node)
        return self.known[key]

    def enum(self, name: str) -> int:
        kind = bw.ENUM64 if self.dice.chance(0.3) else bw.ENUM
        stem = name.upper() or f"E{len(self.nodes)}"
        values = [
            self.dice.pick([i, -i - 1, i << 33 if kind == bw.ENUM64 else i << 5]) for i in range(3)
        ]
        count = self.dice.pick([1, 2, 3])
        return self.add(
            Node(
                kind,
                name,
                8 if kind == bw.ENUM64 else 4,
                int(min(values[:count]) < 0),
                names=[f"{stem}_{i}" for i in range(count)],
                nums=values[:count],
            )
        )

    def modified(self, target: int) -> int:
        dice = self.dice
        if dice.chance(0.15):
            target = self.once(Node(dice.pick(MODIFIERS), refs=[target]))
        if dice.chance(0.1):
            target = self.once(
                Node(bw.TYPE_TAG, dice.pick(["user", "rcu", "percpu"]), 0, dice.below(2), [target])
            )
        return target

    def pointer(self, target: int | None = None) -> int:
        dice = self.dice
        if target is None:
            choices = [dice.pick(self.records)] * 4 + [dice.pick(self.scalars), NOTHING]
            target = dice.pick(choices + ([dice.pick(self.typedefs)] if self.typedefs else []))
        return self.once(Node(bw.PTR, refs=[self.modified(target)]))

    def proto(self) -> int:
        dice = self.dice
        params = [
            dice.pick([self.pointer(), dice.pick(self.scalars)]) for _ in range(dice.below(4))
        ]
        named = dice.chance(0.4)
        names = [dice.pick(FIELDS) if named else "" for _ in params]
        if params and dice.chance(0.1):
            params, names = [*params, NOTHING], [*names, ""]  # variadic
        result = dice.pick([NOTHING, dice.pick(self.scalars), self.pointer()])
        return self.once(Node(bw.FUNC_PROTO, refs=[result, *params], names=names))

    def recursive_typedef(self) -> int:
        """A typedef that reaches itself without any struct."""
        me = self.add(Node(bw.TYPEDEF, "again_t", refs=[NOTHING]))
        inner = self.add(Node(bw.PTR, refs=[me]))
        if self.dice.chance(0.5):
            inner = self.add(Node(bw.FUNC_PROTO, refs=[inner, me], names=["self"]))
        self.nodes[me].refs = [inner]
        return me

    def member_type(self, depth: int) -> int:
        dice = self.dice
        choices: list[Callable[[], int]] = [self.pointer] * 4 + [
            lambda: dice.pick(self.scalars)
        ] * 3
        choices += [
            lambda: dice.pick(self.typedefs),
            lambda: self.pointer(self.proto()),
            self.array,
        ]
        if depth:
            choices.append(lambda: self.anonymous(depth - 1))
        return dice.pick(choices)()

    def array(self) -> int:
        element = self.dice.pick([self.pointer, lambda: self.dice.pick(self.scalars)])()
        return self.once(
            Node(bw.ARRAY, refs=[element, self.ints[0]], nums=[self.dice.pick([0, 4, 8])])
        )

    def anonymous(self, depth: int) -> int:
        node = self.add(Node(self.dice.pick([bw.STRUCT, bw.UNION])))
        self.fill(node, depth)
        return node

    def fill(self, record: int, depth: int) -> None:
        dice, node = self.dice, self.nodes[record]
        node.flag = int(dice.chance(0.2))
        for i in range(dice.below(6)):
            bits = 1 + dice.below(7) if node.flag and dice.chance(0.6) else 0
            at = 0 if node.kind == bw.UNION else 64 * i + (dice.below(8) if bits else 0)
            target = dice.pick(self.ints) if bits else self.member_type(depth)
            anonymous = self.nodes[target].is_record and not self.nodes[target].name
            node.names.append("" if anonymous and dice.chance(0.6) else FIELDS[i])
            node.refs.append(target)
            node.nums.append(bw.bitfield(bits, at))
        node.size = 8 * (1 if node.kind == bw.UNION else len(node.refs))

    def family(self) -> None:
        """Anonymous structs of one signature, each with pointers of its own, behind a named one."""
        dice = self.dice
        width = 1 + dice.below(2)
        members = []
        for _ in range(2 + dice.below(3)):
            refs = [self.pointer(dice.pick(self.records)) for _ in range(width)]
            nums = [64 * i for i in range(width)]
            members.append(
                self.add(Node(bw.STRUCT, "", 8 * width, 0, refs, ["head", "tail"][:width], nums))
            )
        holder = Node(bw.STRUCT, f"holder_{len(self.nodes)}", 8 * len(members), 0, members)
        holder.names = [FIELDS[i] for i in range(len(members))]
        holder.nums = [64 * i for i in range(len(members))]
        self.records.append(self.add(holder))

    def functions(self, pool: list[str], knobs: Knobs) -> None:
        dice = self.dice
        variables = []
        for i in range(2 + knobs.records // 5):
            func = self.add(
                Node(bw.FUNC, f"do_{dice.pick(pool)}", refs=[self.proto()], nums=[dice.below(3)])
            )
            var = self.add(
                Node(bw.VAR, f"the_{i}", refs=[self.member_type(0)], nums=[dice.below(3)])
            )
            variables.append(var)
            for target in (func, var, dice.pick(self.records), dice.pick(self.typedefs)):
                if dice.chance(0.4):
                    self.tag(target)
        self.tag(dice.pick(self.records))
        nums = [num for i in range(len(variables)) for num in (16 * i, 8)]
        self.add(Node(bw.DATASEC, ".data", 16 * len(variables), refs=variables, nums=nums))

    def tag(self, target: int) -> None:
        of, dice = self.nodes[target], self.dice
        limit = len(of.refs) if of.is_record else 0
        component = dice.below(limit) if limit and dice.chance(0.5) else -1
        value = dice.pick(["guarded", "nullable", "kfunc"])
        self.add(Node(bw.DECL_TAG, value, flag=dice.below(2), refs=[target], nums=[component]))


# ------------------------------------------------------------------------------------------- unit


def unit(world: World, dice: Dice, knobs: Knobs) -> list[Node]:
    """What one compilation unit shows of the world."""
    nodes = world.nodes
    named = [i for i, n in enumerate(nodes) if n.is_record and n.name]
    hidden = set(dice.some(named, knobs.hidden))
    hidden |= {i for i in world.enums if nodes[i].name and dice.chance(knobs.hidden_enums)}
    shown: dict[int, int] = {}
    out: list[Node] = []
    waiting = dice.some(range(len(nodes)), knobs.share * 0.5) or [0]
    while waiting:
        i = waiting.pop()
        if i in shown:
            continue
        shown[i] = len(out)
        node = nodes[i]
        if i not in hidden:
            out.append(node.copy())
            waiting += [ref for ref in node.refs if ref != NOTHING]
        elif node.is_record:
            out.append(Node(bw.FWD, node.name, flag=int(node.kind == bw.UNION)))
        else:
            out.append(Node(bw.ENUM, node.name, dice.pick([4, node.size])))
    for node in out:
        node.refs = [NOTHING if ref == NOTHING else shown[ref] for ref in node.refs]
    vary(out, dice, knobs.varied)
    write_twice(out, dice, knobs.twins)
    return permuted(out, dice.pick([list, list, lambda o: o[::-1], dice.shuffled])(range(len(out))))


def vary(nodes: list[Node], dice: Dice, share: float) -> None:
    """Declares some types otherwise than the other units do."""
    for node in dice.some(nodes, share):
        what = dice.below(6)
        alike = [
            i for i, n in enumerate(nodes) if node.refs and n.kind == nodes[node.refs[-1]].kind
        ]
        if what == 0 and (node.is_record or node.kind == bw.INT):
            node.size *= 2
        elif what == 1 and node.is_record and node.names:
            node.names[-1] += "_"
        elif what == 2 and node.is_record and node.nums:
            node.nums[-1] ^= 8
        elif what == 3 and node.kind in (bw.ENUM, bw.ENUM64) and node.nums:
            node.nums[-1] += 1
        elif what == 4 and node.is_record:
            node.kind = bw.STRUCT if node.kind == bw.UNION else bw.UNION
        elif (
            alike
            and node.refs[-1] != NOTHING
            and (
                # Nowhere else: a cycle of pointers alone could come of it, and libbpf refuses
                # those.
                node.is_record or (node.kind == bw.PTR and nodes[node.refs[-1]].is_record)
            )
        ):
            node.refs[-1] = dice.pick(alike)


def write_twice(nodes: list[Node], dice: Dice, share: float) -> None:
    """Copies some types, alone or with what they lead to; the copy gets half of the references."""
    sound = [i for i, n in enumerate(nodes) if n.kind not in (bw.VAR, bw.DATASEC, bw.DECL_TAG)]
    for original in dice.some(sound, share):
        copies: dict[int, int] = {}
        reach = dice.pick([1, 1, 3, 6])
        level = [original]
        for _ in range(reach):
            level = [i for i in level if i not in copies and nodes[i].kind != bw.VAR]
            for i in level:
                if i not in copies:
                    copies[i] = len(nodes)
                    nodes.append(nodes[i].copy())
            level = [ref for i in level for ref in nodes[i].refs if ref != NOTHING]
        for copy in copies.values():
            nodes[copy].refs = [copies.get(ref, ref) for ref in nodes[copy].refs]
        for node in nodes:
            node.refs = [
                copies[ref] if ref == original and dice.chance(0.5) else ref for ref in node.refs
            ]


def permuted(nodes: list[Node], order: list[int]) -> list[Node]:
    place = {old: new for new, old in enumerate(order)} | {NOTHING: NOTHING}
    return [nodes[old].copy([place[ref] for ref in nodes[old].refs]) for old in order]


def joined(units: list[list[Node]]) -> list[Node]:
    out: list[Node] = []
    for nodes in units:
        shift = len(out)
        out += [n.copy([r if r == NOTHING else r + shift for r in n.refs]) for n in nodes]
    return out


# ------------------------------------------------------------------------------------------ bytes


def written(nodes: list[Node], writer: bw.Writer, dice: Dice, strings: str) -> bw.Writer:
    """Writes nodes with a writer; `strings` says how its string section is made."""
    first = writer.next_id
    copied: dict[str, list[int]] = {}

    def text(name: str) -> int:
        if not name:
            return 0
        if strings == "tails" and writer.find_string(name.encode()) is None and dice.chance(0.4):
            whole = writer.string("re_" + name)
            writer.offsets[name.encode()] = whole + 3
        if strings == "copies" and dice.chance(0.1):
            copied.setdefault(name, []).append(writer.string(name, fresh=True))
        return dice.pick([writer.string(name), *copied.get(name, [])])

    for n in nodes:
        refs = [0 if ref == NOTHING else ref + first for ref in n.refs]
        name = text(n.name)
        names = [text(name) for name in n.names]
        if n.is_record:
            members = list(zip(names, refs, n.nums, strict=True))
            writer.struct(name, n.size, members, n.flag, kind=n.kind)
        elif n.kind in (bw.ENUM, bw.ENUM64):
            values = list(zip(names, n.nums, strict=True))
            add = writer.enum if n.kind == bw.ENUM else writer.enum64
            add(name, n.size, values, signed=bool(n.flag))
        elif n.kind == bw.FUNC_PROTO:
            writer.func_proto(refs[0], list(zip(names, refs[1:], strict=True)))
        elif n.kind == bw.ARRAY:
            writer.array(refs[0], refs[1], n.nums[0])
        elif n.kind == bw.DATASEC:
            entries = list(zip(refs, n.nums[::2], n.nums[1::2], strict=True))
            writer.datasec(name, n.size, entries)
        elif n.kind == bw.FUNC:
            writer.func(name, refs[0], n.nums[0])
        else:  # at most one reference, at most one word behind the type
            writer.type(n.kind, name, refs[0] if refs else n.size, n.nums, kind_flag=n.flag)
    return writer


@dataclass(frozen=True)
class Case:
    """Files of one case. `split`: the module's types as a split BTF, not deduplicated yet."""

    name: str
    base: bytes
    module: bytes
    split: bytes

    def inputs(self, mode: str) -> list[bytes]:
        return {
            "split": [self.base, self.module],
            "plain": [self.module],
            "resplit": [self.base, self.split],
            "merge": [self.base, self.module],
        }[mode]


@functools.cache
def generate(seed: int) -> Case:
    knobs = knobs_of(seed)
    dice = Dice(seed)
    world = World(dice, knobs)
    base_nodes = joined([unit(world, dice, knobs) for _ in range(knobs.base_units)])
    module_nodes = joined([unit(world, dice, knobs) for _ in range(knobs.module_units)])
    base_strings = knobs.strings if not knobs.base_deduped else "plain"
    base_writer = written(base_nodes, bw.Writer(knobs.order), dice, base_strings)
    base = base_writer.to_bytes()
    if knobs.base_deduped:
        result = naive.plain_dedup(base)
        base = bw.assemble(result.types, result.strings, knobs.order)
    module = written(module_nodes, bw.Writer(knobs.order), dice, knobs.strings)
    parsed = naive_btf.parse(base)
    own = bw.Writer(knobs.order, base=(parsed.end_id, parsed.end_str))
    split = written(module_nodes, own, dice, knobs.strings)
    return Case(f"seed-{seed}", base, module.to_bytes(), split.to_bytes())


SEEDS = range(48)


def cases() -> list[str]:
    """Names of all cases: hand-made ones first."""
    return [*handmade.CASES, *(f"seed-{seed}" for seed in SEEDS)]


@functools.cache  # many tests look at each
def build(name: str) -> Case:
    if name in handmade.CASES:
        return Case(name, *handmade.CASES[name]())
    return generate(int(name.removeprefix("seed-")))


# --------------------------------------------------------------------------------------- contract


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def input_digest(case: Case) -> str:
    """One digest over the three files; the generator must not change under the frozen results."""
    return digest(b"".join(digest(d).encode() for d in (case.base, case.module, case.split)))


def section_facts(types: bytes, strings: bytes) -> tuple[str, str, str, str]:
    """What the contract holds of a result."""
    return str(len(types)), str(len(strings)), digest(types), digest(strings)


FACTS = ("type_len", "str_len", "type_sha256", "str_sha256")
COLUMNS = ("case", "input_sha256", *(f"{mode}_{fact}" for mode in MODES for fact in FACTS))


def contract(path: Path = CONTRACT) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")


def expected(row: dict[str, str], mode: str) -> tuple[str, ...]:
    return tuple(row[f"{mode}_{fact}"] for fact in FACTS)


def write_contract(oracle: str) -> None:
    from support.oracles import oracle_libbpf

    libbpf = oracle_libbpf.Oracle(oracle)
    with CONTRACT.open("w", newline="") as file:
        out = csv.writer(file, delimiter="\t", lineterminator="\n")
        out.writerow(COLUMNS)
        for name in cases():
            case = build(name)
            row = [name, input_digest(case)]
            for mode in MODES:
                try:
                    result = libbpf.run(mode, case.inputs(mode))
                    row += section_facts(result.types, result.strings)
                except oracle_libbpf.Refused as error:
                    print(f"{name} {mode}: libbpf refused: {error}")
                    row += ["", "", "", ""]
            out.writerow(row)


if __name__ == "__main__":
    import sys

    write_contract(sys.argv[1])
