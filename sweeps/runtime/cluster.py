"""Clusters: each node is checked for dataset, output folder and imports before anything starts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.runtime.node_view import Complaint, Wanted, look
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError
from fairsweep.sweeps.syntax.errors import Location as Place
from fairsweep.sweeps.syntax.paths import resume_command

_ANSWER_SECONDS = 180.0


def check_nodes(sweep: SweepSpec, folder: Path, datasets: Sequence[PreparedDataset]) -> None:
    """Ask every node that can run trials whether it sees the datasets and the output.

    A single node is asked too: it may be another machine than the head, or have another Python than the driver.

    Args:
        sweep: the sweep.
        folder: its output folder on this machine; held by this driver.
        datasets: what its trials read.

    Raises:
        SweepError: if a node lacks something, with its address and the remedy.
    """
    listed_nodes = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node for node in listed_nodes if node["Alive"] and node["Resources"].keys() & {"CPU", "GPU"}]
    probe = folder / f".probe-{uuid.uuid4().hex}"
    paths = [path for path in (sweep.dataset.path, sweep.evaluation.dataset) if path is not None]
    hashes = [dataset.info.content_hash for dataset in datasets]
    listed = tuple(zip([str(path) for path in paths], hashes, strict=True))
    probe.touch()
    try:
        wanted = Wanted(None if sweep.remote else str(probe), sweep.remote, listed)
        asked = {_ask(node["NodeID"], wanted): node["NodeManagerAddress"] for node in nodes}
        for answer, address in asked.items():
            for complaint in _answer(answer, address):
                place: Place = complaint.place
                raise SweepError(f"node {address} {complaint.message}", place)
    finally:
        probe.unlink(missing_ok=True)


def run_from_afar(sweep: SweepSpec, text: str | None, address: str, quiet: bool, run: Callable[..., object]) -> None:
    """Run a sweep by a driver on the cluster itself, and wait for it; Ctrl-C here stops it there.

    Tune's callbacks, the ledger's locks and Ctrl-C need a driver that is part of the cluster.

    Args:
        sweep: the sweep.
        text: its file.
        address: ``ray://HOST:PORT``.
        quiet: whether to show nothing.
        run: runs a sweep with its text: `fairsweep.sweeps.execution.run.run_sweep`.

    Raises:
        SweepError: if its output is a local folder (the cluster's machines do not see this one's), or as `run_sweep`.
    """
    from fairsweep.sweeps.runtime.launch import connected

    if sweep.remote is None:
        raise SweepError(
            f"the nodes behind {address} do not see folders of this machine, but output={sweep.folder} is one: give a "
            "URI (output: s3://bucket/runs/x), or use `ray job submit`",
            ("output",),
        )
    with connected(address, show_workers=not quiet):
        drive = ray.remote(_drive).options(num_cpus=0, max_retries=0)
        running = drive.remote(run, sweep.model_dump(mode="json"), text)
        try:
            error = ray.get(running)
        except KeyboardInterrupt as interrupt:
            ray.cancel(running, force=False)
            raise InterruptedSweepError(f"stopped; resume with: {resume_command(sweep.remote, address)}") from interrupt
    if error is not None:
        raise SweepError(error)


def _drive(run: Callable[..., object], content: dict[str, Any], text: str | None) -> str | None:
    try:
        run(SweepSpec.from_mapping(content), text=text)
    except SweepError as error:
        return str(error)
    return None


def _ask(node: str, wanted: Wanted) -> Any:  # noqa: ANN401 - a Ray object reference
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(wanted)


def _answer(answer: Any, address: str) -> list[Complaint]:  # noqa: ANN401 - a Ray object reference
    try:
        found: list[Complaint] = ray.get(answer, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-300:]
        raise SweepError(
            f"node {address} cannot run trials (…{reason}): is the fairsweep wheel installed there, or given with the "
            "job's runtime environment?"
        ) from error
    return found
