"""Peaks of memory: those of one trial, in a process that runs several."""

import ctypes
import platform

import numpy as np
import pytest
import torch

from fairsweep.trainables.learning.memory_use import MemoryUse

CPU = torch.device("cpu")
MANY, PIECE = 2**26, 2**16
TRIM_THRESHOLD = -1  # of mallopt(3)


def test_a_peak_is_that_of_one_trial_and_outlives_its_process():
    first = MemoryUse(CPU)
    before = first.peaks()["host_peak_bytes"]
    if before is None:
        pytest.skip("this system does not let a process begin its peak anew")
    if platform.libc_ver()[0] == "glibc":  # as in workers, which keep what is given back
        ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, 4 * MANY)
    held = [np.ones(PIECE, np.uint8) for _ in range(MANY // PIECE)]
    high = first.peaks()["host_peak_bytes"]
    assert high >= before + MANY * 0.9
    del held
    assert first.peaks()["host_peak_bytes"] >= high
    second = MemoryUse(CPU)
    low = second.peaks()["host_peak_bytes"]
    assert low < high - MANY * 0.5
    second.add({"host_peak_bytes": high, "device_peak_bytes": None})
    assert second.peaks() == {"host_peak_bytes": high, "device_peak_bytes": None}
    second.add({"host_peak_bytes": 1, "device_peak_bytes": 7})
    assert second.peaks()["host_peak_bytes"] >= low
    assert second.peaks()["device_peak_bytes"] == 7


def test_the_peak_of_a_gpu_is_begun_anew_too(monkeypatch):
    """torch.cuda stands in for what this machine lacks."""
    reserved = [500]
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: reserved.clear())
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: max(reserved, default=0))
    use = MemoryUse(torch.device("cuda"))
    reserved.append(80)
    assert use.peaks()["device_peak_bytes"] == 80
