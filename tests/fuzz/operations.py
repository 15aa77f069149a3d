"""What is done with a mutant: every public operation of `btf`, and what must hold of its result.

An operation is a generator. What it does first may take 2 s and ten times the file; then it yields
a digest of its result, which must be the same with interpreted functions. What follows are checks
against other ways to the same result, which may take longer: the tests' own plain implementations
(`support/oracles`), the walker, a second way through the library. `Wrong` is a wrong success. A
`BtfError`, or what `docs/library.md` says beside it, refuses the mutant; any other exception is a
fault.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

import btf
from support import btfwriter as bw
from support.oracles import naive, naive_btf, naive_slim
from support.oracles.walker import NotTheSame, walk
from support.writers import elfwriter, modulewriter

Digest = bytes


class Wrong(AssertionError):
    """The library has given a result, and it is wrong."""


@dataclass(frozen=True)
class Files:
    """What an operation gets; one of these is the mutant, see ``MUTATES``."""

    base: bytes
    module: bytes
    split: bytes
    other: bytes  # another module on the same base, never changed
    ext: bytes
    seed: int

    @property
    def roll(self) -> random.Random:
        """What an operation chooses by, the same whenever it is run."""
        return random.Random(self.seed)


Operation = Callable[[Files], Iterator[Digest]]
OPERATIONS: dict[str, Operation] = {}
MUTATES: dict[str, str] = {}


def operation(mutates: str) -> Callable[[Operation], Operation]:
    """Registers an operation, and which of its files is the mutant."""

    def register(function: Operation) -> Operation:
        name = function.__name__.replace("_", " ")
        OPERATIONS[name], MUTATES[name] = function, mutates
        return function

    return register


def expect(holds: object, message: str) -> None:
    """Raise Wrong unless something holds."""
    if not holds:
        raise Wrong(message)


def digest(*parts: object) -> Digest:
    """Of bytes, arrays, and what has a repr that says all."""
    out = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else None
        if data is None:
            data = part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
        out.update(len(data).to_bytes(8, "little") + data)
    return out.digest()


@functools.lru_cache(64)
def indexed(base: bytes) -> btf.BaseIndex:
    """Of a base that is not changed: made once."""
    return btf.BaseIndex.build(btf.parse(base))


@functools.lru_cache(64)
def naively(data: bytes) -> naive_btf.Btf:
    """A file that is not changed, as the tests read it."""
    return naive_btf.parse(data)


def of(result: btf.BTF) -> tuple[bytes, bytes]:
    """What the contract is about."""
    return result.type_section(), result.string_section()


def like_naive(result: btf.BTF, reference: Callable[[], naive.Result]) -> None:
    """The result has the bytes of the reference, unless it is of no opinion."""
    try:
        expected = naive.with_deep_stack(reference)
    except naive.OddMember:
        return
    except naive.DedupError as error:
        raise Wrong(f"done, though the reference refuses: {error}") from None
    expect(of(result) == (expected.types, expected.strings), "other bytes than the reference's")


def same_graph(
    given: list[tuple[naive_btf.Btf, np.ndarray]], output: naive_btf.Btf, added: bool
) -> None:
    """The walker finds nothing."""
    try:
        walk([(own, ids.tolist()) for own, ids in given], output, added=added, strict=False)
    except NotTheSame as error:
        raise Wrong(f"walker: {error}") from None


def known(*read: btf.BTF) -> bool:
    """Whether the tests' own reader can read them: it knows no layout section."""
    return not any(level.has_unknown_kinds for level in read)


# ------------------------------------------------------------------------------------ reading


@operation("module")
def parse(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    again = types.to_bytes()
    yield digest(again, types.offsets)
    expect(btf.parse(again).to_bytes() == again, "what it writes is read otherwise")
    if known(types):
        try:
            plain = naive_btf.parse(files.module)
        except naive_btf.FormatError as error:
            raise Wrong(f"read, though the reference refuses: {error}") from None
        expect([t.words for t in types.own_types()] == [tuple(t) for t in plain.types], "types")


@operation("split")
def parse_split(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.split, indexed(files.base).base)
    yield digest(types.to_bytes(), types.start_id)
    if known(types):
        try:
            naive_btf.parse(files.split, naively(files.base))
        except naive_btf.FormatError as error:
            raise Wrong(f"read, though the reference refuses: {error}") from None


@operation("module")
def explore(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    seen: list[object] = [repr(t) for t in types]
    for t in files.roll.sample(list(types), min(len(types), 30)):
        parts = getattr(t, "members", None) or getattr(t, "params", None) or ()
        seen += [(repr(part), part.type.id) for part in parts]
        seen += [repr(value) for value in getattr(t, "values", ())]
        for ask in (types.size_of, types.align_of, lambda t: t.resolve().id):
            try:
                seen.append(ask(t))
            except btf.BtfError as error:
                seen.append(str(error))
        if t.name:
            seen.append([found.id for found in types.find_all(t.name)])
            expect(types.find(t.name, t.kind).id <= t.id, f"{t} is not the first of its name")
        if isinstance(t, btf.Composite) and t.members:
            wanted = files.roll.choice(t.members).name
            if wanted:
                seen.append(t.member(wanted).bit_offset)
    yield digest(*seen, types.pointer_size)


@operation("split")
def tables(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.split, indexed(files.base).base)
    columns, members = btf.columns(types), btf.members(types)
    btf.check_name_bytes(types)
    starts, names = btf.type_names(types)
    yield digest(*columns.values(), *members.values(), starts, names)
    own = list(types.own_types())
    expect([t.kind for t in own] == columns["kind"].tolist(), "columns: kind")
    expect([t.vlen for t in own] == columns["vlen"].tolist(), "columns: vlen")
    data, at = names.tobytes(), starts.tolist()
    texts = [data[a:b].decode(errors="backslashreplace") for a, b in itertools.pairwise(at)]
    expect([t.name for t in own] == texts, "names")


@operation("module")
def strange_arguments(files: Files) -> Iterator[Digest]:
    """Offsets, ids and orders that are not there."""
    roll, types, seen = files.roll, btf.parse(files.module), []
    numbers = (0, 1, -1, types.str_end - 1, types.str_end, types.type_end, 1 << 31, (1 << 32) - 1)

    def tried(function: Callable[..., object], *given: object) -> None:
        try:
            seen.append(repr(function(*given)))
        except (btf.BtfError, LookupError, ValueError, TypeError, OverflowError) as error:
            seen.append(type(error).__name__)

    for _ in range(6):
        chosen = [roll.choice((*numbers, roll.randrange(types.type_end))) for _ in range(3)]
        tried(btf.texts, types, np.array(chosen, np.int64).astype(np.uint32))
        tried(types.__getitem__, chosen[0])
        tried(types.string, chosen[0])
        tried(types.size_of, chosen[0])
        tried(btf.permute, types, chosen)
        tried(btf.permute, types, np.array(chosen, np.int64).astype(np.uint32))
    yield digest(seen)


@operation("module")
def in_an_elf_file(files: Files) -> Iterator[Digest]:
    roll, index = files.roll, indexed(files.base)
    little = files.module[:2] != b"\xeb\x9f"
    sections = {".BTF": files.module, ".modinfo": elfwriter.modinfo(name="m", vermagic="6.1 SMP")}
    if roll.random() < 0.2:
        sections[".BTF.base"] = files.other
    bits, order = roll.choice((32, 64)), "<" if little else ">"
    module = btf.open_module(elfwriter.elf(sections, bits=bits, order=order), index)
    yield digest(module.btf.to_bytes(), module.form)


@operation("split")
def slim_module(files: Files) -> Iterator[Digest]:
    """A module's file, in half of the cases damaged itself."""
    roll, index = files.roll, indexed(files.base)
    types = btf.parse(files.split, index.base)
    ids = modulewriter.Ids()
    named: list[tuple[str, str, int]] = []
    for one in types.own_types():
        if one.kind_name in ("FUNC", "STRUCT") and one.name.isidentifier() and len(named) < 6:
            named.append((one.kind_name.lower(), one.name, one.id))
    for kind, name, type_id in named:
        ids.one(kind, name, type_id)
    members = [(name, type_id, 1) for kind, name, type_id in named if kind == "func"]
    ids.set("some", members, flags=True)
    order = "<" if types.byteorder == "little" else ">"
    whole = modulewriter.module(files.split, ids=ids, order=order)
    file, is_damaged = bytearray(whole), roll.random() < 0.5
    for _ in range(roll.randint(1, 4) if is_damaged else 0):
        file[roll.randrange(len(file))] = roll.randrange(256)
    made = btf.slim_module(bytes(file), index)
    moved = btf.read_btf_ids(made.content, btf.open_module(made.content, index).btf)
    yield digest(made.content, str(made), repr(moved))
    if order == "<" and not is_damaged:
        found = list(naive_slim.differences(whole, made.content, naively(files.base)))
        expect(not found, f"other than it was: {found[:3]}")


# ------------------------------------------------------------------------------------ dedup


@operation("module")
def dedup(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    result = btf.dedup(types)
    yield digest(*of(result.btf), result.id_map)
    plain = naive_btf.parse(files.module)
    like_naive(result.btf, lambda: naive.plain_dedup(plain))
    output = naive_btf.parse(result.btf.to_bytes())
    same_graph([(plain, result.id_map)], output, added=False)


@operation("module")
def dedup_split(files: Files) -> Iterator[Digest]:
    result = btf.dedup_split(btf.parse(files.module), indexed(files.base))
    yield digest(*of(result.btf), result.id_map)
    _split_is_right(files, naively(files.base), result)


def _split_is_right(files: Files, base: naive_btf.Btf, result: btf.DedupResult) -> None:
    plain = naive_btf.parse(files.module)
    like_naive(result.btf, lambda: naive.split_dedup(base, plain))
    output = naive_btf.parse(result.btf.to_bytes(), base)
    same_graph([(plain, result.id_map)], output, added=True)


@operation("module")
def dedup_bytes(files: Files) -> Iterator[Digest]:
    """Against the long way, over objects."""
    index = indexed(files.base)
    brief = btf.dedup_bytes(files.module, index)
    yield digest(brief is None, *((brief.content, brief.id_map) if brief else ()))
    try:
        result = btf.dedup_module(btf.open_module(files.module, index), index)
    except btf.BtfError as error:
        expect(brief is None, f"done, though the long way refuses: {error}")
        raise
    if brief is not None:
        expect(brief.content == result.btf.to_bytes(), "other bytes than the long way's")
        expect(np.array_equal(brief.id_map, result.id_map), "another map than the long way's")
        expect(brief.result.btf.to_bytes() == brief.content, "its object says otherwise")
        expect(brief.source.to_bytes() == btf.parse(files.module).to_bytes(), "another source")


@operation("split")
def dedup_again(files: Files) -> Iterator[Digest]:
    """Split BTF that is not deduplicated."""
    index = indexed(files.base)
    result = btf.dedup(btf.parse(files.split, index.base), index)
    moved = btf.kernel_form(result)
    yield digest(*of(result.btf), result.id_map, *of(moved.btf), moved.id_map)
    base = naively(files.base)
    split = naive_btf.parse(files.split, base)
    like_naive(result.btf, lambda: naive.resplit_dedup(base, split))
    output = naive_btf.parse(result.btf.to_bytes(), base)
    same_graph([(split, result.id_map)], output, added=False)


@operation("base")
def on_a_mutated_base(files: Files) -> Iterator[Digest]:
    index = btf.BaseIndex.build(btf.parse(files.base))
    result = btf.dedup_split(btf.parse(files.module), index)
    brief = btf.dedup_bytes(files.module, index)
    yield digest(*of(result.btf), result.id_map)
    expect(brief is None or brief.content == result.btf.to_bytes(), "the long way is another")
    _split_is_right(files, naive_btf.parse(files.base), result)


@operation("module")
def after_a_failure(files: Files) -> Iterator[Digest]:
    """Whatever a mutant did, the next module is what it was."""
    index = indexed(files.base)
    expected = _of_other(files.base, files.other)
    try:
        btf.dedup_bytes(files.module, index)
        result = btf.dedup_split(btf.parse(files.module), index)
        btf.both_fingerprints(result.btf, fingerprinted(files.base))
        btf.unmerged_types(btf.parse(files.module), result, index)
        done = True
    except btf.BtfError:
        done = False
    found = _other_now(files.base, files.other)
    yield digest(done, found)
    expect(found == expected, "the module after it has another result")


@functools.lru_cache(64)
def _of_other(base: bytes, other: bytes) -> Digest:
    return _other_now(base, other)


@functools.lru_cache(64)
def fingerprinted(base: bytes) -> btf.BaseFingerprints:
    return btf.BaseFingerprints.build(btf.parse(base))


def _other_now(base: bytes, other: bytes) -> Digest:
    index = indexed(base)
    result = btf.dedup_split(btf.parse(other), index)
    prints = btf.both_fingerprints(result.btf, fingerprinted(base))
    unmerged = btf.unmerged_types(btf.parse(other), result, index)
    return digest(*of(result.btf), *prints, *(str(found.root.words) for found in unmerged))


@operation("module")
def merge(files: Files) -> Iterator[Digest]:
    sources = [files.module, files.other, files.base]
    files.roll.shuffle(sources)
    result = btf.merge(map(btf.parse, sources))
    yield digest(*of(result.btf), *result.id_maps)
    plain = [naive_btf.parse(data) for data in sources]
    output = naive_btf.parse(result.btf.to_bytes())
    same_graph(list(zip(plain, result.id_maps, strict=True)), output, added=True)
    if all(own.types and own.order == "<" for own in plain):  # its result has this order
        like_naive(result.btf, lambda: naive.merge_dedup(sources))


@operation("split")
def merge_on_base(files: Files) -> Iterator[Digest]:
    base = indexed(files.base).base
    sources = [btf.parse(files.other), btf.parse(files.split, base)]
    result = btf.merge(sources, base)
    yield digest(*of(result.btf), *result.id_maps)
    whole = btf.merge(sources, base, standalone=True)
    below = naive_btf.parse(files.base)
    plain = [naive_btf.parse(files.other), naive_btf.parse(files.split, below), below]
    maps = [*whole.id_maps, whole.id_maps[1][: below.end_id]]
    output = naive_btf.parse(whole.btf.to_bytes())
    same_graph(list(zip(plain, maps, strict=True)), output, added=True)


# ------------------------------------------------------------------------------------ editing


@operation("module")
def permute(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    order = list(range(1, types.type_end))
    files.roll.shuffle(order)
    mixed, named = btf.permute(types, order), btf.sort_by_name(types)
    yield digest(mixed.btf.to_bytes(), named.btf.to_bytes(), named.id_map)
    plain = naive_btf.parse(files.module)
    for result in (mixed, named):
        same_graph([(plain, result.id_map)], naive_btf.parse(result.btf.to_bytes()), added=False)
    names = [t.name for t in named.btf.own_types()]
    expect(btf.is_sorted_by_name(named.btf) == any(names), "what was sorted is not in order")
    expect("" not in names[names.count("") :], "unnamed types do not come first")


@operation("split")
def build(files: Files) -> Iterator[Digest]:
    """Everything once more with a builder, type by type and as a whole."""
    base = indexed(files.base).base
    types = btf.parse(files.split, base)
    whole = btf.Builder(base)
    whole.add_btf(types)
    single = btf.Builder(base)
    same = {type_id: type_id for type_id in range(types.type_end)}
    for t in types.own_types():
        single.add_type(t, same)
    results = [whole.build(), single.build()]
    yield digest(*(result.to_bytes() for result in results))
    plain = naive_btf.parse(files.split, naively(files.base))
    for result in results:
        output = naive_btf.parse(result.to_bytes(), naively(files.base))
        same_graph([(plain, np.arange(types.type_end))], output, added=False)


@operation("ext")
def ext(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    found = btf.parse_ext(files.ext, types)
    seen: list[object] = [found.to_bytes()]
    for part in (found.func_info, found.line_info, found.core_relos):
        seen += [(section.name, repr(record)) for section in part for record in section.records]
    result = btf.dedup(types, ext=found)
    ordered = btf.sort_by_name(types, ext=found)
    assert result.ext is not None and ordered.ext is not None
    yield digest(*seen, result.ext.to_bytes(), *of(ordered.btf), ordered.ext.to_bytes())
    for moved in (result, ordered):
        assert moved.ext is not None
        again = btf.parse_ext(moved.ext.to_bytes(), btf.parse(moved.btf.to_bytes()))
        expect(_texts(again) == _texts(found), "records say something else than before")


def _texts(found: btf.BtfExt) -> list[object]:
    """What does not change with ids and offsets."""
    seen: list[object] = []
    for section in found.line_info:
        seen += [(section.name, r.insn_off, r.file, r.text, r.line) for r in section.records]
    for part in (found.func_info, found.core_relos):
        seen += [
            (section.name, r.insn_off, r.type.name) for section in part for r in section.records
        ]
    return seen


# ------------------------------------------------------------------------------------ printing


@operation("split")
def dump_raw(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.split, indexed(files.base).base)
    text = "".join(btf.dump_raw(types))
    yield digest(text)
    heads = sum(line.startswith("[") for line in text.splitlines())
    expect(heads == types.type_count, f"{heads} types of {types.type_count}")


@operation("split")
def dump_json(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.split, indexed(files.base).base)
    text = "".join(btf.dump_json(types))
    yield digest(text)
    try:
        rows = json.loads(text.encode())["types"]
    except (ValueError, KeyError) as error:
        raise Wrong(f"no JSON: {error}") from None
    expect([row["id"] for row in rows] == [t.id for t in types.own_types()], "ids")


@operation("module")
def dump_c(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    roots = range(1, types.type_end, 3) if files.seed % 3 == 0 else None
    text = "".join(btf.dump_c(types, asserts=files.seed % 2 == 0, roots=roots))
    yield digest(text)
    expect("\x1b" not in text, "a control character")
    compiles(text, types.pointer_size)


def compiles(text: str, pointer_size: int) -> None:
    """What is printed is C: gcc, where there is one, has nothing to say, and no name ran away."""
    import shutil
    import subprocess

    if (compiler := shutil.which("gcc")) is None:
        return
    command = [compiler, "-fsyntax-only", "-w", "-xc", "-std=gnu11", "-"]
    if pointer_size == 4:  # with numbers of 8 bytes aligned as on ARM
        command += ["-m32", "-malign-double"]
    done = subprocess.run(command, input=text.encode(errors="surrogateescape"), capture_output=True)
    expect(done.returncode == 0, f"no C: {done.stderr.decode(errors='replace')[:300]}")


ALLOWED: Mapping[str, tuple[type[Exception], ...]] = {
    "explore": (KeyError,),  # a member that is only in a struct that is not held
}
EMPTY = bw.Writer().to_bytes()
# What libbpf can be asked too: mode of `support/oracles/libbpf_oracle.c`, and the files.
LIKE_LIBBPF: Mapping[str, Callable[[Files], tuple[str, list[bytes]]]] = {
    "dedup": lambda files: ("plain", [files.module]),
    "dedup split": lambda files: ("split", [files.base, files.module]),
    "dedup again": lambda files: ("resplit", [files.base, files.split]),
}
