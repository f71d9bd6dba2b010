"""A private local Ray: on the loopback interface, with a token, in a folder that only the user can read."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from fairsweep.sweeps.planning.machines import this_machine
from fairsweep.sweeps.runtime.environment_variables import default_variables
from fairsweep.sweeps.runtime.ray_internals import loopback_only, temporary_folder
from fairsweep.sweeps.syntax.errors import SweepError

# Ray's switch for computers whose firewall asks about every port, read when Ray is imported: "0" keeps it on loopback.
_OUTSIDE_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_TOKEN_FILE = "~/.ray/auth_token"
# Ray reads its token once in a process, so all that this process starts share one.
_TOKEN = secrets.token_hex(32)
_PREFIX = "fairsweep-"
_LONGEST_SOCKET = f"/{_PREFIX}12345678/ray/session_2026-11-28_16-17-17_071920_4194304/sockets/plasma_store"
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
_MOST_OF_CAUSE = 300
_SHORT_FOLDERS = ("/tmp", "/var/tmp")


@contextmanager
def private_ray(made: Callable[[Path], None] = lambda _: None) -> Iterator[dict[str, Any]]:
    """Prepare a Ray of this process's own, and give the options with which `ray.init` starts it.

    Ray would listen on all interfaces, keep its token in a file that others may read, and write logs for everybody.
    The folder with its logs and sockets is deleted at the end of the context.

    Args:
        made: is told each folder that a kill would leave behind.

    Raises:
        SweepError: if there is no folder for its sockets, or this machine has no loopback interface.
    """
    _check_interface()
    machine = this_machine()
    with _private_folders(made) as folders, default_variables(_own_token() | {_OUTSIDE_SWITCH: "0"}), loopback_only():
        # "local": without it Ray joins any cluster that somebody has started on this machine, and takes no counts then.
        counts = {"num_cpus": int(machine.cpu), "num_gpus": int(machine.gpu)}
        yield {"address": "local", "include_dashboard": False} | counts | folders


@contextmanager
def starting() -> Iterator[None]:
    """Turn whatever keeps a local Ray from coming up into one line; what it has started is stopped.

    Raises:
        SweepError: with the cause and the remedy.
    """
    try:
        yield
    except Exception as error:  # Ray raises a plain Exception where its processes do not answer in time
        ray.shutdown()
        cause = " ".join(str(error).split())[:_MOST_OF_CAUSE] or type(error).__name__
        raise SweepError(
            f"Ray could not be started on this machine ({cause}): it needs some 20 processes, 1 GB of memory and room "
            "in the folder for temporary files; free resources (free -h, ulimit -u, df -h), end what is left of "
            "earlier "
            "runs, and run the same command again"
        ) from error


def check_loopback() -> None:
    """Refuse a local Ray that other computers can reach.

    Raises:
        SweepError: if Ray has taken an address other than loopback.
    """
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    if not ipaddress.ip_address(address).is_loopback:
        raise SweepError(
            f"a local Ray must stay on the loopback interface, but Ray {ray.__version__} took {address}: install "
            "ray==2.60.0, with which fairsweep is tested"
        )


def _check_interface() -> None:
    """Refuse a machine whose processes cannot reach one another: Ray would wait for them for minutes."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5.0):
            pass
    except OSError as error:
        raise SweepError(
            f"Ray's processes reach one another over the loopback interface, but 127.0.0.1 does not answer "
            f"({error.strerror or error}): bring it up (ip link set lo up), or let the container have a network"
        ) from error


def _own_token() -> dict[str, str]:
    """Return a token in the environment, which only this user's processes see, unless the user has one already."""
    try:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or _TOKEN_FILE).expanduser()
    except RuntimeError:  # no home
        return {"RAY_AUTH_TOKEN": _TOKEN}
    return {} if os.access(path, os.R_OK) else {"RAY_AUTH_TOKEN": _TOKEN}


@contextmanager
def _private_folders(made: Callable[[Path], None]) -> Iterator[dict[str, str]]:
    """Folders of this user alone, as options of `ray.init`, deleted at the end.

    Logs and sockets go where the path leaves room for the names of sockets, large objects that no longer fit into
    memory always to the user's own folder for temporary files.
    """
    asked = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    longest = _SOCKET_BYTES - len(_LONGEST_SOCKET)
    writable = [place for place in (asked, *_SHORT_FOLDERS) if os.access(place, os.W_OK | os.X_OK)]
    short = next((place for place in writable if len(os.fsencode(place)) <= longest), None)
    if short is None:
        raise SweepError(
            f"Ray's folder for temporary files must have a path of at most {longest} bytes, for its sockets lie there, "
            f"but got {asked} ({len(os.fsencode(asked))} bytes), and {' and '.join(_SHORT_FOLDERS)} cannot be written "
            "to: set RAY_TMPDIR to a folder with a shorter path"
        )
    with ExitStack() as stack:

        def make(place: str) -> str:
            folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True)
            made(Path(path := stack.enter_context(folder)))
            # One further down, for Ray opens its own folder to everybody.
            return str(Path(path) / "ray")

        spilling = {} if short == writable[0] else {"object_spilling_directory": make(writable[0])}
        yield temporary_folder(make(short)) | spilling
