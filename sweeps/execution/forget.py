"""``fairsweep forget``: one deletion request on the trials of a sweep, with optional erasure, as one transaction.

Every step can be done twice: after a crash the same command, or ``fairsweep forget RUN`` alone, does them all again,
and those that were done change nothing.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fairsweep.analysis.records.file_names import CONFIG, EXAMPLES, IDS_KEY, PLACEMENT, TRIALS
from fairsweep.analysis.records.files import RecordError, remove_temporary
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.datasets.preparation.erasure import next_version, purge_copies, write_without
from fairsweep.datasets.preparation.image_names import ids_of_images
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.execution.erasing import (
    Mirrored,
    former_version,
    hashes_of,
    pixels_of,
    purge_sweep,
    refresh_mirror,
    search_traces,
)
from fairsweep.sweeps.store.deletion_journal import JOURNAL, DeletionJournal, home_of
from fairsweep.sweeps.store.erased_examples import drop_examples
from fairsweep.sweeps.store.trace_search import Traces
from fairsweep.sweeps.syntax.errors import SweepError, as_ours
from fairsweep.trainables.learners import forgetful
from fairsweep.trainables.trial.erasure import erase_from_trial
from fairsweep.trainables.trial.forgetting import (
    Forgotten,
    alone,
    check_can_forget,
    current_dataset,
    finish_former,
    forget,
)
from fairsweep.trainables.trial.trial_data import open_dataset
from fairsweep.trainables.unlearning.request_stream import read_ids

Say = Callable[[str], None]
Ids = NDArray[np.int64]
_LOCK = ".deletion.lock"


@dataclass(frozen=True)
class Erasure:
    """What an erasure did beyond forgetting.

    Attributes:
        dataset: the new version of the prepared dataset.
        former: the version that still holds the examples; whoever owns it deletes it.
        copies: decoded copies that were deleted on this machine.
        others: trials of the same sweep that were trained on any of the examples and still are.
        mirrored: the mirror that the sweep's file names, if any.
        traces: what the search at the end found.
    """

    dataset: Path
    former: Path
    copies: tuple[Path, ...]
    others: tuple[str, ...]
    mirrored: Mirrored | None = None
    traces: Traces | None = None

    def lines(self) -> list[str]:
        """Say what was purged, who still knows the examples, and what the search found."""
        said = [f"deleted the decoded copy {path}" for path in self.copies]
        said.append("deleted the report, the files of trackers and caches: they showed models that saw the examples")
        said += [f"other trials were trained on some of them: {other}" for other in self.others]
        if self.mirrored is not None and self.mirrored.is_current:
            said.append(f"brought the mirror {self.mirrored.to} up to date")
        return said + ([] if self.traces is None else self.traces.lines())


@dataclass(frozen=True)
class Deletion:
    """What a request did.

    Attributes:
        forgotten: for each trial that was trained on any of the examples.
        erasure: what was purged; None where only forgetting was asked for.
    """

    forgotten: tuple[Forgotten, ...]
    erasure: Erasure | None


def forget_ids(
    run: Path,
    ids: Path | Sequence[int] | None = None,
    *,
    files: Sequence[str] = (),
    erase: bool = False,
    wait_seconds: float = 0.0,
    say: Say = lambda _: None,
) -> Deletion:
    """Serve a request on every trial that a path names and that was trained on any of the ids.

    Args:
        run: a trial's folder or a sweep's.
        ids: the ids, or a file with them: one a line, or a CSV with a column ``id``. None, without
            ``files`` either, goes on with the request that was cut short.
        files: instead of ids, the files that the images were prepared from; see
            `fairsweep.datasets.preparation.image_names.ids_of_images`.
        erase: also purge what depends on the examples, and write the dataset anew without them.
        wait_seconds: how long to wait for another request.
        say: takes lines on what is being done.

    Raises:
        SweepError: if a trial cannot forget, ids are unknown to all of them, another request is unfinished, or, with
            ``erase``, the trials have several datasets. Nothing has been changed then.
    """
    with as_ours():
        if ids is not None and files:
            raise SweepError("give ids or files, not both")
        asked = read_ids(ids) if isinstance(ids, Path) else ids
        wanted = None if asked is None else tuple(np.unique(np.asarray(asked, dtype=np.int64)).tolist())
        names = tuple(sorted(set(files)))
        folders, home = forgetful_trials(run), home_of(run)
        with _alone(home, wait_seconds):
            for name in (JOURNAL, EXAMPLES, IDS_KEY):
                remove_temporary(home, name)
            journal = DeletionJournal.find(home)
            if journal is None:
                if names:
                    wanted = _ids_of(folders, names)
                if wanted is None:
                    raise SweepError(
                        f"there is no unfinished request in {run}: say what to forget with --ids or --files"
                    )
                journal = _begin(run, folders, np.array(wanted, dtype=np.int64), erase=erase)
                journal = journal.model_copy(update={"names": names}).write(home)
            elif (home / journal.run).resolve() != run.resolve() or (
                (wanted is not None or names)
                and (erase != journal.erase or (names != journal.names if names else wanted != journal.ids))
            ):
                raise SweepError(journal.explain(home))
            else:
                say(f"continuing an interrupted request: {len(journal.ids)} examples")
            hashes = hashes_of(home, journal.trials) if journal.erase else frozenset()
            done = _serve(home, journal, wait_seconds, say)
            former = former_version(Path(journal.dataset), journal.content_hash) if journal.erase else None
            DeletionJournal.remove(home)
            if done.erasure is not None:
                done = replace(done, erasure=_searched(home, journal, done.erasure, former, hashes))
    return done


def forgetful_trials(run: Path) -> list[Path]:
    """Return the trials that a path names: one trial's folder, or all trials of a sweep that can forget.

    Raises:
        SweepError: if there is none.
    """
    if (run / CONFIG).is_file():
        return [run]
    trials = sorted((run / TRIALS).iterdir()) if (run / TRIALS).is_dir() else []
    found = [folder for folder in trials if _forgetful(folder)]
    if not found:
        raise SweepError(
            f"{run} must be the folder of a trial or of a sweep with learners of kind sisa, but has none: "
            "name one of runs/NAME/trials/…"
        )
    return found


def describe(done: Forgotten) -> str:
    """One line on what a request did."""
    if done.served is None:
        return f"{done.folder.name}: all {done.asked} are already deleted; nothing to do"
    work, full = done.served.work, done.served.full
    places = ", ".join(f"shard {shard} from slice {first}" for shard, first in sorted(done.served.shards.items()))
    share = work.examples / full.examples if full.examples else float("nan")
    return (
        f"{done.folder.name}: forgot {done.served.deleted}, trained {places} again: {work.examples:,} examples "
        f"({share:.1%} of a full retraining)" + ("" if math.isnan(work.seconds) else f", {work.seconds:.3g} s")
    )


def _ids_of(folders: list[Path], names: tuple[str, ...]) -> tuple[int, ...]:
    (path, content_hash), *others = sorted({current_dataset(folder) for folder in folders})
    if others:
        raise SweepError(f"the trials use {1 + len(others)} versions of the dataset: name the ids, not the files")
    return tuple(ids_of_images(open_dataset(path, content_hash), names).tolist())


def _begin(run: Path, folders: list[Path], ids: Ids, *, erase: bool) -> DeletionJournal:
    """Check that the whole request can be served, before anything is changed."""
    if not len(ids):
        raise SweepError("a request must name at least one example, but got none")
    unknown = ids
    for folder in folders:
        check_can_forget(folder)
        with alone(folder, 0.0):
            finish_former(folder)
        unknown = unknown[~np.isin(unknown, _placed(folder))]
    if len(unknown):
        shown = ", ".join(map(str, unknown[:20].tolist())) + (" …" if len(unknown) > 20 else "")
        raise SweepError(
            f"no trial of {run} was trained on these ids (or they were erased before): {shown}; delete them from the "
            "list (the training ids of a trial are in its placement.parquet)"
        )
    place = run.resolve().relative_to(home_of(run)).as_posix()
    trials = tuple(folder.name for folder in folders)
    journal = DeletionJournal(run=place, ids=tuple(ids.tolist()), erase=erase, trials=trials)
    if not erase:
        return journal
    current = {current_dataset(folder) for folder in folders}
    if len(current) != 1:
        raise SweepError(f"the trials of {run} use {len(current)} versions of the dataset: erase trial by trial")
    path, content_hash = current.pop()
    dataset = open_dataset(path, content_hash)
    present = ids[np.isin(ids, dataset.ids)]
    if not len(present):
        raise SweepError(f"the dataset at {path} holds none of these ids any more")
    version = {
        "dataset": str(path),
        "content_hash": dataset.info.content_hash,  # copies of the images are named by it
        "present": tuple(present.tolist()),
        "target": str(next_version(path)),
        "left": len(dataset) - len(present),
        "token": uuid.uuid4().hex[:8],
    }
    return journal.model_copy(update=version)


def _serve(home: Path, journal: DeletionJournal, wait_seconds: float, say: Say) -> Deletion:
    ids = np.array(journal.ids, dtype=np.int64)
    folders = [home if home.name == name else home / TRIALS / name for name in journal.trials]
    forgotten = []
    for folder in folders:
        with alone(folder, wait_seconds):
            finish_former(folder)
        # The trials of a sweep may learn from different examples: each forgets those that it has seen.
        here = ids[np.isin(ids, _placed(folder))]
        if len(here):
            forgotten.append(forget(folder, here, wait_seconds=wait_seconds))
            say(describe(forgotten[-1]))
    return Deletion(tuple(forgotten), _erase(home, journal, folders, say) if journal.erase else None)


def _erase(home: Path, journal: DeletionJournal, folders: list[Path], say: Say) -> Erasure:
    """Purge whatever depends on the examples: the dataset first, for from then on trials can read the new version."""
    ids = np.array(journal.present, dtype=np.int64)
    target, content_hash = _write_version(home, journal, ids, say)
    for folder in folders:
        erase_from_trial(folder, ids, target, content_hash)
    drop_examples(home, ids)
    former = former_version(Path(journal.dataset), journal.content_hash)
    others = purge_sweep(home, ids, folders, former)
    copies = purge_copies(journal.content_hash)
    return Erasure(target, Path(journal.dataset), tuple(copies), others)


def _searched(
    home: Path, journal: DeletionJournal, erasure: Erasure, former: PreparedDataset | None, hashes: frozenset[str]
) -> Erasure:
    """Bring the mirror up to what was erased, then search everything for traces."""
    ids, mirrored = np.array(journal.present, dtype=np.int64), refresh_mirror(home)
    traces = search_traces(home, ids, pixels_of(former, ids), hashes, erasure.dataset, mirrored)
    return replace(erasure, mirrored=mirrored, traces=traces)


def _write_version(home: Path, journal: DeletionJournal, ids: Ids, say: Say) -> tuple[Path, str]:
    """Write the dataset without the examples, unless that was done before a crash."""
    target, former = Path(journal.target), Path(journal.dataset)
    if target.exists():
        now = PreparedDataset.open(target)
        if len(now) == journal.left and not np.isin(ids, now.ids).any():
            return target, now.info.content_hash
        # Another erasure took the name between two tries of this one.
        target = next_version(former)
        journal.with_target(target).write(home)
    dataset = open_dataset(former, journal.content_hash)
    info = write_without(dataset, ids, target, token=journal.token)
    say(f"wrote {target}, {sum(info.counts.values()):,} examples")
    return target, info.content_hash


def _placed(folder: Path) -> Ids:
    ids: Ids = read_placement(folder / PLACEMENT).column("id").to_numpy()
    return ids


@contextmanager
def _alone(home: Path, wait_seconds: float) -> Iterator[None]:
    lock = FileLock(home / _LOCK)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise SweepError(f"another request runs on {home}: wait until it is done, or give --wait SECONDS") from error
    try:
        yield
    finally:
        lock.release()


def _forgetful(folder: Path) -> bool:
    with suppress(OSError, RecordError):
        records = TrialFolder(folder)
        return forgetful(records.kind, records.own_source) is not None
    return False
