"""``fairsweep forget``: one request for deletion on the trials of a sweep, and real erasure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.analysis.records import CONFIG, EXAMPLES, TRIALS, read_examples, read_json, write_examples
from fairsweep.datasets.erasure import next_version, purge_copies, write_without
from fairsweep.datasets.layout import DatasetError
from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.sweeps.errors import SweepError
from fairsweep.trainables.erasure import check_forgotten, erase_from_trial
from fairsweep.trainables.forgetting import ForgettingError, Forgotten, current_dataset, forget
from fairsweep.trainables.population import UnknownIdsError
from fairsweep.trainables.request_stream import read_ids
from fairsweep.trainables.trial_config import TrialConfig
from fairsweep.trainables.trial_data import open_dataset, training_plan

Say = Callable[[str], None]


@dataclass(frozen=True)
class Erasure:
    """What an erasure did beyond forgetting.

    Attributes:
        dataset: the new version of the prepared dataset.
        former: the version that still holds the examples; whoever owns it deletes it.
        copies: decoded copies that were deleted on this machine.
        others: trials of the same sweep that were trained on any of the examples and still are.
    """

    dataset: Path
    former: Path
    copies: tuple[Path, ...]
    others: tuple[str, ...]


def forgetful_trials(run: Path) -> list[Path]:
    """The trials that a path names: one trial's folder, or all trials of a sweep that can forget.

    Raises:
        SweepError: if there is none.
    """
    if (run / CONFIG).is_file():
        return [run]
    trials = sorted((run / TRIALS).iterdir()) if (run / TRIALS).is_dir() else []
    found = [folder for folder in trials if _kind(folder) == "sisa"]
    if not found:
        raise SweepError(
            f"{run} must be the folder of a trial or of a sweep with learners of kind sisa, but has none: "
            "name one of runs/NAME/trials/…"
        )
    return found


def forget_ids(run: Path, file: Path, *, wait_seconds: float = 0.0, say: Say = lambda _: None) -> list[Forgotten]:
    """Serve a request on every trial that a path names and that was trained on any of the ids.

    Args:
        run: a trial's folder or a sweep's.
        file: ids, one a line, or a CSV with a column ``id``.
        wait_seconds: how long to wait for another request.
        say: takes one line a trial as it is done.

    Raises:
        SweepError: if a trial cannot forget, or ids are unknown to it (of a sweep: to all of its trials).
    """
    ids = read_ids(file)
    folders = forgetful_trials(run)
    done, unknown = [], None
    for folder in folders:
        try:
            done.append(forget(folder, ids, wait_seconds=wait_seconds))
        except UnknownIdsError as error:
            # The trials of a sweep may learn from different examples: each forgets those that it has seen.
            here = ids[~np.isin(ids, error.ids)]
            unknown = error.ids if unknown is None else np.intersect1d(unknown, error.ids)
            if len(folders) == 1:
                raise SweepError(str(error)) from error
            if not len(here):
                continue
            done.append(forget(folder, here, wait_seconds=wait_seconds))
        except (ValueError, OSError) as error:
            raise SweepError(str(error)) from error
        else:
            unknown = ids[:0]
        say(describe(done[-1]))
    if unknown is not None and len(unknown):
        raise SweepError(f"no trial of {run} was trained on these ids: {', '.join(map(str, unknown[:20].tolist()))}")
    return done


def erase_ids(run: Path, file: Path, *, say: Say = lambda _: None) -> Erasure:
    """After forgetting: purge whatever depends on the examples, and write the dataset anew without them.

    Args:
        run: as in `forget_ids`.
        file: the ids.
        say: takes lines on what is being done.

    Raises:
        SweepError: if the trials have several datasets, or the new version cannot be written.
    """
    ids = read_ids(file)
    folders = forgetful_trials(run)
    current = {current_dataset(folder) for folder in folders}
    if len(current) != 1:
        raise SweepError(f"the trials of {run} use {len(current)} versions of the dataset: erase trial by trial")
    path, content_hash = current.pop()
    try:
        for folder in folders:
            check_forgotten(folder, ids)
        dataset = open_dataset(path, content_hash)
        there = ids[np.isin(ids, dataset.ids)]
        target = next_version(path)
        if not len(there):
            raise SweepError(f"the dataset at {path} holds none of these ids any more")
        info = write_without(dataset, there, target)
    except (DatasetError, ForgettingError) as error:
        raise SweepError(str(error)) from error
    say(f"wrote {target}, {sum(info.counts.values()):,} examples")
    for folder in folders:
        erase_from_trial(folder, there, target, info.content_hash)
    sweep = folders[0].parent.parent
    _drop_examples(sweep, there)
    return Erasure(target, path, tuple(purge_copies(content_hash)), _others(sweep, folders, dataset, there))


def describe(done: Forgotten) -> str:
    """One line on what a request did."""
    if done.served is None:
        return f"{done.folder.name}: all {done.asked} were deleted before; nothing to do"
    work, full = done.served.work, done.served.full
    places = ", ".join(f"shard {shard} from slice {first}" for shard, first in sorted(done.served.shards.items()))
    share = work.examples / full.examples if full.examples else float("nan")
    return (
        f"{done.folder.name}: forgot {done.served.deleted}, trained {places} again: {work.examples:,} examples "
        f"({share:.1%} of a full retraining), {work.seconds:.3g} s"
    )


def _kind(folder: Path) -> str | None:
    try:
        return str(read_json(folder / CONFIG)["learner"]["kind"])
    except (OSError, ValueError, KeyError):
        return None


def _drop_examples(sweep: Path, ids: NDArray[np.int64]) -> None:
    if (sweep / EXAMPLES).is_file():
        table = read_examples(sweep / EXAMPLES)
        write_examples(sweep / EXAMPLES, table.filter(pc.invert(pc.is_in(table.column("id"), pa.array(ids)))))


def _others(sweep: Path, folders: list[Path], dataset: PreparedDataset, ids: NDArray[np.int64]) -> tuple[str, ...]:
    """Trials beside these whose training set had any of the ids; one that cannot be read is named too."""
    found = []
    for folder in sorted((sweep / TRIALS).iterdir()) if (sweep / TRIALS).is_dir() else ():
        if folder in folders or not (folder / CONFIG).is_file():
            continue
        try:
            config = TrialConfig.from_record(read_json(folder / CONFIG))
            if np.isin(training_plan(dataset, config).ids, ids).any():
                found.append(folder.name)
        except (ValueError, OSError) as error:
            found.append(f"{folder.name} (unknown: {error})")
    return tuple(found)
