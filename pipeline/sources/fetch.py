"""Downloads the packages of a manifest, with the machine's own apt, and checks every one.

    FOLDER/NAME/*.deb          the packages, each there when it is complete and its hash is right
    FOLDER/NAME/NAME.toml      the manifest: with it the folder is a source by itself
    FOLDER/NAME/.part/         a download that is not finished; the next one goes on with it
    FOLDER/.apt/ARCHITECTURE/  package lists, where the machine's own do not do; of another suite
                               of Debian in ARCHITECTURE-SUITE/

Packages are not unpacked. apt's lists and sources stay as they are: for another architecture or
suite, or where the machine's lists are missing or old, lists are kept in the folder.
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
_SOURCES = "sources.list"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
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
    _Apt(entry.architecture, entry.suite, folder, announce).download(entry, part)
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
    """apt, for packages of one architecture, of a suite where one is named."""

    def __init__(
        self, architecture: str, suite: str | None, folder: str, announce: Announce
    ) -> None:
        if shutil.which("apt-get") is None:
            raise FetchError(
                "there is no apt-get on this machine; packages got in any other way do as well: "
                "put them into a folder and give that to `splitbtf run`"
            )
        self._architecture = architecture
        self._suite = suite
        self._folder = folder
        kept = f"{architecture}-{suite}" if suite else architecture
        self._state = os.path.join(os.path.abspath(folder), ".apt", kept)
        self._announce = announce

    def download(self, entry: PackageEntry, folder: str) -> None:
        """Into ``folder``, going on with what lies there of the package. Raises FetchError."""
        wanted = f"{entry.name}={entry.version}"
        if self._is_native() and self._offers(wanted, ()):
            options: tuple[str, ...] = ()
        else:
            options = self._own_options()
            if not self._offers(wanted, options):
                self._read_lists()
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
        if self._suite:
            values["Dir::Etc::SourceList"] = f"{self._state}/{_SOURCES}"
            values["Dir::Etc::SourceParts"] = "/dev/null"
        return tuple(word for key, value in values.items() for word in ("-o", f"{key}={value}"))

    def _offers(self, wanted: str, options: tuple[str, ...]) -> bool:
        told = self._run(["apt-cache", "-q", *options, "show", wanted])
        return told.returncode == 0 and "\nFilename: " in told.stdout

    def _read_lists(self) -> None:
        """Read package lists into the folder's own."""
        of = f"of {self._suite} " if self._suite else ""
        self._announce(f"reading package lists {of}for {self._architecture} into {self._state}")
        for needed in ("lists/partial", "cache/archives/partial"):
            os.makedirs(f"{self._state}/{needed}", exist_ok=True)
        if self._suite:
            source = self._source_of(self._suite)
            LocalFolder(self._state).publish(_SOURCES, source.encode(), durable=False)
        self._must(["apt-get", "-q", *self._own_options(), "update"])

    def _source_of(self, suite: str) -> str:
        """The line of sources.list for a suite, in the Debian archive that apt has sources from.

        Raises FetchError where it has none.
        """
        archives = self._archives(())
        if not archives:  # nothing is known of sources before their lists are read
            plain = _Apt(self._architecture, None, self._folder, self._announce)
            plain._read_lists()
            archives = self._archives(plain._own_options())
        if not archives:
            raise FetchError(
                f"these packages are in Debian's {suite}, and no Debian archive is among apt's "
                "sources: add one, of any suite"
            )
        signed = f"[signed-by={_KEYRING}] " if os.path.exists(_KEYRING) else ""
        return f"deb {signed}{archives[0]} {suite} main\n"

    def _archives(self, options: tuple[str, ...]) -> list[str]:
        """Where Debian's archive is, according to apt's sources; not that of security updates."""
        fields = "$(LABEL)\t$(COMPONENT)\t$(REPO_URI)"
        told = self._must(
            ["apt-get", *options, "indextargets", "--format", fields, "Created-By: Packages"]
        )
        targets = [line.split("\t") for line in told.split("\n")]
        return [target[2] for target in targets if target[:2] == ["Debian", "main"]]

    def _not_offered(self, entry: PackageEntry, options: tuple[str, ...]) -> str:
        told = self._run(["apt-cache", "-q", *options, "show", entry.name])
        versions = re.findall("^Version: (.*)$", told.stdout, re.MULTILINE)
        offers = f"offers {', '.join(versions)}" if versions else "knows no such package"
        return (
            f"apt does not offer {entry.name} {entry.version} for {entry.architecture}: it "
            f"{offers}. Debian keeps a version until newer ones have replaced it"
            + (
                ""
                if self._suite
                else "; are Debian bookworm and its security updates among apt's sources?"
            )
        )

    def _must(self, command: list[str], folder: str | None = None) -> str:
        """Run a command that has to succeed; returns its output. Raises FetchError with what it
        says."""
        done = self._run(command, folder)
        if done.returncode:
            said = " ".join(line for line in done.stderr.split("\n") if line.startswith("E:"))
            said = (said or done.stderr.strip() or "it did not say why")[:_MAX_SAID]
            raise FetchError(f"{' '.join(command)} failed: {said}")
        return done.stdout

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
