"""The address of a cluster: checked within seconds, where Ray itself would wait for minutes."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError, RayError

from fairsweep.sweeps.runtime.environment_variables import default_variables
from fairsweep.sweeps.syntax.errors import SweepError

_VARIABLE = "RAY_ADDRESS"
_AUTO, _CLIENT = "auto", "ray://"
_SECONDS = 5.0
# What every HTTP/2 connection begins with, and an empty frame of settings; a gRPC server answers with its own.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4
# A head that answers refuses a token at once; Ray would ask it 20 times, a second apart.
_ASK_SELDOM = {"RAY_gcs_server_port_wait_time_s": "3"}
_TOKEN = "the cluster requires a token: copy ~/.ray/auth_token of its head to this machine and set RAY_AUTH_MODE=token"


def is_client(address: str | None) -> bool:
    """Whether an address is that of a cluster's client server, to which this machine does not belong."""
    return address is not None and address.startswith(_CLIENT)


def cluster_of(address: str | None) -> str | None:
    """Return the address of the cluster to join: the one given, else that of ``RAY_ADDRESS``; None for this machine."""
    return address or os.environ.get(_VARIABLE) or None


def check_address(address: str) -> None:
    """Refuse an address at which no Ray answers.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto``, which Ray resolves itself.

    Raises:
        SweepError: with the address and the remedy.
    """
    if address == _AUTO:
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or too large
        host = port = None
    if not host or not port:
        raise SweepError(
            f"a cluster's address must be HOST:PORT, ray://HOST:PORT or auto, but got {address!r}{_remedy(address)}"
        )
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # the certificates are Ray's to handle
            connection.sendall(_GREETING)
            answer = connection.recv(9)
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise SweepError(f"no Ray cluster can be reached at {address} ({reason}){_remedy(address)}") from error
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise SweepError(
            f"the service at {address} is not a Ray head; its port is 6379 unless `ray start` was given another one "
            f"(10001 for ray://; 8265 is the dashboard's){_remedy(address)}"
        )


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn Ray's errors on joining a cluster into one line.

    Raises:
        SweepError: with the cause and the remedy.
    """
    try:
        with warnings.catch_warnings(), default_variables(_ASK_SELDOM):
            warnings.simplefilter("ignore")  # what they say is in the error
            yield
    except AuthenticationError as error:
        raise SweepError(f"{_TOKEN} (address {address})") from error
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        text = _line(error, error.__cause__)
        if "uthenticat" in f"{error} {error.__cause__}":
            raise SweepError(f"{_TOKEN} (address {address})") from error
        if is_client(address) and "timeout" in text:
            text += "; if it requires a token, " + _TOKEN.partition(": ")[2]
        raise SweepError(f"the Ray cluster at {address} cannot be joined ({text}){_remedy(address)}") from error


def _line(*errors: BaseException | None) -> str:
    return "; ".join(" ".join(str(error).split())[:300] for error in errors if error is not None)


def _remedy(address: str) -> str:
    if os.environ.get(_VARIABLE) == address:
        return f": {_VARIABLE} names it; unset {_VARIABLE} to run on this machine, or start that cluster"
    return ": give the address that `ray start --head` printed, or omit --address to run on this machine"
