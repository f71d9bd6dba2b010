"""The driver's side of tracking: it starts the tracker process, forwards its output, and waits for it at the end.

Nothing here is on the way of a trial: the process reads the records by itself.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fairsweep.sweeps.spec.tracking_section import TrackingSection
from fairsweep.sweeps.tracking.tracker_main import FINISH
from fairsweep.sweeps.tracking.wandb_key import wandb_environment

# Beyond what the section allows: for starting and ending.
_MARGIN_SECONDS = 5.0


@contextmanager
def tracked(section: TrackingSection | None, output: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Track a sweep for the time of a context.

    Args:
        section: of the sweep file; None, or one without trackers, tracks nothing.
        output: the output folder, with its ``sweep.json``.
        say: takes lines for people, from another thread.
    """
    if section is None or not section.names:
        yield
        return
    environment = wandb_environment() if section.wandb is not None else {}
    beside = _Beside(section, output, say, environment)
    try:
        yield
    finally:
        beside.finish()


class _Beside:
    """The tracker's process."""

    def __init__(
        self, section: TrackingSection, output: Path, say: Callable[[str], None], environment: Mapping[str, str]
    ) -> None:
        self._seconds = section.wait_seconds + _MARGIN_SECONDS
        self._output = output
        self._say = say
        self._is_finishing = False
        # -P: the working folder is no place to import from. A session of its own: Ctrl-C is the driver's to handle.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fairsweep.sweeps.tracking.tracker_main", str(output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **environment},
        )
        self._reader = threading.Thread(target=self._pass_on, name="fairsweep-tracking", daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Let the process send the rest, and end it."""
        self._is_finishing = True
        with suppress(OSError):  # it has ended already
            if self._process.stdin is not None:
                self._process.stdin.write(FINISH + "\n")
                self._process.stdin.flush()
        try:
            self._process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            self._say(
                "tracking did not finish in time and was stopped; send the rest with: "
                f"fairsweep track {shlex.quote(str(self._output))}"
            )
        finally:
            # With whatever it has started itself.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(_MARGIN_SECONDS)
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    if stream is not None:
                        stream.close()

    def _pass_on(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        for line in stream:
            self._say(line.rstrip())
        if not self._is_finishing:
            code = self._process.wait()
            self._say(
                f"tracking exited unexpectedly (exit status {code}); the sweep goes on, and what is missing is sent by "
                f"the next run or by: fairsweep track {shlex.quote(str(self._output))}"
            )
