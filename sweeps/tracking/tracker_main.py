"""The tracker's process, which the driver starts: ``python -m fairsweep.sweeps.tracking.tracker_main FOLDER``.

It reads the records in the folder and nothing else. The end of its standard input is the end of the driver: what it has
not sent by then is sent within seconds, or left for the next run. Each line on its standard output is for people.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from fairsweep.sweeps.tracking.following import FOLDER, Follower, Records

# How long a tracker outlives a driver that was killed.
_ORPHAN_SECONDS = 20.0
FINISH = "finish"


def track(output: Path, say: Callable[[str], None], finishing: threading.Event, seconds: Callable[[], float]) -> bool:
    """Follow a sweep until it has ended.

    Args:
        output: the output folder.
        say: takes lines for people.
        finishing: set when no more records come.
        seconds: says, then, how long to go on after that.

    Returns:
        Whether every tracker has got everything.
    """
    records = Records.of(output)
    followers = [Follower(kind, records, say) for kind in records.section.names]
    threads = [threading.Thread(target=f.follow, args=(finishing,), daemon=True, name=f.kind) for f in followers]
    for thread in threads:
        thread.start()
    while not finishing.wait(1.0):
        pass
    end = time.monotonic() + seconds()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for follower in followers:
        if not follower.is_finished:
            count = follower.unsent
            rest = f"{count} trials are" if count > 1 else "1 trial is" if count else "something is"
            say(
                f"tracking: {rest} not sent to {follower.kind} yet; send it with: fairsweep track "
                f"{shlex.quote(str(output))}"
            )
    return all(follower.is_finished for follower in followers)


def main() -> None:
    """Track the folder that the command line names, until standard input ends or says so."""
    output = Path(sys.argv[1])
    say = _only_our_lines(output)
    # Trials come first.
    os.nice(10)
    finishing, asked = threading.Event(), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == FINISH:
                asked.set()
                break
        finishing.set()
        if asked.is_set() and not sys.stdin.readline():
            # The driver waits no longer, or is gone.
            os._exit(1)

    threading.Thread(target=listen, daemon=True, name="driver").start()
    wait = Records.of(output).section.wait_seconds
    is_whole = track(output, say, finishing, lambda: wait if asked.is_set() else min(wait, _ORPHAN_SECONDS))
    # Threads of libraries may hang in a call; nothing of ours is left to do.
    os._exit(0 if is_whole else 1)


def _only_our_lines(output: Path) -> Callable[[str], None]:
    """Keep standard output for ourselves; what libraries print goes to a log."""
    ours: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
    try:
        (output / FOLDER).mkdir(parents=True, exist_ok=True)
        log = os.open(output / FOLDER / "tracking.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock:
            try:
                ours.write(" ".join(line.split()) + "\n")
                ours.flush()
            except OSError:
                pass  # nobody listens any more

    return say


if __name__ == "__main__":
    main()
