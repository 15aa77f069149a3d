"""Kernels without Numba: what they take and return, the store of machine code, the first run."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from btf import warmup
from btf.compiled import code_cache, jit, target
from btf.compiled.jit import compiled
from support.paths import ROOT

PACKAGE = Path(code_cache.__file__).parent.parent
needs_compiler = pytest.mark.skipif(target.INTERPRETED, reason="functions run interpreted")
unchecked_only = partial(pytest.mark.skipif, bool(target.CHECKED))


class Pair(NamedTuple):
    values: np.ndarray
    rows: np.ndarray
    offset: int


@compiled
def total(pair, factor, negate):  # type: ignore[no-untyped-def]
    found = np.int64(0)
    for i in range(len(pair.values)):
        found += np.int64(pair.values[i]) * factor
        pair.rows[i, 1] = np.uint32(i + pair.offset)
    return (
        -found if negate else found,
        found > 5,
        min(found, np.int64(7)),
        np.uint64(1) << np.uint64(63),
    )


def pair(count: int) -> Pair:
    return Pair(np.arange(count, dtype=np.uint32), np.zeros((count, 3), np.uint32), 10)


def test_arguments_and_results() -> None:
    given = pair(4)
    found, large, least, top = total(given, 2, True)
    assert (found, large, least, top) == (-12, True, 7, 1 << 63)
    assert given.rows[:, 1].tolist() == [10, 11, 12, 13]
    assert not given.rows[:, 0].any() and not given.rows[:, 2].any()
    other = pair(2)  # another tuple of the same types: nothing of the first is used for it
    assert total(other, np.int64(3), False)[0] == 3
    assert other.rows[:, 1].tolist() == [10, 11]


@compiled
def total_of_part(values, rows, start, stop):  # type: ignore[no-untyped-def]
    found = np.int64(0)
    part, part_rows = values[start:stop], rows[:stop]
    for i in range(len(part)):
        found += np.int64(part[i])
        part[i] = 0
    for i in range(len(part_rows)):
        part_rows[i, 2] = 7
    return found, len(part), len(rows[start:])


@pytest.mark.parametrize(
    "start, stop",
    [
        (0, 6),
        (2, 4),
        (3, 3),
        (4, 2),
        (6, 6),
        (0, 0),
        *([] if target.CHECKED else [(5, 100), (7, 9)]),
    ],
)
def test_parts_of_arrays(start: int, stop: int) -> None:
    values, rows = np.arange(1, 7, dtype=np.uint32), np.zeros((6, 3), np.uint32)
    wanted, wanted_rows = values.copy(), rows.copy()
    part = wanted[start:stop]
    wanted_rows[:stop, 2] = 7
    sums = (int(part.sum()), len(part), len(rows[start:]))
    part[:] = 0
    assert total_of_part(values, rows, start, stop) == sums
    assert values.tolist() == wanted.tolist() and rows.tolist() == wanted_rows.tolist()


@unchecked_only(reason="a slice beyond the end is refused then")
def test_a_call_made_again_takes_what_was_put() -> None:
    values, rows = np.arange(1, 7, dtype=np.uint32), np.zeros((6, 3), np.uint32)
    call = jit.PreparedCall(total_of_part, values, rows, 0, 100)
    assert call() == (21, 6, 6) and not values.any()
    others = np.arange(10, 20, dtype=np.uint32)
    call.set_argument(0, others[2:5])
    assert call() == (12 + 13 + 14, 3, 6)
    assert others.tolist() == [10, 11, 0, 0, 0, 15, 16, 17, 18, 19]
    call.set_argument(0, others[5:5])
    assert call() == (0, 0, 6)


@needs_compiler
def test_what_cannot_be_compiled_is_said() -> None:
    @compiled
    def goes_through(values):  # type: ignore[no-untyped-def]
        found = np.int64(0)
        for value in values:
            found += np.int64(value)
        return found

    with pytest.raises(
        TypeError, match=r"test_jit\.py .*an array is gone through by its positions"
    ):
        goes_through(np.arange(3))


@needs_compiler
def test_arrays_that_a_kernel_cannot_take() -> None:
    given = pair(4)
    with pytest.raises(TypeError, match="contiguous"):
        total(given._replace(values=np.arange(8, dtype=np.uint32)[::2]), 1, False)
    with pytest.raises(TypeError, match="list"):
        total(given, [1], False)


@needs_compiler
def test_addresses_are_numpys() -> None:
    for array in (np.arange(5), np.zeros((3, 2), np.uint8), np.arange(9)[4:]):
        assert jit.address(array) == array.ctypes.data


def run(program: str, folder: Path, **more: str) -> str:
    env = {**os.environ, "SPLITBTF_CACHE_DIR": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


COUNT = """
import sys, numpy
from btf.format.strings import count_strings
found = count_strings(numpy.zeros(3, numpy.uint8))
print(found, "numba" in sys.modules or "llvmlite" in sys.modules)
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the machine code that COUNT needs."""
    folder = tmp_path_factory.mktemp("filled")
    assert run(COUNT, folder) == "3 True\n"
    return folder


@pytest.fixture
def kept(filled: Path, tmp_path: Path) -> Path:
    """The file with it, in a copy of that folder."""
    (file,) = Path(shutil.copytree(filled, tmp_path / "cache")).glob("*/*")
    return file


@pytest.mark.slow
@needs_compiler
def test_machine_code_is_kept_and_needs_no_numba(kept: Path) -> None:
    assert run(COUNT, kept.parent.parent) == "3 False\n"


# Constants, a table of jumps, and a call of memset: all that an image refers to. Then the same from
# an object file, as on processors for which no image can be made, and how many files are which.
IMAGES = """
import json, pathlib, sys, numpy
from btf.compiled import code_cache, target
from btf.compiled.jit import compiled
if sys.argv[1:]:
    from btf.compiled.compiler import entry
    def no_image(code, function):
        raise entry.NoImageError("told so")
    entry.image_of = no_image

FACTORS = numpy.array([3, 1, 4, 1, 5, 9, 2, 6], numpy.int64)

@compiled
def mixed(values, room):
    for i in range(len(room)):
        room[i] = 0
    found = numpy.int64(0)
    for i in range(len(values)):
        kind = values[i]
        if kind == 0:
            found += 17
        elif kind == 1:
            found *= 3
        elif kind == 2:
            found ^= 12345
        elif kind == 3:
            found -= FACTORS[i & 7]
        elif kind == 4:
            found = found << 2
        elif kind == 5:
            found = found >> 1
        else:
            found += numpy.int64(kind) * FACTORS[found & 7]
    return found

def result():
    room = numpy.full(1000, 7, numpy.uint8)
    found = mixed(numpy.arange(300, dtype=numpy.uint8) % 9, room)
    return int(found), int(room.sum())

heads = []
if not target.INTERPRETED:
    result()
    for path in code_cache.cache_folder("__main__").iterdir():
        heads.append(json.loads(code_cache.read_code(path).split(b"\\n", 1)[0]))
print(result(), ["object" in head for head in heads], [head.get("imports") for head in heads])
"""


@pytest.mark.slow
@needs_compiler
def test_images_and_object_files_do_the_same(tmp_path: Path) -> None:
    script = tmp_path / "mixed.py"
    script.write_text(IMAGES)
    interpreted = run_file(script, tmp_path / "none", NUMBA_DISABLE_JIT="1").split(" [")[0]
    for _ in range(2):  # compiled, then kept
        image = run_file(script, tmp_path / "image")
        assert image.startswith(interpreted)
        if platform.machine() == "x86_64":
            called = "" if target.CHECKED else "'memset': "  # a loop with checks is none
            assert f"[False] [{{{called}" in image
        assert (
            run_file(script, tmp_path / "object", "as object") == f"{interpreted} [True] [None]\n"
        )


EXERCISE = """
import sys
from btf import warmup
for part in warmup._PARTS.values():
    part()
print("llvmlite" in sys.modules)
"""


@needs_compiler
@unchecked_only(reason="functions whose indices are checked may raise")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="images are for x86-64")
def test_all_kernels_of_a_run_are_images(tmp_path: Path) -> None:
    """One that may raise an exception is none, and brings all of LLVM into every process."""
    warmup.warm_up(tables=True)
    script = tmp_path / "exercise.py"
    script.write_text(EXERCISE)
    assert run_file(script, code_cache.cache_folder("btf.compiled.jit").parent) == "False\n"


COMPILER = """
import os, sys
for line in sys.stdin:
    with open({log!r}, "a") as file:
        file.write(line)
    if line == {fatal!r}:
        os._exit(1)
    print("done", flush=True)
"""


def test_parts_are_compiled_once_whatever_becomes_of_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, start = tmp_path / "log", warmup._start
    parts = ["a", "b", "c", "d", "e"]

    def compiled_with(fatal: str) -> list[str]:
        log.write_text("")
        program = COMPILER.format(log=str(log), fatal=fatal)
        monkeypatch.setattr(warmup, "_start", lambda _: start(program))
        warmup._compile_elsewhere(parts)
        return sorted(log.read_text().split())

    assert compiled_with("no part") == parts
    assert compiled_with("a\n") == parts  # the other one goes on
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert compiled_with("no part") == []


# Compiles only when so many have said that there is something to compile.
WARM_UP = """
import sys, time
from btf import warmup

log, said, processes = sys.argv[1:]

def say(sentence):
    print(sentence)
    with open(said, "a") as file:
        file.write(sentence + chr(10))

def compile(parts):
    with open(log, "a") as file:
        print(*parts, file=file)
    while len(open(said).readlines()) < int(processes):
        time.sleep(0.01)

warmup._compile_elsewhere = compile
warmup._PARTS = dict.fromkeys(warmup._PARTS, lambda: None)
warmup.warm_up(say, tables=True)
print(warmup.cache_folder("btf.compiled.jit").parent)
"""


@pytest.mark.slow
@needs_compiler
def test_processes_that_start_at_once_compile_once(tmp_path: Path) -> None:
    script, log, cache = tmp_path / "warm.py", tmp_path / "log", tmp_path / "cache"
    script.write_text(WARM_UP)
    env = {**os.environ, "SPLITBTF_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(log), str(tmp_path / "said"), "4"]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(4)]
    assert [len(process.communicate()[0].splitlines()) for process in started] == [2] * 4
    assert log.read_text() == " ".join(warmup._PARTS) + "\n"
    assert [path.name for path in cache.glob("*/*")] == ["tables"]


@needs_compiler
def test_a_cache_that_cannot_be_written_is_replaced_for_a_process(tmp_path: Path) -> None:
    script, log, cache = tmp_path / "warm.py", tmp_path / "log", tmp_path / "file" / "cache"
    script.write_text(WARM_UP)
    cache.parent.write_text("no folder")
    said, used = run_file(script, cache, str(log), str(tmp_path / "said"), "1").splitlines()
    assert said == (
        "compiling splitbtf's own machine code once, about 15 s (not kept for later runs: "
        f"{cache} cannot be written to, Not a directory; "
        "SPLITBTF_CACHE_DIR names another folder)"
    )
    assert log.exists() and used != str(cache) and not Path(used).exists()


def run_file(script: Path, folder: Path, *arguments: str, **more: str) -> str:
    env = {**os.environ, "SPLITBTF_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code for x86-64")
@unchecked_only(reason="the package comes with unchecked machine code, which is not run then")
def test_machine_code_that_comes_with_the_package(tmp_path: Path) -> None:
    """As in a wheel: nothing is compiled, and nothing is kept; but never for another source."""
    copy = copy_of_package(tmp_path)
    env = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    assert run(COUNT, tmp_path / "none", SPLITBTF_BUILT_FOR="x86-64-v3", **env) == "3 True\n"
    assert list(copy.glob("machine_code/x86-64-v3-*/*")) and not (tmp_path / "none").exists()
    without = COUNT.replace(
        "found =", "from btf.compiled import target; target.X86_64_V3.add('other'); found ="
    )
    assert run(without, tmp_path / "other", **env) == "3 True\n"
    if target.build_for_this() == "x86-64-v3":
        assert run(COUNT, tmp_path / "none", **env) == "3 False\n"
        assert not (tmp_path / "none").exists()
    source = copy / "format/strings.py"
    source.write_text(source.read_text() + "\n# changed\n")
    assert run(COUNT, tmp_path / "none", **env) == "3 True\n"


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code for another processor")
@unchecked_only(reason="the package comes with unchecked machine code")
def test_machine_code_for_another_processor(tmp_path: Path) -> None:
    """It is kept for the package, and what is called here is this processor's."""
    copy = copy_of_package(tmp_path)
    env = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    assert run(COUNT, tmp_path / "own", SPLITBTF_BUILT_FOR="aarch64", **env) == "3 True\n"
    (made,) = copy.glob("machine_code/aarch64-*/*")
    (own,) = (tmp_path / "own").glob("*/*")
    assert made.name == own.name and made.read_bytes() != own.read_bytes()
    assert run(COUNT, tmp_path / "own", SPLITBTF_BUILT_FOR="aarch64", **env) == "3 False\n"


def aarch64_object(text: str) -> bytes:
    """What LLVM makes of a function for AArch64."""
    binding = pytest.importorskip("llvmlite.binding")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    machine = binding.Target.from_triple(triple).create_target_machine(
        reloc="pic", codemodel="small"
    )
    module = binding.parse_assembly(f'target triple = "{triple}"\n{text}')
    return bytes(machine.emit_object(module))


@pytest.mark.skipif(target.INTERPRETED, reason="nothing is compiled")
def test_an_image_for_aarch64() -> None:
    """Its relocations, by the encodings of Arm's manual: ADRP and ADD or LDR lead to the constants,
    BL to eight bytes before the place of memset's address, which LDR and BR jump to."""
    from btf.compiled.compiler.image import image_of

    image, start, imports = image_of(
        aarch64_object("""
        @numbers = internal constant [3 x i64] [i64 5, i64 6, i64 7]
        declare i8* @memset(i8*, i32, i64)
        define i64 @f(i8* %to, i64 %at) {
          %filled = call i8* @memset(i8* %to, i32 0, i64 %at)
          %place = getelementptr [3 x i64], [3 x i64]* @numbers, i64 0, i64 %at
          %one = load i64, i64* %place
          %second = load i64, i64* getelementptr ([3 x i64], [3 x i64]* @numbers, i64 0, i64 1)
          %sum = add i64 %one, %second
          ret i64 %sum
        }"""),
        "f",
    )
    words = struct.unpack(f"<{len(image) // 4}I", image)
    numbers = image.index(struct.pack("<3Q", 5, 6, 7))
    assert set(imports) == {"memset"}
    jump = imports["memset"] - 8
    assert words[jump // 4 : jump // 4 + 2] == (0x58000050, 0xD61F0200)
    code = range(start // 4, min(numbers, jump) // 4 if start < numbers else len(words))
    (call,) = (at for at in code if words[at] >> 26 == 0x25)
    assert call + (words[call] & 0x3FFFFFF) == jump // 4
    pages = [words[at] for at in code if words[at] & 0x9F000000 == 0x90000000]
    assert pages and all(word & 0x60FFFFE0 == 0 for word in pages), "all is in one page"
    offsets = {
        (words[at] >> 10 & 0xFFF) << (3 if words[at] >> 24 == 0xF9 else 0)
        for at in code
        if words[at] >> 22 in (0x244, 0x3E5)  # ADD and LDR, of 64 bits, by a number
    }
    assert {numbers, numbers + 8} & offsets


def copy_of_package(folder: Path) -> Path:
    copy = folder / "btf"
    ignored = shutil.ignore_patterns("__pycache__", "machine_code")
    shutil.copytree(PACKAGE, copy, ignore=ignored)
    return copy


@pytest.mark.slow
@needs_compiler
def test_damaged_machine_code_is_not_run(kept: Path) -> None:
    whole = kept.read_bytes()
    assert code_cache.read_code(kept) is not None
    for damaged in (whole[:-10], b"", whole[:300] + b"\xff" + whole[301:]):
        kept.write_bytes(damaged)
        assert code_cache.read_code(kept) is None
    assert run(COUNT, kept.parent.parent) == "3 True\n"
    assert kept.read_bytes()[16:] != damaged[16:]


@pytest.mark.slow
@needs_compiler
def test_machine_code_that_others_can_write_is_not_run(kept: Path) -> None:
    """In a shared cache folder whoever can write machine code would have it run by others."""
    for path, others in ((kept, 0o020), (kept.parent, 0o002), (kept, 0o002)):
        mode = path.stat().st_mode
        path.chmod(mode | others)
        assert code_cache.read_code(kept) is None
        path.chmod(mode)
        assert code_cache.read_code(kept) is not None
    kept.chmod(mode | others)
    assert run(COUNT, kept.parent.parent) == "3 True\n"


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_machine_code_of_another_user_is_not_run(kept: Path) -> None:
    for path in (kept, kept.parent):
        os.chown(path, 12345, 12345)
        assert code_cache.read_code(kept) is None
        os.chown(path, 0, 0)
        assert code_cache.read_code(kept) is not None
    os.chown(kept.parent, 12345, 12345)
    assert run(COUNT, kept.parent.parent) == "3 True\n"


@pytest.mark.slow
@needs_compiler
def test_the_folder_changes_with_every_source_that_matters(tmp_path: Path) -> None:
    """A kernel in another file that is called, and a constant in a third."""
    copy = copy_of_package(tmp_path)
    name = "btf.deduplication.passes"
    ask = (
        f"import {name}; from btf.compiled.code_cache import cache_folder; "
        f"print(cache_folder({name!r}).name)"
    )

    def folder() -> str:
        return run(ask, tmp_path / "cache", PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="1")

    names = {folder()}
    for file in (
        "format/strings.py",
        "format/kinds.py",
        "deduplication/signature.py",
        "compiled/compiler/lowering.py",
    ):
        path = copy / file
        path.write_text(path.read_text() + "\n# changed\n")
        names.add(folder())
    assert len(names) == 5
    unrelated = copy / "dump" / "json.py"
    unrelated.write_text(unrelated.read_text() + "\n# changed\n")
    names.add(folder())
    assert len(names) == 5


def test_imports_are_found_however_they_are_written() -> None:
    """What the store follows is what Python's own parser calls a relative import."""
    for source in PACKAGE.rglob("*.py"):
        found = {
            (len(m[0]), m[1].decode()) for m in code_cache._IMPORT.findall(source.read_bytes())
        }
        wanted = {
            (node.level, node.module or "")
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.ImportFrom) and node.level
        }
        assert found == wanted, source


@pytest.mark.slow
@needs_compiler
def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(COUNT, blocked) == "3 True\n"


def test_machine_code_is_that_of_its_place(tmp_path: Path) -> None:
    """Whoever can rename files in a shared folder cannot have one function run as another."""
    path = tmp_path / "compiled-one" / "function"
    code_cache.write_code(path, b"machine code")
    assert code_cache.read_code(path) == b"machine code"
    other = path.rename(path.with_name("other"))
    assert code_cache.read_code(other) is None
    path = other.rename(path)
    moved = path.parent.rename(tmp_path / "compiled-two") / path.name
    assert code_cache.read_code(moved) is None
