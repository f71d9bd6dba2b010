"""The most memory that a trial's process has held: on the machine, and on its GPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


class MemoryUse:
    """Measures peaks from here on, also in a process that has run other trials before.

    Args:
        device: Where training happens.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: dict[str, int | None] = {}
        with suppress(AttributeError, TypeError):  # glibc's; memory that an earlier trial left is not this one's
            ctypes.CDLL(None).malloc_trim(0)
        try:
            _RESET.write_text("5")
        except OSError:  # not on this system: the peak would be that of the process
            self._measures = False
        else:
            self._measures = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def add(self, peaks: Mapping[str, int | None]) -> None:
        """Take up what `peaks` returned in an earlier process of the same trial."""
        self._before = dict(peaks)

    def peaks(self) -> dict[str, int | None]:
        """Return ``host_peak_bytes`` and ``device_peak_bytes`` so far; None where one cannot be measured.

        The first is all resident memory of the process, with its libraries and the images that trials of a machine
        share, but without further processes of the trial; the second is what torch has reserved on a GPU.
        """
        on_device = torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else None
        now = {"host_peak_bytes": _resident_peak() if self._measures else None, "device_peak_bytes": on_device}
        found = {name: max(filter(None, (value, self._before.get(name))), default=None) for name, value in now.items()}
        self._before = found  # the system's peak may sink by some pages
        return found


def _resident_peak() -> int | None:
    found = _PEAK.search(_STATUS.read_text())
    return None if found is None else int(found[1]) * 1024
