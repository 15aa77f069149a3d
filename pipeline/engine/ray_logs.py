"""The end of what Ray's processes have written, for whoever looks for the reason of a fault."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..files.remote import export_access

_FILES, _BYTES = 12, 16 << 10  # of these that were written to last, and of each so much
_SHORTEST = 8  # what has fewer characters is no secret
_SECRET = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.I)  # names of what is one
_IN_URI = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_IN_QUERY = re.compile(rf"(?<=[?&])(\w*(?:{_SECRET.pattern})\w*=)[^&\s'\"]+", re.I)


def end_of_logs(
    session: str | None, printed: Iterable[str], environment: Mapping[str, str]
) -> bytes:
    """Put together what there is, without secrets; empty where there is nothing.

    session      folder of a Ray of our own; None: that is a cluster's, whose nodes have the logs
    printed      lines of the process that talks to Ray
    environment  its own: values of variables that are called like secrets are taken out
    """
    parts = [("printed", "\n".join(printed).encode())]
    parts += _files(Path(session, "logs")) if session is not None else []
    text = "\n".join(
        f"==> {name} <==\n{content.decode(errors='replace')}\n"
        for name, content in parts
        if content
    )
    return _without_secrets(text, environment).encode()


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    found = []
    with contextlib.suppress(OSError):
        found = [(one.stat().st_mtime, one) for one in folder.iterdir() if one.is_file()]
    for _, path in sorted(sorted(found)[-_FILES:], key=lambda one: one[1]):
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _BYTES))
            yield path.name, file.read(_BYTES)


def _without_secrets(text: str, environment: Mapping[str, str]) -> str:
    secrets = [value for name, value in environment.items() if _SECRET.search(name)]
    secrets += [part for user, _ in export_access().uris.values() for part in user.split(":")]
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return _IN_QUERY.sub(r"\1***", _IN_URI.sub("***", text))
