"""BTF from DWARF: runs pahole (Debian package ``dwarves``), the tool that kernel builds use.

pahole gets the file and gives the BTF through memory, so nothing is left behind on any disk. It
is killed when it takes too long, and dies with the process that started it. It runs on one thread:
with more, what it writes differs from run to run, which is why reproducible kernel builds do the
same. The BTF is standalone; making it split is what the rest of splitbtf does.

Compressed debug sections are decompressed here, within the limits of all sections: pahole knows
those compressions that its libelf does, and says nothing of others.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from btf.files.debug_sections import decompress_debug_sections
from btf.files.languages import renamed_languages
from btf.files.readable import OpenFile

from ..engine.isolation import die_with, no_time_limit
from ..files.read import LargeFile, open_content
from ..files.storage import write_all
from ..model.errors import InputError
from ..model.records import ENCODE_FAILED, ENCODE_TIMEOUT, NO_ENCODER

COMMAND = "pahole"
_INSTALL = "install pahole 1.16 or newer (Debian: apt-get install dwarves) and run again"
_MAX_SAID = 500  # characters of what pahole says that are worth repeating
_COPY_BYTES = 16 << 20
# BTF knows C only: what other languages have fails, or mixes with C's types of the same names.
# Those that pahole has no name for are called C++ before, see btf/files/languages.py.
_EXCLUDES_LANGUAGES = (1, 24)
_LANG_EXCLUDE = "--lang_exclude=rust,c++,c++03,c++11,c++14"


class EncodeError(InputError):
    """No BTF could be made of a file."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of it, and what made it (``pahole 1.24``)."""

    content: bytes
    encoder: str


@dataclass(frozen=True, slots=True)
class Encoder:
    """A pahole that is installed."""

    path: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"pahole {self.version[0]}.{self.version[1]}"


def encode(
    content: bytes | memoryview | None,
    *,
    path: str,
    release: str | None,
    seconds: float,
) -> Encoded:
    """Standalone BTF of an ELF file with DWARF.

    content  the file; None if it is to be read from ``path``
    release  of the kernel it was built for, which decides what its build would have encoded
    seconds  how long pahole may take

    Raises EncodeError, ReadError, or BtfError where debug sections cannot be decompressed.
    """
    encoder = find_encoder()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_source(content, path, encoder))
        target = stack.enter_context(_memory("btf"))
        command = [
            encoder.path,
            "-J",
            *build_options(encoder.version, release),
            f"--btf_encode_detached=/proc/self/fd/{target}",
            f"/proc/self/fd/{source}",
        ]
        words = _run(command, (source, target), encoder, seconds)
        size = os.fstat(target).st_size
        if not size:
            raise EncodeError(
                ENCODE_FAILED,
                f"{encoder} wrote nothing, as it does where no part is in C: "
                f"{words or 'it did not say why'}",
            )
        return Encoded(_read(target, size), str(encoder))


def find_encoder() -> Encoder:
    """The pahole that the search path names. Raises EncodeError, saying what to install."""
    path = shutil.which(COMMAND)
    if path is None:
        raise EncodeError(NO_ENCODER, f"it has DWARF to make BTF from, but no pahole: {_INSTALL}")
    return _ask_version(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=4)
def _ask_version(path: str, _changed: int) -> Encoder:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise EncodeError(NO_ENCODER, f"{path} cannot be run ({error}): {_INSTALL}") from error
    match = re.match(r"v?(\d+)\.(\d+)", told.stdout)
    if match is None:
        raise EncodeError(NO_ENCODER, f"{path} says no version that is known: {_INSTALL}")
    return Encoder(path, (int(match[1]), int(match[2])))


def build_options(pahole: tuple[int, int], release: str | None) -> tuple[str, ...]:
    """What a kernel's build asks of this pahole, by the kernel's release (None: a current one).

    Facts from scripts/pahole-flags.sh (until Linux 6.9) and scripts/Makefile.btf (since 6.10, read
    up to 7.2) of the kernel's source and its stable releases. Threads are left out, see above, and
    so is distilled_base: the base is at hand here.
    """
    match = re.match(r"(\d+)\.(\d+)", release or "")
    kernel = (int(match[1]), int(match[2])) if match else (99, 0)
    options: list[str] = []
    if pahole >= (1, 26) and kernel >= (6, 10):
        features = "encode_force,var,float,enum64,decl_tag,type_tag,optimized_func,consistent_func"
        if kernel >= (6, 11):
            features += ",decl_tag_kfuncs"
        options.append(f"--btf_features={features}")
        if pahole >= (1, 30) and kernel >= (6, 15):
            options.append("--btf_features=attributes")
        if pahole >= (1, 31) and kernel >= (7, 1):  # the section that says how kinds are laid out
            options.append("--btf_features=layout")
    else:
        if (1, 18) <= pahole <= (1, 21):  # it cannot handle per-CPU variables of no size
            options.append("--skip_encoding_btf_vars")
        if pahole >= (1, 21) and kernel >= (5, 13):  # BTF_KIND_FLOAT
            options.append("--btf_gen_floats")
        if pahole >= (1, 24) and kernel < (6, 0):  # BTF_KIND_ENUM64
            options.append("--skip_encoding_btf_enum64")
        if pahole >= (1, 25) and kernel >= (6, 1):
            options += ["--skip_encoding_btf_inconsistent_proto", "--btf_gen_optimized"]
    if pahole >= _EXCLUDES_LANGUAGES:  # builds exclude Rust since 6.1
        options.append(_LANG_EXCLUDE)
    return tuple(options)


def _run(command: list[str], inherited: tuple[int, int], encoder: Encoder, seconds: float) -> str:
    """Run it; returns what it said. Raises EncodeError."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()),
        )
    except OSError as error:
        raise EncodeError(NO_ENCODER, f"{encoder.path} cannot be run: {error}") from error
    with process, no_time_limit():
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise EncodeError(
                ENCODE_TIMEOUT,
                f"{encoder} was killed after {seconds:g} s; --encode-seconds allows more",
            ) from None
        finally:
            if process.poll() is None:  # an interrupt, too, must leave nothing running
                os.killpg(process.pid, signal.SIGKILL)
    words = " ".join(said.decode("utf-8", "backslashreplace").split())[:_MAX_SAID]
    if process.returncode:
        how = (
            f"was killed by {signal.Signals(-process.returncode).name}"
            if process.returncode < 0
            else f"failed with status {process.returncode}"
        )
        raise EncodeError(ENCODE_FAILED, f"{encoder} {how}: {words or 'it did not say why'}")
    return words


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    """A file that is in memory only."""
    descriptor = os.memfd_create(f"splitbtf-{name}")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _source(content: bytes | memoryview | None, path: str, encoder: Encoder) -> Iterator[int]:
    """What pahole reads: the file itself, or a copy in memory."""
    data = open_content(path) if content is None else content
    plain = decompress_debug_sections(data, path)
    excludes = encoder.version >= _EXCLUDES_LANGUAGES
    changes = renamed_languages(data, path) if excludes and plain is None else []
    if plain is None and isinstance(data, LargeFile) and not changes:
        yield data.fileno()
        return
    head, tail = plain or (b"", b"")
    with _memory("module") as copy:
        write_all(copy, head)
        for start in range(len(head), len(data), _COPY_BYTES):
            write_all(copy, data[start : start + _COPY_BYTES])
        write_all(copy, tail)
        if excludes and plain is not None:
            with open(copy, "rb", closefd=False) as file:
                changes = renamed_languages(OpenFile(file), path)
        for at, changed in changes:
            os.pwrite(copy, changed, at)
        yield copy


def _read(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (part := os.pread(descriptor, size, len(content))):
        content += part
    return content


def installed_encoder() -> str | None:
    """The pahole that would be used now."""
    try:
        return str(find_encoder())
    except EncodeError:
        return None
