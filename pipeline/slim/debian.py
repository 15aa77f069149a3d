"""Debian packages of kernel modules, with other content of some files (deb(5), deb-control(5)).

The new package is a version of its own, as one that somebody has built anew locally: the version
gets ``+slim1``, which comes after the one that it is made of and before the next of the archive, so
that apt keeps it until there is an update. Other packages of the kernel depend on the very version
that it is made of, which it therefore provides; ``Source`` goes on naming that version. ``md5sums``
and ``Installed-Size`` are made again; all other files, fields and scripts are as they were.
Compression is as before.

Everything is streamed: memory does not grow with the package.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from btf.files.decompress import FOR_PACKAGES, GZIP, XZ, ZSTD, find

from ..files.compress import Compressor, compressor_of
from ..files.read import open_stored, unreadable
from ..files.scratch import ScratchFolder
from ..files.storage import LocalFolder, cannot_write
from ..model.errors import OutputError, SourceError
from ..sources.archive import COPY_BYTES, PackageError, Part, Stored, plain_name
from ..sources.formats import deb
from ..sources.names import printable, safe

VERSION_SUFFIX = "+slim1"
_ONE = re.compile(r"^(?P<key>[^\s:]+):[ \t]*(?P<value>[^\n]*)\n", re.MULTILINE)
_PIECE = 16 << 10
_ENDINGS = {None: "", XZ: ".xz", ZSTD: ".zst", GZIP: ".gz"}  # of what dpkg-deb still makes


@dataclass(frozen=True, slots=True)
class SlimPackage:
    """A package that was written: its path and size, that of the one it is made of, its version,
    and how many of its files are others."""

    source: str
    path: str
    version: str
    bytes_before: int
    bytes_after: int
    changed: int


def is_debian(path: str) -> bool:
    """Whether a package's name says that it is Debian's."""
    return path.endswith(deb.FORMAT.suffixes)


def write_package(path: str, changed: Set[str], contents: LocalFolder, output: str) -> SlimPackage:
    """Write a package with other content of some of its files.

    path      of the package that it is made of
    changed   names of these files in it
    contents  where their new content is, under these names
    output    the folder that it is written to

    Raises SourceError for a package that cannot be read, OutputError.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(closing(open_stored(path)))
            scratch = stack.enter_context(ScratchFolder())
            members = dict(deb.ar_members(Stored.of_file(file)))
            if not {"control", "data"} <= members.keys():
                raise PackageError("no Debian package: it lacks control.tar or data.tar")
            whole = _Package(members, f"{scratch.path}/data", f"{scratch.path}/control")
            sums, installed = whole.write_data(changed, contents)
            facts = whole.write_control(sums, installed)
            before = file.seek(0, io.SEEK_END)
            name = f"{facts['package']}_{facts['version'].partition(':')[2] or facts['version']}"
            name = f"{name}_{facts['architecture']}.deb"
            if safe(name) != name:
                raise PackageError(f"{printable(name)} cannot be a package's name")
            target = f"{scratch.path}/deb"
            _write_ar(target, whole.parts(), whole.time)
            after = os.path.getsize(target)
            try:
                LocalFolder(output).upload(target, name)
            except OSError as error:
                raise cannot_write(error.filename or output, error) from error
    except PackageError as error:
        raise SourceError(f"{printable(path)}: {error}") from error
    except tarfile.TarError as error:
        raise SourceError(f"{printable(path)}: damaged: {error}") from error
    except OSError as error:
        if error.filename == path:
            raise SourceError(f"{printable(path)}: {unreadable(path, error)}") from error
        raise OutputError(f"cannot write a package: {error.strerror or error}") from error
    return SlimPackage(path, f"{output}/{name}", facts["version"], before, after, len(changed))


class _Package:
    """A package that is read, and what is written of it so far."""

    def __init__(
        self,
        members: dict[str, Stored],
        data_path: str,
        control_path: str,
    ) -> None:
        self.time = 0  # of the newest file, in seconds since 1970
        self._members = members
        self._paths = {"control": control_path, "data": data_path}
        self._endings = dict.fromkeys(self._paths, "")

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield the names and paths of what the package is made of."""
        for name in ("control", "data"):
            yield f"{name}.tar{self._endings[name]}", self._paths[name]

    def write_data(self, changed: Set[str], contents: LocalFolder) -> tuple[dict[str, str], int]:
        """Write ``data.tar``; returns md5 sums by names, and how many KiB the files take."""
        sums: dict[str, str] = {}
        kilobytes = 0
        with self._rewriting("data") as (before, after):
            for entry in before:
                self.time = max(self.time, int(entry.mtime))
                name = plain_name(entry.name)
                content: Any = before.extractfile(entry) if entry.isreg() else None
                if name in changed and entry.isreg():
                    new = contents.read(os.path.normpath(name))
                    entry.size, content = len(new), io.BytesIO(new)
                if entry.issparse():
                    raise PackageError(f"{printable(name)} is packed as a sparse file")
                if content is None:
                    after.addfile(entry)
                    kilobytes += 1
                    if entry.islnk():  # another name of a file that came before
                        sums[name] = sums.get(plain_name(entry.linkname), "")
                    continue
                counted = _Summed(content)
                after.addfile(entry, counted)
                sums[name] = counted.digest.hexdigest()
                kilobytes += -(-entry.size // 1024)
        return sums, kilobytes

    def write_control(self, sums: dict[str, str], kilobytes: int) -> dict[str, str]:
        """Write ``control.tar``; returns the fields of ``control``, keys in lower case."""
        facts: dict[str, str] = {}
        with self._rewriting("control") as (before, after):
            for entry in before:
                content: Any = before.extractfile(entry) if entry.isreg() else None
                name = plain_name(entry.name)
                if content is not None and name in ("control", "md5sums"):
                    text = content.read().decode("utf-8", "surrogateescape")
                    if name == "control":
                        text, facts = new_control(text, kilobytes)
                    else:
                        text = _new_sums(text, sums)
                    data = text.encode("utf-8", "surrogateescape")
                    entry.size, content = len(data), io.BytesIO(data)
                after.addfile(entry, content)
        if not {"package", "version", "architecture"} <= facts.keys():
            raise PackageError("damaged: its control file lacks Package, Version or Architecture")
        return facts

    @contextmanager
    def _rewriting(self, name: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarFile]]:
        """Read a tar and write another, compressed alike."""
        stored = self._members[name]
        compression = find(stored.read_at(0, 8), FOR_PACKAGES)
        compression = compression if compression in _ENDINGS else XZ
        self._endings[name] = _ENDINGS[compression]
        with (
            closing(Part(stored)) as part,
            open(self._paths[name], "wb") as out,  # noqa: PTH123
            closing(_Compressed(out, compressor_of(compression))) as written,
            tarfile.open(fileobj=part, mode="r|", bufsize=_PIECE) as before,  # type: ignore[call-overload]
            tarfile.open(fileobj=written, mode="w|", format=tarfile.GNU_FORMAT) as after,  # type: ignore[call-overload]
        ):
            yield before, after
            while part.read(COPY_BYTES):  # what is damaged at its end shows
                pass


def new_control(text: str, kilobytes: int) -> tuple[str, dict[str, str]]:
    """Return the ``control`` file of the new package, and its fields, keys in lower case.

    kilobytes   what its files take, in KiB: Installed-Size
    """
    before = {found["key"].lower(): found["value"].strip() for found in _ONE.finditer(text)}
    version = before.get("version", "")
    own = f"{before.get('package')} (= {version})"

    def changed(found: re.Match[str]) -> str:
        key, value = found["key"], found["value"].strip()
        if key.lower() == "version":
            value += VERSION_SUFFIX
        elif key.lower() == "installed-size":
            value = str(kilobytes)
        elif key.lower() == "provides":
            value = f"{own}, {value}"
        elif key.lower() == "source" and "(" not in value:
            value += f" ({version})"
        else:
            return found[0]
        line = f"{key}: {value}\n"
        if key.lower() == "version" and "provides" not in before:
            line += f"Provides: {own}\n"
        return line

    text = _ONE.sub(changed, text if text.endswith("\n") else f"{text}\n")
    return text, before | {"version": f"{version}{VERSION_SUFFIX}"}


def _new_sums(text: str, sums: dict[str, str]) -> str:
    """Return ``md5sums`` with the sums that files have now, in the order of before."""

    def changed(found: re.Match[str]) -> str:
        return f"{found[1]}{sums.get(plain_name(found[3])) or found[2]}  {found[3]}"

    return re.sub(r"^(\\?)([0-9a-f]{32}) [ *](.+)$", changed, text, flags=re.MULTILINE)


def _write_ar(target: str, parts: Iterator[tuple[str, str]], time: int) -> None:
    """Write an ``ar`` archive as dpkg-deb does."""
    with open(target, "wb") as out:  # noqa: PTH123
        out.write(deb.FORMAT.magic)
        _write_member(out, "debian-binary", time, io.BytesIO(b"2.0\n"), 4)
        for name, path in parts:
            with open(path, "rb") as content:  # noqa: PTH123
                _write_member(out, name, time, content, os.path.getsize(path))


def _write_member(out: BinaryIO, name: str, time: int, content: BinaryIO, size: int) -> None:
    out.write(f"{name:<16}{time:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode())
    shutil.copyfileobj(content, out, COPY_BYTES)
    out.write(b"\n" * (size % 2))


class _Summed:
    """A file that is read from front to back, and its md5 sum so far."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.digest = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._content.read(size)
        self.digest.update(data)
        return data


class _Compressed:
    """What writes to a file, compressed."""

    def __init__(self, out: BinaryIO, compressor: Compressor) -> None:
        self._out, self._compressor = out, compressor

    def write(self, data: bytes) -> int:
        self._out.write(self._compressor.compress(bytes(data)))
        return len(data)

    def close(self) -> None:
        self._out.write(self._compressor.flush())
