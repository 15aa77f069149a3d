"""The address of a Ray cluster: found, tried before Ray is, and explained where it is of no use.

Ray itself waits for ever for what does not listen there.
"""

from __future__ import annotations

import importlib.util
import socket

_ADDRESSES = "HOST:PORT, ray://HOST:PORT, or auto"
_ADVICE = "give the address that `ray start --head` printed, or --ray-address local for none"
_CONNECT_SECONDS = 4.0
_LONGEST = 500  # characters of what Ray says in a message of ours


class Failed(Exception):
    """The run has to end; says why."""


def check_address(address: str) -> str:
    """Return an address at which a cluster answers; in place of ``auto`` what that means here.

    Raises Failed, and whatever Ray does of a cluster that wants another token.
    """
    if "://" not in address:
        if address == "auto":
            address = _find_cluster()
        _check_listens(address)
        _ask_for_health(address)
    elif not address.startswith("ray://"):
        raise Failed(f"{address} is no address of a Ray cluster: {_ADDRESSES}")
    else:
        if importlib.util.find_spec("grpc") is None:
            raise Failed(f'{address} needs Ray\'s client: pip install "ray[client]"')
        _check_listens(address.removeprefix("ray://"))
    return address


def told_by(error: Exception) -> str:
    """What an error of Ray's says, in a line: its first one alone may say nothing."""
    text = ""
    for line in filter(None, map(str.strip, str(error).splitlines())):
        text += f"{'' if not text else ' ' if text.endswith(('.', ':')) else '; '}{line}"
    if len(text) > _LONGEST:  # of tracebacks the end says why
        text = f"{text[: _LONGEST // 4]} … {text[-_LONGEST // 2 :]}"
    return text or repr(error)


def not_connected(address: str, has_token: bool, told: str) -> str:
    """What to say where Ray cannot connect, and has ``told`` why."""
    what = "another token than it was given" if has_token else "a token"
    if "client connection timeout" in told:  # it says no more, whatever the reason
        return (
            f"no answer from Ray's client server at {address}: something else may listen "
            f"there, or it wants {what} (RAY_AUTH_TOKEN); give the address of a head, with its "
            "port for clients, 10001 where `ray start` was not told another"
        )
    if told.startswith("Version mismatch"):
        return f"cannot connect to Ray at {address}: {told}: install the same here"
    if "auth" in told.lower() and "token" in told.lower():
        return (
            f"the Ray cluster at {address} wants {what}: set RAY_AUTH_TOKEN to its token, or "
            "RAY_AUTH_TOKEN_PATH to the file that has it"
        )
    return f"cannot connect to Ray at {address}: {told}; {_ADVICE}"


def _find_cluster() -> str:
    """The address of the cluster that this machine is a node of, as Ray's commands find it."""
    from ray._private import ray_constants, services

    try:
        found = services.get_ray_address_from_environment("auto", None)
    except ConnectionError as error:
        raise Failed(f"no Ray cluster is running on this machine; {_ADVICE}") from error
    if found.startswith("127."):  # see on_ray.LOOPBACK
        ray_constants.ENABLE_RAY_CLUSTER = False
    return str(found)


def _ask_for_health(address: str) -> None:
    """Have the cluster answer; raises whatever is wrong, with the token for one."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    GcsClient(address=address)


def _check_listens(address: str) -> None:
    """Raise Failed unless something listens: Ray itself would wait for it for ever."""
    host, _, port = address.partition("/")[0].rpartition(":")
    if not host or not port.isdigit():
        raise Failed(f"{address} is no address of a Ray cluster: {_ADDRESSES}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise Failed(f"no Ray cluster at {address}: {why}; {_ADVICE}") from error
