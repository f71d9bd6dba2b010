"""What every tracker must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from fairsweep.sweeps.spec.tracking_section import check_tracker
from fairsweep.sweeps.testing.contract import Contract, sources_of
from fairsweep.sweeps.testing.recorded_sweep import RecordedSweep
from fairsweep.sweeps.tracking.following import Follower, Records
from fairsweep.sweeps.tracking.trackers import TRACKERS

_TRIALS = ("sgd_s0-aaaaaaaa", "sgd_s1-bbbbbbbb")


class TrackerContract(Contract):
    """The suite of trackers.

    Attributes:
        tracker: As in a sweep file: ``FILE.py:CLASS``, ``PACKAGE.MODULE:CLASS``, an entry point, or a row of the table.
        section: Further fields of the section ``tracking``.
    """

    given: ClassVar[tuple[str, ...]] = ("tracker",)
    tracker: Any
    section: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def recorded(self, tracker: str, tmp_path: Path) -> RecordedSweep:
        """Return a sweep that is tracked, with no trial yet."""
        tracked = {tracker: True} if tracker in TRACKERS else {"own": [tracker]}
        (tmp_path / "out").mkdir()
        return RecordedSweep(tmp_path / "out", tracked | self.section, own_code=sources_of(tracker))

    def _follower(self, recorded: RecordedSweep, tracker: str, said: list[str]) -> Follower:
        return Follower(tracker, Records.of(recorded.folder), said.append)

    def test_it_has_the_parts_of_a_tracker(self, tracker: str) -> None:
        if tracker not in TRACKERS:
            check_tracker(tracker, sources_of(tracker))

    def test_it_takes_trials_while_they_run_and_when_they_end(self, recorded: RecordedSweep, tracker: str) -> None:
        said: list[str] = []
        follower = self._follower(recorded, tracker, said)
        for iterations in (0, 1, 3):
            recorded.write(_TRIALS[0], iterations)
            assert follower.look()
        recorded.write(_TRIALS[0], 5, "done")
        recorded.write(_TRIALS[1], 2, "failed", error="no memory left")
        follower.finish()
        assert follower.is_finished, said
        assert follower.unsent == 0

    def test_another_process_goes_on_where_one_was_killed(self, recorded: RecordedSweep, tracker: str) -> None:
        said: list[str] = []
        recorded.write(_TRIALS[0], 2)
        assert self._follower(recorded, tracker, said).look(), said
        recorded.write(_TRIALS[0], 4, attempt=2)
        again = self._follower(recorded, tracker, said)
        assert again.look(), said
        recorded.write(_TRIALS[0], 5, "done", attempt=2)
        again.finish()
        assert again.is_finished, said

    def test_a_sweep_without_a_finished_trial_ends_quietly(self, recorded: RecordedSweep, tracker: str) -> None:
        said: list[str] = []
        follower = self._follower(recorded, tracker, said)
        follower.finish()
        assert follower.is_finished, said
