"""Files with debug information from debuginfod servers, by build id: what elfutils' clients do.

The environment says which servers there are and what they may cost, by the names that these clients
know (debuginfod-find(1)). Files are kept where these keep theirs, so that what one has got the
others find: ``~/.cache/debuginfod_client/BUILD-ID/debuginfo``.

A server is believed only what a file says itself: an ELF file with the build id that was asked for.
No server takes longer than it may, however slowly it goes on, and one that does not answer is not
asked again for a while.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import btf
from btf.files.decompress import MAX_DECOMPRESSED_BYTES
from btf.files.elf import read_elf
from btf.files.sections import MAGIC

from ..files.read import ReadError, read_input
from ..files.storage import LocalFolder
from ..model.options import Debuginfod
from .names import printable

_SLOW_BYTES = 100 << 10  # what has to come in the time that DEBUGINFOD_TIMEOUT says
_PIECE_BYTES = 64 << 10
_OUT_OF_ORDER = (502, 503, 504)
_SECONDS_OFF = 300.0  # before a server is asked again that did not answer
_off: dict[str, tuple[float, str]] = {}  # server -> until when, why


class NotFoundError(Exception):
    """No server has the file; the message says what each of them said."""


def settings_of(environment: Mapping[str, str]) -> Debuginfod | None:
    """Return what the environment says of debuginfod; None if it names no servers.

    Numbers that are none are taken as if they were not set.
    """
    # Fedora's urls have words between them on signatures, such as ima:enforcing: not checked here.
    words = environment.get("DEBUGINFOD_URLS", "").split()
    servers = tuple(word.rstrip("/") for word in words if not word.startswith("ima:"))

    def number(name: str, default: int) -> int:
        text = environment.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and int(text) else default

    if not servers:
        return None
    most = number("DEBUGINFOD_MAXSIZE", MAX_DECOMPRESSED_BYTES)
    return Debuginfod(
        servers,
        seconds=number("DEBUGINFOD_TIMEOUT", 90),
        max_seconds=number("DEBUGINFOD_MAXTIME", 0) or None,
        max_bytes=min(most, MAX_DECOMPRESSED_BYTES),
    )


def find_debug_info(build_id: str, settings: Debuginfod, seconds: float) -> tuple[str, bytes]:
    """Return the file with debug information of a build id, and where it comes from.

    build_id  hexadecimal digits
    seconds   how long all of it may take

    Raises NotFoundError.
    """
    kept = _path_in_cache(build_id)
    with contextlib.suppress(ReadError, btf.BtfError, _WrongFileError):
        content = read_input(kept)
        _check(content, build_id)
        return kept, content
    reasons = []
    ends = time.monotonic() + min(seconds, settings.max_seconds or seconds)
    for server in settings.servers:
        shown = printable(server)
        until, why = _off.get(server, (0.0, ""))
        if time.monotonic() < until:
            reasons.append(f"{shown} was not asked again: {why}")
            continue
        url = f"{server}/buildid/{build_id}/debuginfo"
        try:
            content = _get(url, settings, ends)
            _check(content, build_id)
        except _NotAnsweringError as error:
            _off[server] = (time.monotonic() + _SECONDS_OFF, str(error))
            reasons.append(f"{shown} {error}")
        except _WrongFileError as error:
            reasons.append(f"{shown} {error}")
        except btf.BtfError as error:
            reasons.append(f"{shown} gave a file that cannot be used: {error}")
        else:
            with contextlib.suppress(OSError):  # then it is not kept
                folder, name = os.path.split(kept)
                os.makedirs(folder, mode=0o700, exist_ok=True)
                LocalFolder(folder).publish(name, content, durable=False)
            return printable(url), content
    raise NotFoundError("; ".join(reasons))


def keep_debug_info(_: None, arguments: tuple[str, Debuginfod, float]) -> tuple[str, str]:
    """Find a file with debug information, see ``find_debug_info``, for a call in another process:
    its path, and why there is none."""
    build_id = arguments[0]
    try:
        find_debug_info(*arguments)
    except NotFoundError as error:
        return "", str(error)
    kept = _path_in_cache(build_id)
    if not os.path.exists(kept):
        return "", f"{printable(kept)} cannot be written"
    return kept, ""


class _NotAnsweringError(Exception):
    """The server is not there, or does not do its work."""


class _WrongFileError(Exception):
    """The server has not given the file."""


def _check(content: bytes, build_id: str) -> None:
    """Raise BtfError or _WrongFileError for a file that is not of that build id."""
    if content[:4] != MAGIC:
        raise _WrongFileError("gave no ELF file")
    told = read_elf(content).build_id
    if told != build_id:
        raise _WrongFileError(f"gave a file of another build id, {told or 'none'}")


def _path_in_cache(build_id: str) -> str:
    folder = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if not folder:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(cache, "debuginfod_client")
    return os.path.join(folder, build_id, "debuginfo")


# ------------------------------------------------------------------ HTTP


def _get(url: str, settings: Debuginfod, ends: float) -> bytes:
    """Get a file. Raises _NotAnsweringError or _WrongFileError.

    In a thread of its own, which is left alone when the time is up: names that are not resolved and
    headers that come byte by byte have no time limit.
    """
    done: list[bytes | Exception] = []

    def work() -> None:
        try:
            done.append(_get_slowly(url, settings, ends))
        except Exception as error:
            done.append(error)

    thread = threading.Thread(target=work, name="debuginfod", daemon=True)
    thread.start()
    thread.join(max(0.0, ends - time.monotonic()))
    if not done:
        raise _NotAnsweringError("is too slow")
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


def _get_slowly(url: str, settings: Debuginfod, ends: float) -> bytes:
    import http.client  # late: most runs need none of these
    import urllib.error
    import urllib.request

    opener = urllib.request.OpenerDirector()  # of http and https alone, redirections included
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    headers = {"User-Agent": f"splitbtf/{btf.__version__}", "Accept-Encoding": "identity"}
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _WrongFileError("is not asked: only http and https are known")
        user, _, host = parts.netloc.rpartition("@")
        request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers=headers)
        if user:  # for this server alone, not for where it may send us
            password = b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {password}")
        with opener.open(request, timeout=settings.seconds) as response:
            return _read(response, settings, ends)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise _WrongFileError("does not have it") from error
        told = f"answered {error.code} {printable(error.reason)[:100]}"
        raise (_NotAnsweringError if error.code in _OUT_OF_ORDER else _WrongFileError)(
            told
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            raise _NotAnsweringError("is too slow") from error
        told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise _NotAnsweringError(f"does not answer: {printable(told)[:200]}") from error


def _redirects() -> Any:
    """Return what follows redirections, but none from https to http."""
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request: Any, *told: Any) -> Any:
            made = super().redirect_request(request, *told)
            is_weaker = request.type == "https" and made is not None and made.type != "https"
            return None if is_weaker else made

    return Redirects()


def _read(response: Any, settings: Debuginfod, ends: float) -> bytes:
    """Read an answer, as long as it comes fast enough and is not too large."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _WrongFileError("gave it in an encoding that was not asked for")
    said = response.headers.get("Content-Length", "")
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None
    too_large = _WrongFileError(f"has one of more than {settings.max_bytes >> 20} MiB")
    if size is not None and size > settings.max_bytes:
        raise too_large
    content = bytearray()
    began = time.monotonic()
    while piece := response.read1(_PIECE_BYTES):
        content += piece
        if len(content) > settings.max_bytes:
            raise too_large
        now = time.monotonic()
        allowed = settings.seconds * (1 + len(content) / _SLOW_BYTES)
        if now > ends or now - began > allowed:
            raise _NotAnsweringError(f"is too slow: {len(content)} bytes in {now - began:.0f} s")
    if size is not None and len(content) < size:
        raise _WrongFileError(f"gave only {len(content)} of {size} bytes")
    return bytes(content)
