"""Run the benchmarks whose figures stand in docs/performance.md, and write that page.

    python benchmarks/performance.py                      # all; hours on a small machine
    python benchmarks/performance.py roofline kept_memory # some; the others keep the figures that they have
    python benchmarks/performance.py --read study=FILE    # what a benchmark printed when it was run otherwise

What each printed, and how loaded the machine was, is kept in docs/performance.json; the page is written from it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fairsweep.sweeps.runtime.launch import WORKER_ENVIRONMENT

KEPT_MEMORY = {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC_")}
ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "docs" / "performance.json", ROOT / "docs" / "performance.md"
NOTES = Path(__file__).with_name("performance_notes.md")


@dataclass(frozen=True)
class Row:
    """One benchmark: what it compares, its command, and where its ratios stand in what it prints.

    Attributes:
        what: What is measured.
        command: Of the repository's root; ``{folder}`` is a temporary one.
        sides: The ratio's two sides: above 1 the second is faster.
        ratios: For each ratio its name, and a regular expression with one group.
        as_worker: Whether the process keeps memory as workers do; else it is as any other.
    """

    what: str
    command: str
    sides: str
    ratios: dict[str, str]
    as_worker: bool = False


def _beside_plain(side: str) -> str:
    return rf"(?m)^\s+{side}  .*?([\d.]+) x plain PyTorch loop"


_STEPS = {"`sgd`": _beside_plain("sgd"), "`dpsgd`": _beside_plain("dpsgd")}
_OPACUS = {"`dpsgd` / Opacus": r"(?m)^\s+dpsgd  .*?([\d.]+) x Opacus"}
ROWS = {
    "study": Row(
        "a whole study: the quickstart's 3 levels and 3 learners, from its file to the report",
        "benchmarks/study.py --work {folder} --seeds 1 --rounds 1",
        "by hand (Ray Tune, Opacus, DataLoader, fairlearn) / `fairsweep run`",
        {"clock": r"by hand / fairsweep: ([\d.]+) by the clock", "CPU": r"by the clock, ([\d.]+) by CPU"},
    ),
    "start": Row(
        "CPU seconds of a sweep of four small trials, in driver, workers and Ray's own processes",
        "benchmarks/start_and_end.py",
        "Ray Tune with a class trainable that imports PyTorch and does nothing / `fairsweep run`",
        {
            "until the first trial runs": r"plain / fairsweep: ([\d.]+) until",
            "in all, report included": r"until the first trial runs, ([\d.]+) in all",
        },
    ),
    "launch": Row(
        "100 trials that do nothing, records and results included",
        "benchmarks/launch.py noop --sides ours reused",
        "`fairsweep` / a reused class trainable of Ray Tune: the smaller the better",
        {
            "clock after the first trial": r"ours / reused .*after the start ([\d.]+)",
            "CPU of the driver": r"ours / reused .*driver CPU ([\d.]+)",
        },
    ),
    "growth": Row(
        "the driver's CPU seconds by trial as sweeps of trials that do nothing grow",
        "benchmarks/launch.py growth --trials 1000 10000 1000",
        "10,000 trials / 1,000 trials: 1 is linear",
        {"CPU of the driver by trial": r"most trials / fewest: ([\d.]+)"},
    ),
    "load": Row(
        "opening 1,500 trials of 20 evaluations and 28 groups, with intervals, which Tune has none of",
        "benchmarks/load.py --trials 1500",
        "CPU seconds of Ray Tune's `ResultGrid` / `analysis.load`",
        {
            "the first time": r"first: .* ([\d.]+) times by CPU",
            "every later time": r"last: .* ([\d.]+) times by CPU",
        },
    ),
    "kept_memory": Row(
        "steps of `cnn` at 28 x 28 in a process, and in a worker, which keeps memory that steps give back",
        "benchmarks/kept_memory.py --rounds 2",
        "default / as workers are",
        {
            f"{kind}, {batch}": rf"{kind} step, batch {batch} .*: ([\d.]+)"
            for kind in ("plain", "private")
            for batch in (64, 256)
        },
    ),
    "step_64": Row(
        "an epoch of `cnn` at 28 x 28, in a process of one's own, batch 64",
        "benchmarks/dpsgd_step.py --models cnn --size 28 --batch 64 --examples 512 --rounds 3",
        "examples a second, over those of a plain PyTorch loop",
        _STEPS | _OPACUS,
    ),
    "step_512": Row(
        "an epoch of `cnn` at 28 x 28, in a process of one's own, batch 512",
        "benchmarks/dpsgd_step.py --models cnn --size 28 --batch 512 --examples 1024 --rounds 3",
        "examples a second, over those of a plain PyTorch loop",
        _STEPS | _OPACUS,
    ),
    "step_32": Row(
        "an epoch of `cnn` at 32 x 32, in a process of one's own, batch 256",
        "benchmarks/dpsgd_step.py --models cnn --size 32 --batch 256 --examples 512 --rounds 3",
        "examples a second, over those of a plain PyTorch loop",
        _STEPS | _OPACUS,
    ),
    "roofline": Row(
        "a private step of `cnn` at 28 x 28, batch 512, in a worker, and its bound: a pass without weight gradients, "
        "patches, and products by example",
        "benchmarks/roofline.py --cases cnn:28:512",
        "plain step / private step",
        {"step": r"plain / private ([\d.]+)", "bound": r"products by example\): ([\d.]+)"},
        as_worker=True,
    ),
    "roofline_resnet18": Row(
        "a private step of `resnet18` at 64 x 64, batch 16, in a worker",
        "benchmarks/roofline.py --cases resnet18:64:16 --turns 4",
        "plain step / private step",
        {"step": r"plain / private ([\d.]+)"},
        as_worker=True,
    ),
    "stacked": Row(
        "whole trials of heads on features of `resnet18`, batch 64, 16 side by side in one process",
        "benchmarks/stacked.py --sizes 16",
        "CPU seconds alone / side by side",
        {kind: rf"{kind.strip('`')}, batch 64, 16 trials: .* ([\d.]+) by CPU" for kind in ("`dpsgd`", "`sgd`")},
        as_worker=True,
    ),
    "clients": Row(
        "a step of 16 clients with 10 images each, `cnn`, in a worker",
        "benchmarks/roofline.py --cases",
        "plain PyTorch, client by client / one call",
        {
            "clients stacked": r"client by client / stacked: ([\d.]+)",
            "by torch.func's vmap": r"client by client / by vmap: ([\d.]+)",
            "one model, all images": r"client by client / one model on all images: ([\d.]+)",
        },
        as_worker=True,
    ),
    "fedavg": Row(
        "a round of FedAvg, `cnn`, 20 images of 28 x 28 a client in batches of 10, by size of the cohort; one side "
        "after the other",
        "benchmarks/fedavg_round.py --model cnn --sides ours pfl",
        "CPU seconds of pfl-research / of `fedavg`",
        {f"{size:,}": rf"cohorts of {size}: pfl / fairsweep ([\d.]+)" for size in (10, 100, 1000)},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all if left out")
    parser.add_argument("--read", action="append", default=[], metavar="ROW=FILE", help="take a row from a file")
    arguments = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for given in arguments.read:
        name, _, file = given.partition("=")
        kept[name] = figures(ROWS[name], Path(file).read_text(), None)
    for name in arguments.rows or (() if arguments.read else ROWS):
        print(f"{name}: {ROWS[name].command}", flush=True)
        kept[name] = run(ROWS[name])
        write(kept)
    write(kept)


def write(kept: dict[str, dict]) -> None:
    """Keep the figures, and write the page."""
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(page(kept))


def run(row: Row) -> dict[str, object]:
    """Run a benchmark and return its figures."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", *row.command.format(folder=folder).split()]
        environment = os.environ | (KEPT_MEMORY if row.as_worker else {})
        answer = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return figures(row, answer.stdout, (before + os.getloadavg()[0]) / 2)


def figures(row: Row, printed: str, load: float | None) -> dict[str, object]:
    """Return the ratios that a benchmark printed, and what the machine was like.

    Raises:
        ValueError: If a ratio is not there.
    """
    ratios = {}
    for name, pattern in row.ratios.items():
        if (found := re.search(pattern, printed)) is None:
            raise ValueError(f"{row.command} must print {pattern!r}, but printed:\n{printed}")
        ratios[name] = float(found[1])
    return {"ratios": ratios, "load": load, "cores": os.cpu_count()}


def page(kept: dict[str, dict]) -> str:
    """Return the page: the table of what has been measured, and the notes."""
    lines = [
        "# Performance",
        "",
        "*The table is written by `python benchmarks/performance.py` from what its benchmarks printed.*",
        "",
        "Both sides of each ratio were measured in one run, in turns. Times are left out: they are a machine's. Load "
        "is the mean number of processes that wanted a core, beside the number of cores.",
        "",
        "| what | ratio of | measured | load / cores | command |",
        "|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        if name not in kept:
            continue
        found = kept[name]
        ratios = ", ".join(f"{label} **{value:.2f}**" for label, value in found["ratios"].items())
        load = "not noted" if found["load"] is None else f"{found['load']:.0f} / {found['cores']}"
        command = row.command.format(folder="FOLDER")
        lines.append(f"| {row.what} | {row.sides} | {ratios} | {load} | `python {command}` |")
    missing = [f"`python {row.command.format(folder='FOLDER')}`" for name, row in ROWS.items() if name not in kept]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n\n" + NOTES.read_text()


if __name__ == "__main__":
    main()
