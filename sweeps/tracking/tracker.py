"""The interface of a tracker.

A tracker is a class with the methods of `Tracker`, in a module of its own, and one row in
`fairsweep.sweeps.tracking.trackers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fairsweep.sweeps.spec.tracking_section import TrackingSection
from fairsweep.sweeps.tracking.reports import SweepReport, TrialReport


@dataclass(frozen=True)
class Place:
    """Where and how a tracker works.

    Attributes:
        folder: ``tracking`` in the output folder; each tracker has a name of its own in it.
        section: of the sweep file.
        sweep: name of the sweep.
        say: takes a line for people.
        own_code: text of the files of trackers of the user's own.
    """

    folder: Path
    section: TrackingSection
    sweep: str
    say: Callable[[str], None]
    own_code: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Shows trials somewhere. Any exception means: try again later, what was not sent is not lost.

    Attributes:
        is_live: whether it takes trials while they run; else it takes them once they have ended.
    """

    is_live: bool

    def send(self, report: TrialReport, after: int) -> None:
        """Show what a trial has recorded.

        Args:
            report: the trial; of one that has ended also its tables and pictures.
            after: iterations that were sent before, perhaps by an earlier process; later ones are new.
        """
        ...

    def send_sweep(self, report: SweepReport) -> None:
        """Show the sweep as a whole: trends and the table of trials, when it ends."""
        ...

    def close(self) -> None:
        """Finish what is open."""
        ...
