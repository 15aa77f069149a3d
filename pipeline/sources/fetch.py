"""Downloads the packages of a manifest, with the machine's own apt, and checks every one.

    FOLDER/NAME/*.deb          the packages, each there when it is complete and its hash is right
    FOLDER/NAME/NAME.toml      the manifest: with it the folder is a source by itself
    FOLDER/NAME/.part/         a download that is not finished; the next one goes on with it
    FOLDER/.apt/ARCHITECTURE/  package lists, where the machine's own do not do

Packages are not unpacked. apt's lists and sources stay as they are: for another architecture, or
where the machine's lists are missing or old, lists are kept in the folder.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files.storage import LocalFolder
from .manifests import KernelManifest, PackageEntry, sha256_of

_SPARE_BYTES = 64 << 20
_MAX_SAID = 600  # characters of what apt says that are worth repeating
Announce = Callable[[str], None]


class FetchError(Exception):
    """A package that could not be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One package, and whether it was there already."""

    path: str
    bytes: int
    was_there: bool


def fetch(
    manifest: KernelManifest, folder: str, *, debug: bool, announce: Announce
) -> list[Fetched]:
    """Download a manifest's packages to ``folder``/NAME. Raises FetchError; what is there stays."""
    target = os.path.join(folder, manifest.name)
    wanted = [entry for entry in manifest.packages if debug or not entry.only_debug]
    if not wanted:
        raise FetchError(f"{manifest.path} names no packages; its files are where it says")
    try:
        os.makedirs(target, exist_ok=True)
        copy = f"{manifest.name}.toml"
        path = os.path.join(target, copy)
        if not (os.path.exists(path) and os.path.samefile(path, manifest.path)):
            content = Path(manifest.path).read_bytes()
            LocalFolder(target).publish(copy, content, durable=False)
        return [_fetch_one(entry, target, folder, announce) for entry in wanted]
    except OSError as error:
        raise FetchError(f"cannot write {error.filename or target}: {error.strerror}") from error


def _fetch_one(entry: PackageEntry, target: str, folder: str, announce: Announce) -> Fetched:
    path = os.path.join(target, entry.file_name)
    if os.path.exists(path):
        if sha256_of(path) == entry.sha256:
            return Fetched(path, entry.bytes, was_there=True)
        announce(f"{path} is not what the manifest says: fetching it again")
        os.remove(path)
    part = os.path.join(target, ".part")
    os.makedirs(part, exist_ok=True)
    fresh = os.path.join(part, entry.file_name)
    if os.path.exists(fresh) and os.path.getsize(fresh) >= entry.bytes:
        os.remove(fresh)  # it would have been moved if it were right
    if shutil.disk_usage(part).free < entry.bytes + _SPARE_BYTES:
        raise FetchError(f"not enough room in {part} for {entry.file_name} ({entry.bytes} bytes)")
    announce(f"fetching {entry.file_name} ({entry.bytes / 1e6:.0f} MB)")
    _Apt(entry.architecture, folder, announce).download(entry, part)
    found = sha256_of(fresh)
    if found != entry.sha256:
        os.remove(fresh)
        raise FetchError(
            f"{entry.file_name}: sha256 is {found}, but the manifest says {entry.sha256}; "
            "what apt gave was removed"
        )
    os.replace(fresh, path)
    shutil.rmtree(part, ignore_errors=True)
    return Fetched(path, entry.bytes, was_there=False)


class _Apt:
    """apt, for packages of one architecture."""

    def __init__(self, architecture: str, folder: str, announce: Announce) -> None:
        if shutil.which("apt-get") is None:
            raise FetchError(
                "there is no apt-get on this machine; packages got in any other way do as well: "
                "put them into a folder and give that to `splitbtf run`"
            )
        self._architecture = architecture
        self._state = os.path.join(os.path.abspath(folder), ".apt", architecture)
        self._announce = announce

    def download(self, entry: PackageEntry, folder: str) -> None:
        """Into ``folder``, going on with what lies there of the package. Raises FetchError."""
        wanted = f"{entry.name}={entry.version}"
        if self._is_native() and self._offers(wanted, ()):
            options: tuple[str, ...] = ()
        else:
            options = self._own_options()
            if not self._offers(wanted, options):
                self._announce(f"reading package lists for {self._architecture} into {self._state}")
                for needed in ("lists/partial", "cache/archives/partial"):
                    os.makedirs(f"{self._state}/{needed}", exist_ok=True)
                self._must(["apt-get", "-q", *options, "update"])
            if not self._offers(wanted, options):
                raise FetchError(self._not_offered(entry, options))
        self._must(["apt-get", "-q", *options, "download", wanted], folder)
        if not os.path.exists(os.path.join(folder, entry.file_name)):
            raise FetchError(f"apt-get said that it downloaded {wanted}, but there is no file")

    def _is_native(self) -> bool:
        told = self._run(["dpkg", "--print-architecture"])
        return told.returncode == 0 and told.stdout.strip() == self._architecture

    def _own_options(self) -> tuple[str, ...]:
        user = pwd.getpwuid(os.getuid()).pw_name
        values = {
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": user,
            "Dir::State::Lists": f"{self._state}/lists",
            "Dir::Cache": f"{self._state}/cache",
        }
        return tuple(word for key, value in values.items() for word in ("-o", f"{key}={value}"))

    def _offers(self, wanted: str, options: tuple[str, ...]) -> bool:
        told = self._run(["apt-cache", "-q", *options, "show", wanted])
        return told.returncode == 0 and "\nFilename: " in told.stdout

    def _not_offered(self, entry: PackageEntry, options: tuple[str, ...]) -> str:
        told = self._run(["apt-cache", "-q", *options, "show", entry.name])
        versions = re.findall("^Version: (.*)$", told.stdout, re.MULTILINE)
        offers = f"offers {', '.join(versions)}" if versions else "knows no such package"
        return (
            f"apt does not offer {entry.name} {entry.version} for {entry.architecture}: it "
            f"{offers}. Debian keeps a version until newer ones have replaced it; are Debian "
            "bookworm and its security updates among apt's sources?"
        )

    def _must(self, command: list[str], folder: str | None = None) -> None:
        """Run a command that has to succeed. Raises FetchError with what it says."""
        done = self._run(command, folder)
        if done.returncode:
            said = " ".join(line for line in done.stderr.split("\n") if line.startswith("E:"))
            said = (said or done.stderr.strip() or "it did not say why")[:_MAX_SAID]
            raise FetchError(f"{' '.join(command)} failed: {said}")

    def _run(
        self, command: list[str], folder: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            raise FetchError(f"cannot run {command[0]}: {error.strerror}") from error
