"""Whatever a public name is called with: a result, or an error that says what is wrong.

Protects: a TypeError or ValueError for misuse and a BtfError for bad BTF, never a crash, nor what
comes of code that was not meant for it (IndexError, KeyError, OverflowError, AttributeError, …).
A name that is made public has to be added here.
"""

from __future__ import annotations

import copy
import functools
import inspect
import mmap
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import btf
from support.btfwriter import Writer
from support.paths import DATA
from support.writers.modulewriter import module

ALLOWED = (TypeError, ValueError, btf.BtfError)


def written(seed: int = 0, base: Writer | None = None) -> bytes:
    """A few types of most kinds. ``seed`` changes names and sizes."""
    w = Writer(base=base)
    number = w.int(f"int{seed}", 4)
    node = w.struct(f"node{seed}", 16, [("next", w.next_id + 1, 0), ("value", number, 64)])
    w.ptr(node)
    w.enum(f"e{seed}", 4, [("A", 1), ("B", 2)])
    w.func(f"f{seed}", w.func_proto(number, [("x", node)]))
    w.datasec(".data", 4, [(w.var(f"v{seed}", number), 0, 4)])
    w.array(number, number, 3 + seed)
    w.typedef(f"t{seed}", node)
    w.fwd(f"declared{seed}")
    return w.to_bytes()


BASE = btf.parse(written())
OTHER = btf.parse(written(1))
INDEX, OTHER_INDEX = btf.BaseIndex.build(BASE), btf.BaseIndex.build(OTHER)
MODULE = btf.open_module(written(2), INDEX)
SPLIT = btf.dedup_split(OTHER, INDEX)
KO = module(SPLIT.btf.to_bytes())
EXT = bytes.fromhex("9feb0100180000000000000000000000" + "00000000" * 4)[:24]

HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 1 << 32, 1 << 70, 1.5, float("nan"), "", "x", "\0", "\ud800", b"",
    b"\xff\0", b"\x9f\xeb\x01", [], [1], [-1], [1 << 70], [None], {}, (), object(), object, int,
    np.array([1.5]), np.array([[1, 2], [3, 4]]), np.zeros(0, np.uint8), np.array(["a"]),
    np.arange(20)[::2], np.uint32(7), np.array([0xFFFFFFF0], np.uint32), bytearray(written()),
    memoryview(b"\0" + written())[1:], memoryview(written())[::2], memoryview(bytearray(b"abc")),
    [0xFFFFFFF0], BASE, OTHER, SPLIT.btf, INDEX, OTHER_INDEX, SPLIT, MODULE, OTHER[2], BASE[0],
    btf.DedupResult(BASE, np.arange(99, dtype=np.uint32)),
    btf.DedupResult(SPLIT.btf, SPLIT.id_map[::-1].copy()),
    btf.DedupResult(SPLIT.btf, SPLIT.id_map + np.uint32(1)),
]  # fmt: skip

# What each public function is called with, but for the one argument that is hostile.
CALLS: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "difference": lambda: ((BASE[2], OTHER[2]), {"labels": ("a", "b"), "same": None}),
    "dedup": lambda: ((BASE, None), {"ext": None}),
    "dedup_split": lambda: ((OTHER, INDEX), {"ext": None}),
    "dedup_bytes": lambda: ((written(1), INDEX), {}),
    "dedup_module": lambda: ((MODULE, INDEX), {}),
    "make_ready": lambda: ((INDEX,), {}),
    "merge": lambda: (([BASE, OTHER], None), {"exts": ()}),
    "distill_base": lambda: ((SPLIT.btf,), {}),
    "relocate": lambda: ((btf.distill_base(SPLIT.btf).split, BASE), {}),
    "dump_c": lambda: ((BASE,), {"asserts": False}),
    "dump_json": lambda: ((BASE,), {}),
    "dump_raw": lambda: ((BASE,), {}),
    "read_btf_ids": lambda: ((KO, SPLIT.btf), {"path": None}),
    "slim_module": lambda: ((KO, INDEX), {"path": None, "release": None, "by_name": True}),
    "parse_ext": lambda: ((EXT, BASE), {"path": None}),
    "permute": lambda: ((BASE, list(range(1, len(BASE)))), {"ext": None}),
    "sort_by_name": lambda: ((BASE,), {"ext": None}),
    "is_sorted_by_name": lambda: ((BASE,), {}),
    "kernel_form": lambda: ((SPLIT,), {}),
    "check_kernel_rules": lambda: (
        (SPLIT.btf, None),
        {"release": "6.12", "load_as": "module", "pointer_size": 8, "path": None},
    ),
    "load_base": lambda: ((written(),), {"path": None}),
    "open_module": lambda: ((written(1), INDEX), {"path": None, "release": None}),
    "detect_form": lambda: ((written(), None), {}),
    "all_fingerprints": lambda: ((SPLIT.btf, *btf.fingerprint_base(BASE)), {}),
    "both_fingerprints": lambda: ((SPLIT.btf, btf.BaseFingerprints.build(BASE)), {}),
    "fingerprint_base": lambda: ((BASE,), {}),
    "fingerprints": lambda: ((BASE, None), {}),
    "own_fingerprints": lambda: ((BASE,), {}),
    "parse": lambda: ((written(), None), {"path": None, "head": None}),
    "check_name_bytes": lambda: ((BASE,), {}),
    "declarations": lambda: ((BASE, None), {}),
    "columns": lambda: ((BASE,), {}),
    "texts": lambda: ((BASE, [1]), {}),
    "printable": lambda: (("x",), {}),
    "open": lambda: ((str(DATA / "objects/watch.bpfel.o"),), {"base": None}),
    "type_names": lambda: ((BASE,), {}),
    "members": lambda: ((BASE,), {}),
    "unmerged_types": lambda: ((OTHER, SPLIT, INDEX, None), {}),
    "Builder": lambda: ((BASE,), {"byteorder": None}),
    "BTF": lambda: ((BASE.words, BASE.offsets, BASE.strings, None, "little", 0, b"", None), {}),
    "BaseIndex.build": lambda: ((BASE,), {}),
    "BaseFingerprints.build": lambda: ((BASE,), {}),
    "BaseNames.build": lambda: ((INDEX,), {}),
    "elf.read_elf": lambda: ((b"\x7fELF" + bytes(60),), {"path": None}),
    "images.is_image": lambda: ((bytes(100),), {}),
    "images.btf_from_image": lambda: ((bytes(100),), {"path": None}),
    "images.vmlinux_from_image": lambda: ((bytes(100),), {"path": None}),
}

# Public names that are not called: constants; errors and records, which check nothing, since what
# takes them does; what takes no arguments, or a callback only.
NOT_CALLED = {
    "KIND_NAMES", "STANDALONE", "kinds", "release_workspaces", "warm_up", "Encoding", "Linkage",
    "CoreReloKind", "BtfError", "DwarfOnlyError", "KernelRefusal", "NoBtfError", "NotFoundError",
    "UnsupportedError", "WrongBaseError", "DedupResult", "MergeResult", "SplitBytes", "Distilled",
    "Module", "Renumbered", "CodeSection", "CoreRelo", "FuncInfo", "LineInfo", "BtfExt",
    "BtfIds", "BtfIdSet", "SlimModule",
    "Difference", "Differences", "Declarations", "RootCause", "UnmergedType", "DatasecEntry",
    "EnumValue",
    "Member", "Param",
}  # fmt: skip


def consumed(result: Any) -> Any:
    return list(result) if isinstance(result, Iterator) else result


def called(path: str) -> Callable[..., Any]:
    return functools.reduce(getattr, path.split("."), btf)  # type: ignore[return-value]


def test_every_public_name_is_here() -> None:
    missing = set(vars(btf)["__all__"]) - NOT_CALLED - {name.split(".")[0] for name in CALLS}
    types = {name for name in missing if isinstance(getattr(btf, name), type)}
    homes = {getattr(btf, name).__module__ for name in types}
    assert homes <= {"btf.types.objects", "btf.types.typebase"}
    assert missing == types


@pytest.mark.parametrize("name", CALLS)
def test_functions(name: str) -> None:
    function = called(name)
    args, named = CALLS[name]()
    consumed(function(*args, **named)) if not name.startswith(("elf", "images")) else None
    for value in HOSTILE:
        for at in range(len(args)):
            attempt(name, function, (*args[:at], value, *args[at + 1 :]), named)
        for key in named:
            attempt(name, function, args, {**named, key: value})


def attempt(name: str, function: Callable[..., Any], args: Any, named: Any) -> None:
    try:
        consumed(function(*args, **named))
    except ALLOWED:
        pass
    except OSError:
        assert name == "open"
    except Exception as error:
        shown = f"{[repr(a)[:60] for a in args]}, { {k: repr(v)[:60] for k, v in named.items()} }"
        raise AssertionError(f"{name}({shown}): {type(error).__name__}: {error}") from error


def methods(of: Any) -> list[str]:
    return [
        name for name in dir(of) if not name.startswith("_") and callable(getattr(of, name, None))
    ]


@pytest.mark.parametrize(
    "make", [lambda: BASE, lambda: SPLIT.btf, lambda: btf.Builder(BASE), lambda: INDEX]
)
def test_methods(make: Callable[[], Any]) -> None:
    """Every public method, with hostile values for all arguments that have no default, and for
    each one alone."""
    subject = make()
    for name in [*methods(subject), "__getitem__"]:
        if not hasattr(subject, name):
            continue
        function = getattr(type(subject), name)
        parameters = list(inspect.signature(getattr(subject, name)).parameters.values())
        needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        for value in HOSTILE:
            for plain in (1, "x"):
                for at in range(len(needed)):
                    args = [plain] * len(needed)
                    args[at] = value
                    target = make()
                    bound = (
                        functools.partial(function, target)
                        if inspect.isfunction(function)
                        else getattr(target, name)
                    )
                    attempt(f"{type(subject).__name__}.{name}", bound, args, {})
            for parameter in parameters:
                if parameter.default is not parameter.empty:
                    attempt(name, getattr(make(), name), [1] * len(needed), {parameter.name: value})


def test_ids_and_offsets() -> None:
    for wrong in (-1, 99, 1 << 40, 1 << 70):
        with pytest.raises(btf.BtfError, match="no type"):
            BASE[wrong]
        with pytest.raises(btf.BtfError):
            BASE.string_bytes(wrong)
        with pytest.raises((btf.BtfError, ValueError, TypeError)):
            btf.texts(BASE, [wrong])  # type: ignore[arg-type]
    with pytest.raises(btf.NotFoundError):
        BASE["1"]  # a name
    for no_id in (True, 1.0, None):
        with pytest.raises(TypeError):
            BASE[no_id]  # type: ignore[index]
    assert BASE[np.int64(2)] == BASE[2]  # type: ignore[index]
    with pytest.raises(ValueError, match="is no kind"):
        BASE.find("int0", -1)


def test_what_belongs_to_another() -> None:
    twin = btf.parse(written(0).replace(b"node0", b"nodeX"))  # of the same sizes as BASE
    on_twin = btf.BaseIndex.build(twin)
    split = btf.open_module(SPLIT.btf.to_bytes(), INDEX)
    assert split.form == "split"
    with pytest.raises(btf.WrongBaseError):
        btf.dedup_module(split, on_twin)
    with pytest.raises(btf.WrongBaseError):
        btf.dedup(SPLIT.btf, on_twin)
    same = btf.BaseIndex.build(btf.parse(written(0)))  # equal in content
    assert btf.dedup(SPLIT.btf, same).btf.to_bytes() == SPLIT.btf.to_bytes()
    shorter = Writer()
    shorter.int("x", 4)
    with pytest.raises(btf.BtfError, match="not that of this module"):
        btf.unmerged_types(btf.parse(shorter.to_bytes()), SPLIT, INDEX)
    turned = btf.permute(OTHER, range(len(BASE) - 1, 0, -1)).btf
    with pytest.raises(btf.BtfError, match="not that of this module"):
        btf.unmerged_types(turned, SPLIT, INDEX)
    with pytest.raises(btf.WrongBaseError):
        btf.unmerged_types(OTHER, SPLIT, OTHER_INDEX)
    lying = btf.Module(SPLIT.btf, btf.STANDALONE, 0)
    with pytest.raises(btf.BtfError, match="split BTF"):
        btf.dedup_module(lying, INDEX)


@pytest.mark.parametrize("wrap", ["bytearray", "memoryview", "mmap", "numpy"])
def test_a_buffer_that_changes_afterwards(wrap: str) -> None:
    data = written()
    buffer: Any
    if wrap == "mmap":
        buffer = mmap.mmap(-1, len(data))
        buffer[:] = data
    elif wrap == "numpy":
        buffer = np.frombuffer(data, np.uint8).copy()
    else:
        buffer = bytearray(data)
    given = memoryview(buffer).toreadonly() if wrap == "memoryview" else buffer
    parsed = btf.parse(given)
    put = btf.dedup_bytes(given, OTHER_INDEX)
    assert put is not None
    memoryview(buffer).cast("B")[24:] = b"\xff" * (len(data) - 24)
    assert parsed.to_bytes() == data
    assert put.source.to_bytes() == data
    assert put.result.btf.to_bytes() == put.content


def test_addresses_that_are_odd() -> None:
    data = written()
    for at in range(1, 8):
        for whole in (bytes(at) + data, bytearray(bytes(at) + data)):
            view = memoryview(whole)[at:]
            assert btf.parse(view).to_bytes() == data
            put = btf.dedup_bytes(view, OTHER_INDEX)
            assert put is not None and put.source.to_bytes() == data


def test_arrays_cannot_be_changed() -> None:
    for made in (BASE, SPLIT.btf, pickle.loads(pickle.dumps(SPLIT.btf)), copy.deepcopy(BASE)):
        for array in (made.words, made.offsets, made.strings):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 7
    again = pickle.loads(pickle.dumps(SPLIT.btf))
    assert again.to_bytes() == SPLIT.btf.to_bytes() and again.base.to_bytes() == BASE.to_bytes()
    assert copy.copy(BASE).to_bytes() == BASE.to_bytes()
    index = pickle.loads(pickle.dumps(INDEX))
    assert btf.dedup_split(OTHER, index).btf.to_bytes() == SPLIT.btf.to_bytes()


def test_made_by_hand() -> None:
    words, offsets, strings = (a.copy() for a in (BASE.words, BASE.offsets, BASE.strings))
    made = btf.BTF(words, offsets, strings)
    words[:] = 0xFFFFFFFF
    assert made.to_bytes() == BASE.to_bytes()
    with pytest.raises(btf.BtfError):
        btf.BTF(words, offsets, strings)
    with pytest.raises(btf.BtfError):
        btf.BTF(BASE.words, offsets + np.uint32(1), strings)
    with pytest.raises(TypeError):
        btf.BTF(BASE.words[::2], BASE.offsets.astype(np.int64), strings)


def test_threads_share_what_is_made() -> None:
    expected = SPLIT.btf.to_bytes()
    base, index = btf.parse(written()), btf.BaseIndex.build(BASE)
    module, wrong = btf.parse(written(1)), []

    def work() -> None:
        for _ in range(20):
            if btf.dedup_split(module, index).btf.to_bytes() != expected:
                wrong.append("dedup")
            if base.find("node0").id != 2 or base.flat.pointer_size != 8:
                wrong.append("find")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
