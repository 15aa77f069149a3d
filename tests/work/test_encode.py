"""Protects: BTF from DWARF is what the kernel's build would ask pahole for; whatever pahole does,
one module is affected and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import btf
from pipeline.model.errors import BaseError
from pipeline.model.records import (
    ENCODE_FAILED,
    ENCODE_TIMEOUT,
    NO_ENCODER,
    FileInput,
)
from pipeline.store.output import read_table
from pipeline.work import encode as encoding
from pipeline.work.base import load_file, load_first
from pipeline.work.encode import EncodeError, build_options, encode, find_encoder
from support.commands import PATIENCE, splitbtf, wait_for
from support.ends.disturbing import faults
from support.faulty.sitecustomize import begin_limits_when_hanging
from support.paths import ROOT
from support.trees import small_tree, small_vmlinux
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo

pytestmark = pytest.mark.slow

# It makes of every file what it finds behind BTF: in it; HANG, FAIL, CRASH and NOTHING as they say.
FAKE = """\
#!/bin/sh
[ "$1" = --version ] && { echo vVERSION; exit 0; }
for word; do
    case $word in --btf_encode_detached=*) out=${word#*=} ;; esac
    in=$word
done
echo "$@" >> FOLDER/log
if grep -q HANG "$in"; then
    sleep 1000 &
    echo $! >> FOLDER/pids
    echo $$ >> FOLDER/hanging
    sleep 1000
fi
grep -q FAIL "$in" && { echo "no good DWARF" >&2; exit 1; }
grep -q CRASH "$in" && kill -SEGV $$
grep -q NOTHING "$in" && exit 0
cat FOLDER/btf > "$out"
"""


FEATURES = (
    "--btf_features=encode_force,var,float,enum64,decl_tag,type_tag,optimized_func,consistent_func,"
    "decl_tag_kfuncs"
)
LANGUAGES = "--lang_exclude=rust,c++,c++03,c++11,c++14"


class FakePahole:
    """A pahole of the tests' own, first in the search path."""

    def __init__(self, folder: Path, content: bytes, version: str = "1.24") -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "btf").write_bytes(content)
        script = FAKE.replace("FOLDER", str(folder)).replace("VERSION", version)
        (folder / "pahole").write_text(script)
        (folder / "pahole").chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ['PATH']}"

    @property
    def calls(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def running(self) -> list[int]:
        """What it started and is still there."""
        pids = [int(line) for line in (self.folder / "pids").read_text().split()]
        assert pids
        return [pid for pid in pids if _state(pid) not in ("gone", "Z")]

    def wait_for_the_end(self) -> None:
        """Of what it started: a killed process takes a moment to go."""
        wait_for(lambda: not self.running, "the end of what pahole started")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


@pytest.fixture
def fake(
    tmp_path: Path, demo_btf: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> FakePahole:
    pahole = FakePahole(tmp_path / "fake", demo_btf("hid-elecom"))
    monkeypatch.setenv("PATH", pahole.path)
    return pahole


def with_dwarf(words: str = "", sections: dict[str, bytes] | None = None) -> bytes:
    """A module that says it has DWARF; ``words`` tell the fake pahole what to do."""
    info = modinfo(name="m", vermagic="6.1.0-50-cloud-amd64 SMP")
    return elf({".debug_info": f"\0{words}\0".encode(), ".modinfo": info, **(sections or {})})


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("pahole", "release", "expected"),
    [
        # scripts/pahole-flags.sh of Linux 6.1.192 and scripts/Makefile.btf of 6.12.117 and 7.2.13,
        # by hand.
        ((1, 20), "6.1.0-50-amd64", ["--skip_encoding_btf_vars"]),
        ((1, 22), "6.1.0-50-amd64", ["--btf_gen_floats"]),
        ((1, 24), "6.1.0-50-amd64", ["--btf_gen_floats", LANGUAGES]),
        (
            (1, 25),
            "6.1.0-50-amd64",
            [
                "--btf_gen_floats",
                "--skip_encoding_btf_inconsistent_proto",
                "--btf_gen_optimized",
                LANGUAGES,
            ],
        ),
        ((1, 24), "6.12.117+deb12-amd64", ["--btf_gen_floats", LANGUAGES]),
        (
            (1, 29),
            "6.12.117+deb12-amd64",
            [
                FEATURES,
                LANGUAGES,
            ],
        ),
        (
            (1, 31),
            "6.18.1",
            [
                FEATURES,
                "--btf_features=attributes",
                LANGUAGES,
            ],
        ),
        (
            (1, 30),
            "7.2.13+deb14-amd64",
            [
                FEATURES,
                "--btf_features=attributes",
                LANGUAGES,
            ],
        ),
        (
            (1, 32),
            "7.2.13+deb14-amd64",
            [
                FEATURES,
                "--btf_features=attributes",
                "--btf_features=layout",
                LANGUAGES,
            ],
        ),
        (
            (1, 25),
            "7.2.13+deb14-amd64",
            [
                "--btf_gen_floats",
                "--skip_encoding_btf_inconsistent_proto",
                "--btf_gen_optimized",
                LANGUAGES,
            ],
        ),
        ((1, 24), "5.15.0-1", ["--btf_gen_floats", "--skip_encoding_btf_enum64", LANGUAGES]),
        ((1, 24), None, ["--btf_gen_floats", LANGUAGES]),
    ],
)
def test_options_are_those_of_the_kernel_s_build(
    pahole: tuple[int, int], release: str | None, expected: list[str]
) -> None:
    assert list(build_options(pahole, release)) == expected


@pytest.mark.parametrize("pahole", [(1, 20), (1, 24), (1, 31)])
def test_never_more_than_one_thread(pahole: tuple[int, int]) -> None:
    """With threads, what pahole writes differs from run to run."""
    for release in ("5.4.0", "6.1.0", "6.18.0", None):
        assert not any(
            option.startswith(("-j", "--jobs")) for option in build_options(pahole, release)
        )


# ------------------------------------------------------------------ one file


def encoded(content: bytes, seconds: float = PATIENCE) -> bytes:
    return encode(content, path="m.ko", release="6.1.0", seconds=seconds).content


def test_what_pahole_writes_comes_back(fake: FakePahole, demo_btf: Callable[[str], bytes]) -> None:
    assert encoded(with_dwarf()) == demo_btf("hid-elecom")
    (call,) = fake.calls
    assert call.startswith(f"-J --btf_gen_floats {LANGUAGES} --btf_encode_detached=")


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("1.24", f"--btf_gen_floats {LANGUAGES}"),
        ("1.25", "--btf_gen_floats --skip_encoding_btf_inconsistent_proto --btf_gen_optimized "
         f"{LANGUAGES}"),
        ("1.30", f"{FEATURES} --btf_features=attributes {LANGUAGES}"),
        ("1.31", f"{FEATURES} --btf_features=attributes --btf_features=layout {LANGUAGES}"),
        ("1.32", f"{FEATURES} --btf_features=attributes --btf_features=layout {LANGUAGES}"),
    ],
)  # fmt: skip
def test_each_pahole_gets_what_a_build_of_linux_7_2_gives_it(
    version: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pahole = FakePahole(tmp_path / "fake", b"BTF", version)
    monkeypatch.setenv("PATH", pahole.path)
    made = encode(with_dwarf(), path="m.ko", release="7.2.13+deb14-amd64", seconds=PATIENCE)
    assert made.encoder == f"pahole {version}" and made.content == b"BTF"
    (call,) = pahole.calls
    assert call.startswith(f"-J {options} --btf_encode_detached=")


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("FAIL", ENCODE_FAILED, "pahole 1.24 failed with status 1: no good DWARF"),
        ("CRASH", ENCODE_FAILED, "pahole 1.24 was killed by SIGSEGV: it did not say why"),
        ("NOTHING", ENCODE_FAILED, "wrote nothing"),
        ("HANG", ENCODE_TIMEOUT, "killed after 0.5 s"),
    ],
)
def test_what_can_go_wrong(
    fake: FakePahole, words: str, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(subprocess.Popen, "communicate", subprocess.Popen.communicate)  # undone
    begin_limits_when_hanging(str(fake.folder / "hanging"))
    with pytest.raises(EncodeError, match=message) as caught:
        encoded(with_dwarf(words), seconds=0.5)
    assert caught.value.kind == kind
    assert descriptors() <= before
    if words == "HANG":
        fake.wait_for_the_end()  # what pahole started must go too


def descriptors() -> set[str]:
    """What this process has open of the kinds that encoding uses: other threads have more."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = f"{descriptor.name}: {descriptor.readlink()}"
            if "/memfd:splitbtf-" in target or "pipe:" in target:
                found.add(target)
    return found


def test_pahole_goes_with_a_process_that_is_killed(fake: FakePahole) -> None:
    code = (
        "from pipeline.work.encode import encode; import sys; "
        "encode(sys.stdin.buffer.read(), path='m', release=None, seconds=1000)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.write(with_dwarf("HANG"))
    worker.stdin.close()
    wait_for((fake.folder / "hanging").exists, "a pahole that hangs")
    (child,) = [
        int(pid)
        for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    ]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists(), "the end of pahole")
    for pid in fake.running:  # what it had started itself, here "sleep", is the test's
        os.kill(pid, signal.SIGKILL)


def test_no_pahole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EncodeError, match="apt-get install dwarves") as caught:
        encoded(with_dwarf())
    assert caught.value.kind == NO_ENCODER
    for script in ("#!/bin/sh\necho hello\n", "#!/nowhere\n"):
        (tmp_path / "pahole").write_text(script)
        (tmp_path / "pahole").chmod(0o755)
        os.utime(tmp_path / "pahole", ns=(0, len(script)))
        with pytest.raises(EncodeError, match="apt-get install dwarves"):
            find_encoder()


# ------------------------------------------------------------------ kernels


def test_each_form_of_module(
    fake: FakePahole, tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    """Modules with BTF of use keep theirs; the others, and only they, go through pahole."""
    root = small_tree(tmp_path / "k", ["act_bpf"])
    good = demo_btf("hid-elecom")
    files = {
        "only-dwarf": with_dwarf(),
        "both": with_dwarf(sections={".BTF": good}),
        "useless-btf": with_dwarf(sections={".BTF": b"junk"}),
        "neither": elf({".modinfo": modinfo(name="neither")}),
        "hangs": with_dwarf("HANG"),
        "fails": with_dwarf("FAIL"),
        "other-kernel": elf({".debug_info": b"x", ".modinfo": modinfo(vermagic="5.4.0 SMP")}),
    }
    for name, content in files.items():
        (root / f"{name}.ko").write_bytes(content)
    (root / "vmlinux.btf.zst").rename(root / "vmlinux-6.1.0-50-cloud-amd64.btf.zst")
    arguments = ("run", root, "-o", tmp_path / "out", "--engine", "local", "--encode-seconds", 1)
    env = faults(hanging=str(fake.folder / "hanging"))
    done = splitbtf(*arguments, env=env)
    assert done.code == 1, done.err
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    told = {name: (row["form"], row["encoder"], row["error_kind"]) for name, row in rows.items()}
    assert told == {
        "act_bpf": ("standalone", None, None),
        "only-dwarf": ("dwarf", "pahole 1.24", None),
        "both": ("standalone", None, None),
        "useless-btf": ("dwarf", "pahole 1.24", None),
        "neither": (None, None, "no_btf"),
        "hangs": (None, None, "encode_timeout"),
        "fails": (None, None, "encode_failed"),
        "other-kernel": (None, None, "wrong_base"),
    }
    assert rows["only-dwarf"]["output_sha256"] == rows["both"]["output_sha256"]
    assert len(fake.calls) == 4
    fake.wait_for_the_end()

    done = splitbtf(*arguments, "--encode", "none")
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    assert rows["only-dwarf"]["error_kind"] == "no_btf"
    assert "--encode" in rows["only-dwarf"]["error"] or "pahole" in rows["only-dwarf"]["error"]
    assert len(fake.calls) == 4

    done = splitbtf(*arguments, "--encode", "all", env=env)
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    assert rows["both"]["form"] == "dwarf" and rows["act_bpf"]["form"] == "standalone"


def test_without_pahole_other_modules_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small_tree(tmp_path / "k", ["act_bpf"])
    (root / "m.ko").write_bytes(with_dwarf())
    python = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(python))
    done = splitbtf("run", root, "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "apt-get install dwarves" in done.out
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    assert rows["act_bpf"]["status"] == "done" and rows["m"]["error_kind"] == "no_encoder"


@pytest.mark.parametrize(("which", "engine"), [("missing", "ray"), ("all", "local")])
def test_debug_package_beside_the_image(
    which: str, engine: str, fake: FakePahole, tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    """DWARF from the -dbg package, for the modules that need it and for all."""
    release = "6.1.0-50-cloud-amd64"
    where = f"lib/modules/{release}/kernel"
    image = {
        f"{where}/has.ko": elf({".BTF": demo_btf("act_bpf"), ".modinfo": modinfo(name="has")}),
        f"{where}/lacks.ko": elf({".modinfo": modinfo(name="lacks")}),
        f"boot/vmlinux-{release}.btf": small_vmlinux(),
    }
    debug = {f"usr/lib/debug/{where}/{name}.ko": with_dwarf() for name in ("has", "lacks")}
    for name, files in (("image", image), ("dbg", debug)):
        (tmp_path / f"{name}.deb").write_bytes(debwriter.deb(files))
    packages = tmp_path / "image.deb", tmp_path / "dbg.deb"
    done = splitbtf("run", *packages, "-o", tmp_path / "out",
                    "--encode", which, "--engine", engine, "--workers", 1)  # fmt: skip
    assert done.code == 0, done.err
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    forms = {name: row["form"] for name, row in rows.items()}
    assert forms == {"has": "standalone" if which == "missing" else "dwarf", "lacks": "dwarf"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock", "btf", "cache", "manifests", "tables", "versions",
    ]  # fmt: skip


def test_a_vmlinux_that_has_only_dwarf(
    fake: FakePahole, tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    base = tmp_path / "vmlinux-6.1.0"
    base.write_bytes(elf({".debug_info": b"x"}))
    other = tmp_path / "vmlinuz-6.1.0"
    other.write_bytes(b"MZ no kernel in it")
    files = [FileInput(str(path), path.name) for path in (base, other)]
    found = load_first(files, lambda file: file, load_file, encode_seconds=PATIENCE)
    assert found.encoder == "pahole 1.24" and found.file == files[0] and found.release == "6.1.0"
    assert found.content == btf.parse(demo_btf("hid-elecom")).to_bytes()
    with pytest.raises(BaseError, match=r"only DWARF.*no compressed vmlinux"):
        load_first(files, lambda file: file, load_file, encode_seconds=0)


# ------------------------------------------------------------------ the real one

SOURCE = """\
struct list_head { struct list_head *next, *prev; };
struct mine { struct list_head list; double weight; int flags : 3; };
int mine_init(struct mine *m, enum { ON = 1, OFF } how) { return m->flags + how; }
"""


@pytest.mark.skipif(
    not (shutil.which("pahole") and shutil.which("gcc")), reason="pahole or gcc is not installed"
)
@pytest.mark.parametrize("size", ["small", "large"])
def test_pahole_itself(tmp_path: Path, size: str) -> None:
    source = SOURCE + "".join(
        f"struct s{n} {{ struct mine m[{n + 1}]; long x{n}; }} v{n};\n"
        for n in range(5000 if size == "large" else 1)
    )
    (tmp_path / "m.c").write_text(source)
    subprocess.run(["gcc", "-g", "-c", "m.c", "-o", "m.ko"], cwd=tmp_path, check=True)
    content = (tmp_path / "m.ko").read_bytes()
    made = encode(content, path="m.ko", release="6.1.0", seconds=PATIENCE)
    again = encode(None, path=str(tmp_path / "m.ko"), release="6.1.0", seconds=PATIENCE)
    assert made == again and made.encoder == str(encoding.find_encoder())
    types = btf.parse(made.content)
    assert types.find("mine", btf.Struct).size == 32
    assert types.find("double").kind == btf.kinds.FLOAT
    command = ["pahole", "-J", *build_options(find_encoder().version, "6.1.0"),
               "--btf_encode_detached=m.btf", "m.ko"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "m.btf").read_bytes() == made.content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.btf", "m.c", "m.ko"]


# Of other languages, with what pahole cannot put into BTF, and a type of the name of one in C.
CXX = """\
namespace n { struct base { int x; }; struct mine { int base::*pointer; double weight[3]; }; }
extern "C" int of_cxx(n::mine *m) { return m->pointer != nullptr; }
"""
RUST = """\
#![no_std]
#![crate_type = "lib"]
pub enum Mine { A(u32), B { x: u64, y: u8 } }
#[no_mangle]
pub extern "C" fn of_rust(m: &Mine) -> u32 {
    match m { Mine::A(x) => *x, Mine::B { y, .. } => *y as u32 }
}
"""


def built(folder: Path, name: str, *command: str) -> str:
    """An object file, if its compiler is installed and works."""
    if not works(command[0]):
        pytest.skip(f"no {command[0]} that works")
    subprocess.run([*command, "-g", "-o", f"{name}.o"], cwd=folder, check=True, capture_output=True)
    return f"{name}.o"


def renumber(path: Path, language: int) -> None:
    """Have the one unit of an object file say that it is in another language."""
    command = ["readelf", "-S", "--debug-dump=info", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    start = re.search(r"\] \.debug_info +PROGBITS +\w+ +(\w+)", told)
    at = re.search(r"<(\w+)> +DW_AT_language +: 33", told)
    assert start is not None and at is not None
    content = bytearray(path.read_bytes())
    content[int(start[1], 16) + int(at[1], 16)] = language
    path.write_bytes(content)


def module_of(folder: Path, *objects: str) -> bytes:
    subprocess.run(["ld", "-r", *objects, "-o", "m.ko"], cwd=folder, check=True)
    return (folder / "m.ko").read_bytes()


def works(command: str) -> bool:
    """Whether a compiler is installed: rustup's commands may be, without one that they begin."""
    if shutil.which(command) is None:
        return False
    return not subprocess.run([command, "--version"], check=False, capture_output=True).returncode


@pytest.mark.skipif(
    not (shutil.which("pahole") and shutil.which("gcc")), reason="pahole or gcc is not installed"
)
@pytest.mark.parametrize("language", ["c++", "c++17", "go", "rust"])
def test_other_languages_are_left_out(language: str, tmp_path: Path) -> None:
    """C++17's number in DWARF, which few compilers write, and Go's are put where theirs is."""
    if find_encoder().version < (1, 24):
        pytest.skip("this pahole cannot leave languages out")
    for name, source in (("m.c", SOURCE), ("x.cc", CXX), ("x.rs", RUST)):
        (tmp_path / name).write_text(source)
    own = built(tmp_path, "m", "gcc", "-c", "m.c")
    if language != "rust":
        other = built(tmp_path, "x", "g++", "-c", "x.cc", "-gdwarf-5", "-std=c++14")
        if language != "c++":
            renumber(tmp_path / other, {"c++17": 0x2B, "go": 0x16}[language])
    else:
        other = built(tmp_path, "x", "rustc", "--emit=obj", "-Cpanic=abort", "x.rs")
    alone = encoded(module_of(tmp_path, own))
    assert btf.parse(alone).find("mine", btf.Struct).size == 32
    for objects in ((own, other), (other, own)):
        assert encoded(module_of(tmp_path, *objects)) == alone
    with pytest.raises(EncodeError, match="wrote nothing, as it does where no part is in C"):
        encoded(module_of(tmp_path, other))


@pytest.mark.skipif(
    not (shutil.which("pahole") and shutil.which("gcc")), reason="pahole or gcc is not installed"
)
@pytest.mark.parametrize("way", ["zlib", "zlib-gnu", "zstd"])
def test_compressed_debug_sections(way: str, tmp_path: Path) -> None:
    """Whatever pahole's libelf knows, the BTF is that of the file whose sections are plain."""
    structs = "".join(f"struct s{n} {{ struct mine m[{n}]; }} v{n};\n" for n in range(30))
    (tmp_path / "m.c").write_text(SOURCE + structs)
    plain = module_of(tmp_path, built(tmp_path, "m", "gcc", "-c", "m.c"))
    command = ["objcopy", f"--compress-debug-sections={way}", "m.ko", "p.ko"]
    if subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip(f"this objcopy does not know {way}")
    packed = (tmp_path / "p.ko").read_bytes()
    assert (b".zdebug_info\0" in packed) == (way == "zlib-gnu") and packed != plain
    assert encoded(packed) == encoded(plain)
    again = encode(None, path=str(tmp_path / "p.ko"), release="6.1.0", seconds=PATIENCE)
    assert again.content == encoded(plain)
