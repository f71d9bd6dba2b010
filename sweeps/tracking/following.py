"""Following the records of a sweep: new rows are passed to a tracker.

What a tracker could not take is not lost: the records stay, the journal stays where it was, and the next look, or
``fairsweep track DIR`` a week later, tries again.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock
from typing import Any

from fairsweep.analysis.records.file_names import STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.sweeps.planning.running_epsilon import EpsilonCurves
from fairsweep.sweeps.spec.tracking_section import TrackingSection, tracking_of
from fairsweep.sweeps.tracking.journal import Journal, Sent
from fairsweep.sweeps.tracking.reports import SweepIdentity, SweepReport, TrialReport
from fairsweep.sweeps.tracking.scalars import path_part
from fairsweep.sweeps.tracking.tracker import Place, Tracker
from fairsweep.sweeps.tracking.trackers import open_tracker

FOLDER = "tracking"
_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 300.0
_KEPT = 64

Stamp = tuple[int, int]


class Records:
    """The trials of an output folder as reports, shared by all trackers: each is read and drawn once.

    Args:
        output: the output folder.
        section: what is tracked.
        name: of the sweep.
        created: when it was begun.
        config: the resolved sweep.
    """

    def __init__(self, output: Path, section: TrackingSection, name: str, created: str, config: dict[str, Any]) -> None:
        self.output = output
        self.section = section
        self.sweep = SweepIdentity(output, name, created, config, section.metrics, section.pictures)
        self.own_code: dict[str, str] = config.get("own_code") or {}
        self.is_release = (config.get("privacy") or {}).get("mode") == "release"
        self._curves = EpsilonCurves(output)
        self._known: dict[tuple[str, Stamp], TrialReport] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, output: Path) -> Records:
        """Return the records of an output folder that holds a sweep. Raises: FileNotFoundError if it holds none."""
        content = read_json(output / SWEEP_JSON)
        section = tracking_of(content)
        return cls(output, section, str(content.get("name")), str(content.get("created")), content.get("sweep", {}))

    def changed(self, seen: dict[str, Stamp]) -> Iterator[tuple[Path, Stamp]]:
        """Folders of trials whose state has changed since it was seen, with its stamp."""
        trials = self.output / TRIALS
        for folder in sorted(trials.iterdir()) if trials.is_dir() else ():
            try:
                found = (folder / STATE).stat()
            except OSError:
                continue
            stamp = (found.st_mtime_ns, found.st_size)
            if seen.get(folder.name) != stamp:
                yield folder, stamp

    def report(self, folder: Path, stamp: Stamp) -> TrialReport | None:
        """Return a trial as it stands; None before its first record."""
        with self._lock:
            key = (folder.name, stamp)
            if key not in self._known:
                report = TrialReport.of(self.sweep, folder, self._curves)
                if report is None or not report.has_ended:
                    return report
                while len(self._known) >= _KEPT:
                    self._known.pop(next(iter(self._known)))
                self._known[key] = report
            return self._known[key]


class Follower:
    """Keeps one tracker up to date, in a thread of its own: one that hangs holds up no other.

    Args:
        kind: a row of `fairsweep.sweeps.tracking.trackers.TRACKERS`.
        records: what is followed.
        say: takes a line for people.
    """

    def __init__(self, kind: str, records: Records, say: Callable[[str], None]) -> None:
        self.kind = kind
        self.unsent = 0
        self.is_finished = False
        self._records = records
        self._say = say
        self._place = Place(records.output / FOLDER, records.section, records.sweep.name, say, records.own_code)
        self._seen: dict[str, Stamp] = {}
        self._tracker: Tracker | None = None
        self._journal: Journal | None = None
        self._complained = False
        self._pause = 0.0

    def follow(self, finishing: Event) -> None:
        """Look again and again, and a last time once the sweep has ended.

        In release mode only then: trackers note when they are sent what, which would tell how long each step took.
        """
        due = math.inf if self._records.is_release else 0.0
        while not finishing.is_set():
            if time.monotonic() >= due and not self.look():
                due = time.monotonic() + self._pause
            finishing.wait(self._records.section.every_seconds)
        self.finish()

    def look(self) -> bool:
        """Send what is new; whether all of it could be sent."""
        return self._trying(self._send_news)

    def finish(self) -> None:
        """Send the rest and the sweep as a whole, and finish what is open."""
        if self.look() and self._trying(self._send_sweep):
            self.is_finished = True

    def _send_news(self) -> None:
        if self._tracker is None:
            self._tracker = open_tracker(self.kind, self._place)
            self._journal = Journal(self._place.folder / f"{path_part(self.kind)}.jsonl")
        changed = list(self._records.changed(self._seen))
        self.unsent = len(changed)
        for folder, stamp in changed:
            self._send(self._tracker, folder, stamp)
            self.unsent -= 1

    def _send(self, tracker: Tracker, folder: Path, stamp: Stamp) -> None:
        journal = self._journal
        report = self._records.report(folder, stamp)
        if journal is None or report is None or not (report.has_ended or tracker.is_live):
            return
        before, state, attempt = journal[report.trial], report.state.state, report.state.attempt
        # Decided by the state alone: of thousands of trials that were sent long ago no record is read.
        is_new = report.state.iteration > before.iteration
        if is_new or (report.has_ended and (state, attempt) != (before.state, before.attempt)):
            tracker.send(report, before.iteration)
            journal.note(report.trial, Sent(report.last_iteration, state, attempt))
        self._seen[folder.name] = stamp

    def _send_sweep(self) -> None:
        if self._tracker is not None:
            self._tracker.send_sweep(SweepReport(self._records.sweep))
            self._tracker.close()

    def _trying(self, act: Callable[[], None]) -> bool:
        """Do something with the tracker; what goes wrong is said once, then tried again, more and more seldom."""
        try:
            act()
        except RecordError:
            self._pause = 0.0  # a file that is being replaced; the next look finds the new one
            return False
        except Exception as error:  # noqa: BLE001 - whatever a tracker's library raises must not end the others
            if not self._complained:
                self._complained = True
                cause = f"{type(error).__name__}: {_short(error)}"
                self._say(
                    f"tracking: {self.kind} is not reachable ({cause}); the sweep continues; what is missing there is "
                    f"sent later, or by: fairsweep track {shlex.quote(str(self._records.output))}"
                )
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
            return False
        self._pause = 0.0
        return True


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "…"
