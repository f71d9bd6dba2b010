"""Detection of a dead cluster head: one clear line before Ray's own code ends the driver."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

_EVERY_SECONDS = 5.0
# A head that comes back within 60 s is the same to Ray; after that Ray ends the driver.
_GONE_SECONDS, _ENDING_SECONDS = 45.0, 10.0
_EXIT_INTERRUPTED = 130


@contextmanager
def monitored_head(say: Callable[[str], None], again: str, *, gone_seconds: float = _GONE_SECONDS) -> Iterator[None]:
    """Ask the main thread to terminate when the head of the connected cluster answers no more; see `terminable`.

    Ctrl-C would not do: a driver that a script has started in the background ignores it. A driver that cannot end in
    an orderly way then, for Ray's calls wait for the head, ends at once: the output folder is as a killed driver leaves
    it.

    Args:
        say: takes the line.
        again: how to go on, in words.
        gone_seconds: how long the head may be away.
    """
    address = ray.get_runtime_context().gcs_address
    main, ended = threading.main_thread(), threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not ended.wait(min(_EVERY_SECONDS, gone_seconds / 4)):
            if _answers(address):
                answered = time.monotonic()
            elif time.monotonic() - answered >= gone_seconds:
                say(f"the head of the cluster at {address} has died or cannot be reached: start it again, then {again}")
                if main.ident is not None:  # only of a thread that never started it is None
                    signal.pthread_kill(main.ident, signal.SIGTERM)
                if not ended.wait(_ENDING_SECONDS):
                    os._exit(_EXIT_INTERRUPTED)
                return

    thread = threading.Thread(target=watch, name="head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_EVERY_SECONDS):
            return True
    except OSError:
        return False
