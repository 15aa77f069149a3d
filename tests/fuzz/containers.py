"""Mutants of what BTF comes in: compressed files, ELF, tars, packages, kernel images, and of the
manifests that name sources.

Beside the faults that any mutant can show, nothing may be lost without a word: every module of the
sound container is there with its bytes, or something was said. Where a container has no check sum
over its contents, what is inside may have changed, but nothing is missing.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import random
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from fuzz import corpus, mutate
from fuzz.btf_target import pieces_less
from fuzz.operations import digest, expect
from pipeline.model.base import IndexedBase
from pipeline.model.options import ENCODE_NONE, KernelContext, RunOptions
from pipeline.sources import manifests
from pipeline.sources.discover import find_kernels, find_modules
from pipeline.sources.unpack import unpacked
from pipeline.work.base import load_base
from pipeline.work.module import ModuleResult, run_module
from support.writers import debwriter, elfwriter, imagewriter, rpmwriter

ZSTD = zstandard.ZstdCompressor(write_checksum=True)
SQUEEZE: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".xz": lzma.compress,
    ".zst": ZSTD.compress,
}  # fmt: skip
RELEASE = "6.1.0-1-fuzz"
Found = dict[str, str]  # name of a module -> digest of its split BTF


class Said(Exception):
    """Something was said of some module, so nothing is lost without a word."""


@dataclass(frozen=True)
class Container:
    """A sound file, what it holds, and whether a check sum covers its contents.

    ``named``   whether names of files inside are part of it
    ``base``    it is a vmlinux, not modules
    """

    name: str
    data: bytes
    checked: bool
    base: bool = False


@dataclass(frozen=True)
class Mutant:
    container: Container
    data: bytes
    seed: int


def modules() -> dict[str, bytes]:
    """Three modules of one base, small enough to be put on it thousands of times."""
    chosen = [s for s in corpus.subjects() if s.module[:2] == b"\x9f\xeb"][-3:]
    return {f"module_{at}": subject.module for at, subject in enumerate(chosen)}


@functools.cache
def base_bytes() -> bytes:
    return next(s.base for s in corpus.subjects() if s.name == "seed-0")


@functools.cache
def containers() -> tuple[Container, ...]:
    """All sorts, each compressed in every way."""
    files, found = modules(), []
    one = files["module_0"]
    elf = elfwriter.elf({".BTF": one, ".modinfo": elfwriter.modinfo(name="m"), ".text": bytes(99)})
    vmlinux = elfwriter.elf({".BTF": base_bytes(), ".rodata": bytes(range(256)) * 8})
    tar = debwriter.tar({f"lib/{name}.btf": data for name, data in files.items()})
    tree = {f"lib/modules/{RELEASE}/kernel/{name}.ko": elfwriter.elf({".BTF": data})
            for name, data in files.items()}  # fmt: skip
    for suffix, squeeze in SQUEEZE.items():
        checked = suffix != ""
        found.append(Container(f"module_0.btf{suffix}", squeeze(one), checked))
        found.append(Container(f"module_0.ko{suffix}", squeeze(elf), checked))
        found.append(Container(f"all.btf.tar{suffix}", squeeze(tar), checked))
        deb = debwriter.deb(tree, package=f"linux-image-{RELEASE}", compression=suffix)
        # Debian's own zstd has no check sums, as that of the tests' writer.
        found.append(Container(f"linux{suffix}.deb", deb, suffix in (".gz", ".xz")))
        facts = {".PKGINFO": b"pkgname = linux\npkgver = 1\narch = all\n", **tree}
        pacman = squeeze(debwriter.tar(facts))
        found.append(Container(f"linux.pkg.tar{suffix}", pacman, checked))
        bundle = squeeze(debwriter.tar({f"linux{suffix}.deb": deb}))
        found.append(Container(f"all.tar{suffix}", bundle, checked))
    for compression in ("none", "xz", "zstd"):  # rpm has a sum of each file
        for stripped in (False, True):
            packed = rpmwriter.rpm(tree, compression=compression, stripped=stripped)
            found.append(Container(f"linux-{stripped}.rpm", packed, True))
    packed = SQUEEZE[".gz"](one) + SQUEEZE[".gz"](b"")
    found.append(Container("module_0.btf.gz", packed, True))
    found.append(Container("vmlinux", vmlinux, False, base=True))
    for name, compress in imagewriter.COMPRESSORS.items():
        image = imagewriter.bzimage(compress(vmlinux), 4)
        found.append(Container("vmlinuz", image, name in ("gzip", "bzip2", "xz"), base=True))
        image = imagewriter.zboot(compress(vmlinux), name.encode())
        found.append(Container("vmlinuz", image, name in ("gzip", "bzip2", "xz"), base=True))
    return tuple(found)


# ------------------------------------------------------------------------------------ mutation


def mutated(data: bytes, roll: random.Random) -> bytes:
    """Noise, at the places where containers say something."""
    out = bytearray(data)
    for _ in range(roll.choice((1, 1, 2, 3))):
        kind, size = roll.randrange(9), len(out)
        at = roll.choice((roll.randrange(size or 1), roll.randrange(min(size, 300) or 1),
                          max(0, size - 1 - roll.randrange(300))))  # fmt: skip
        block = at // 512 * 512
        match kind:
            case 0 if size:
                out[at] ^= 1 << roll.randrange(8)
            case 1 if size:
                out[at] = roll.choice((0, 0x20, 0x30, 0x37, 0x7F, 0xFF))
            case 2 if size >= 8:
                where = min(at, size - 8)
                number = roll.choice(mutate.ODD_NUMBERS)
                struct.pack_into(roll.choice("<>") + roll.choice("IQ"), out, where, number)
            case 3:
                del out[at:]
            case 4:
                del out[block : block + 512 * roll.choice((1, 2, 8))]
            case 5:
                out[block : block + 512] = bytes(512)
            case 6:
                out += roll.choice((b"\0", b"x", bytes(512), bytes(out[:600]), roll.randbytes(700)))
            case 7:
                out[at:at] = out[at : at + roll.choice((1, 60, 512))]
            case 8:
                _tar_field(out, block, roll)
    return bytes(out)


def _tar_field(out: bytearray, block: int, roll: random.Random) -> None:
    """A field of a tar header, whose check sum is right again."""
    if len(out) < block + 512:
        return
    field = roll.choice(((124, b"%011o\0" % roll.choice((0, 1, 511, 512, 513, 1 << 32))),
                         (124, b"\x80" + roll.choice((0, 1 << 40)).to_bytes(11, "big")),
                         (156, roll.choice((b"0", b"1", b"2", b"5", b"L", b"x", b"g", b"S"))),
                         (0, roll.choice((b"../../up.btf\0", b"/etc/x.btf\0", b"\xff.btf\0"))),
                         (345, b"prefix\0"), (157, b"/etc/passwd\0")))  # fmt: skip
    out[block + field[0] : block + field[0] + len(field[1])] = field[1]
    out[block + 148 : block + 156] = b" " * 8
    out[block + 148 : block + 156] = b"%06o\0 " % (sum(out[block : block + 512]) & 0o777777)


# ------------------------------------------------------------------------------------ what is done


@functools.cache
def indexed() -> IndexedBase:
    with tempfile.TemporaryDirectory(prefix="splitbtf-fuzz-") as folder:
        path = Path(folder, "base.btf")
        path.write_bytes(base_bytes())
        return load_base(str(path))


def read(container: Container, data: bytes) -> Found:
    """Everything in a container, as the command line does it."""
    with tempfile.TemporaryDirectory(prefix="splitbtf-fuzz-", dir="/dev/shm") as folder:
        path = Path(folder, container.name)
        path.write_bytes(data)
        if container.base:
            loaded = load_base(str(path))
            assert loaded.index.base is not None
            return {"vmlinux": hashlib.sha256(loaded.index.base.to_bytes()).hexdigest()}
        base = indexed()
        context = KernelContext(RunOptions((str(path),), folder, encode=ENCODE_NONE), base.release)
        found, said = {}, []
        with unpacked(find_modules([str(path)])) as readable:
            for module in readable:
                worked = run_module(module, base.index, context)
                assert isinstance(worked, ModuleResult)
                failure, content = worked.record.failure, worked.content
                expect((content is None) == (failure is not None), "neither done nor failed")
                if failure is not None:
                    said.append(failure.message)
                elif content is not None:
                    found[module.name] = hashlib.sha256(content).hexdigest()
        if said:
            raise Said(said[0].replace(str(path), container.name))
        return found


@functools.cache
def sound(container: Container) -> Found:
    return read(container, container.data)


class ContainerTarget:
    """One container that is a mutant."""

    name = "containers"
    is_compiled = False

    def prepare(self) -> None:
        """Every container as it is."""
        for container in containers():
            sound(container)

    def mutant(self, seed: int) -> Mutant:
        roll = random.Random(seed)
        all_of_them = containers()
        container = all_of_them[seed % len(all_of_them)]
        return Mutant(container, mutated(container.data, roll), seed)

    def group(self, mutant: Mutant) -> str:
        return mutant.container.name.replace("module_0", "module")

    def size(self, mutant: Mutant) -> int:
        return len(mutant.data)

    def run(self, mutant: Mutant) -> Iterator[bytes]:
        found = read(mutant.container, mutant.data)
        yield digest(found)
        expected = sound(mutant.container)
        if mutant.container.checked:
            left = set(expected.values()) - set(found.values())
            expect(not left, f"{len(left)} of {len(expected)} modules changed without a word")
        expect(len(found) >= len(expected) or _renamed(mutant),
               f"{len(found)} of {len(expected)} modules, and no word")  # fmt: skip

    def allowed(self, mutant: Mutant) -> tuple[type[Exception], ...]:
        return (Said,)

    def shrunk(self, mutant: Mutant) -> Iterator[Mutant]:
        for data in pieces_less(mutant.data):
            yield Mutant(mutant.container, data, mutant.seed)

    def files(self, mutant: Mutant) -> dict[str, bytes]:
        at = containers().index(mutant.container)
        return {mutant.container.name: mutant.data, "container": str(at).encode()}

    def again(self, group: str, seed: int, files: dict[str, bytes]) -> Mutant:
        container = containers()[int(files.pop("container"))]
        return Mutant(container, files[container.name], seed)


def _renamed(mutant: Mutant) -> bool:
    """Whether a sound header calls a file otherwise, or says that it is none: not to be found then.

    Only where the mutant is a tar by itself or a package of one, with headers that are sound.
    """
    import io
    import tarfile

    data = mutant.data
    if mutant.container.name.endswith(".deb"):
        return False
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
            entries = tar.getmembers()
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError):
        return False
    plain = [e for e in entries if e.isreg() and e.name.endswith(".btf")]
    return len(entries) >= 3 > len(plain)


# ------------------------------------------------------------------------------------ manifests

PACKAGE = b"""
[[package]]
name = "linux-image-6.1.0-50-cloud-amd64"
version = "6.1.176-1"
bytes = 26484304
sha256 = "%s"
when = "debug"
""" % (b"0" * 64)


@functools.cache
def manifest() -> bytes:
    """One that is sound."""
    return b"""format = 1
name = "debian-6.1.0-50-cloud-amd64"
kernel = "6.1.0-fuzz"
base = "vmlinux.btf"
architecture = "amd64"
release = "6.1.0-50-cloud-amd64"

[[file]]
path = "modules"

[[file]]
path = "module_0.btf"
sha256 = "%s"
""" % hashlib.sha256(modules()["module_0"]).hexdigest().encode()


WORDS = (b"format", b"=", b'"', b"'", b"[[file]]", b"[[package]]", b"[file]", b"path", b"../..",
         b"/etc", b"-1", b"1e400", b"99999999999999999999", b"true", b"nan", b"\n", b"#",
         b"\\u0000", b"\xff", b"[" * 2000, b"a." * 600, b'"""', b"1979-05-27", b"{}", b"kernel",
         b"..")  # fmt: skip


class ManifestTarget:
    """A manifest that is a mutant: it is refused, or names kernels, and nothing else is read."""

    name = "manifests"
    is_compiled = False

    def prepare(self) -> None:
        """The manifest as it is."""
        list(self.run(manifest()))

    def mutant(self, seed: int) -> bytes:
        roll = random.Random(seed)
        out = manifest() + PACKAGE * (roll.random() < 0.3)
        for _ in range(roll.choice((1, 1, 2, 4))):
            lines = out.split(b"\n")
            at = roll.randrange(len(out) + 1)
            match roll.randrange(6):
                case 0:
                    out = out[:at] + roll.choice(WORDS) + out[at:]
                case 1:
                    out = out.replace(roll.choice(WORDS), roll.choice(WORDS), 1)
                case 2:
                    del lines[roll.randrange(len(lines))]
                    out = b"\n".join(lines)
                case 3:
                    lines.insert(roll.randrange(len(lines)), roll.choice(lines))
                    out = b"\n".join(lines)
                case 4:
                    where = roll.randrange(len(lines))
                    key = lines[where].partition(b"=")[0]
                    value = roll.choice((*WORDS, b'"x"', b'"../../x"', b'"/etc"', b"[]", b"1"))
                    lines[where] = key + b"=" + value
                    out = b"\n".join(lines)
                case 5:
                    out = mutate.noise(out, roll)
        return out

    def group(self, mutant: bytes) -> str:
        return "manifest"

    def size(self, mutant: bytes) -> int:
        return len(mutant)

    def run(self, mutant: bytes) -> Iterator[bytes]:
        with tempfile.TemporaryDirectory(prefix="splitbtf-fuzz-", dir="/dev/shm") as folder:
            path = Path(folder, "kernel.toml")
            path.write_bytes(mutant)
            Path(folder, "vmlinux.btf").write_bytes(base_bytes())
            Path(folder, "modules").mkdir()
            for where in ("modules/module_1.btf", "module_0.btf"):
                Path(folder, where).write_bytes(modules()[Path(where).stem])
            loaded = manifests.load(str(path))
            seen: list[object] = [loaded.name]
            for kernel in find_kernels([str(path)]):
                expect("/" not in kernel.name and kernel.name not in (".", ".."), "a kernel's name")
                seen += [kernel.name, [module.name for module in kernel.modules]]
        yield digest(seen)

    def allowed(self, mutant: bytes) -> tuple[type[Exception], ...]:
        return ()

    def shrunk(self, mutant: bytes) -> Iterator[bytes]:
        return pieces_less(mutant)

    def files(self, mutant: bytes) -> dict[str, bytes]:
        return {"kernel.toml": mutant}

    def again(self, group: str, seed: int, files: dict[str, bytes]) -> bytes:
        return files["kernel.toml"]
