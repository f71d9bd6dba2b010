"""A sweep of which only the winner is published: its draws are trained in a hidden folder, which is then deleted.

The hidden folder is an output folder of its own inside that of the sweep, beside the secret key from which the number
of draws, their settings and their seeds follow: so a sweep that was killed goes on with the same draws.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from fairsweep.analysis.accounting.events import describe
from fairsweep.analysis.disclosure.columns import COLUMNS, WHOLE, without_private
from fairsweep.analysis.records.file_names import EXAMPLES, IDS_KEY, PRIVACY, STATE, SWEEP_JSON, TRIALS, WINNER
from fairsweep.analysis.records.files import RecordError, read_json, write_json
from fairsweep.analysis.records.membership import MEMBERS
from fairsweep.analysis.records.trial_state import read_state
from fairsweep.sweeps.execution.listed_trials import ListedTrials
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.planning.preflight import SweepPlan
from fairsweep.sweeps.planning.secret_draws import number_of_draws, secret_draws
from fairsweep.sweeps.planning.winner_price import WinnerPrice
from fairsweep.sweeps.runtime.cluster_address import cluster_of
from fairsweep.sweeps.search.outcomes import recorded_values
from fairsweep.sweeps.store.ledger import Entry
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.objectives import Objective
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement, Selection
from fairsweep.trainables.trial.key_file import erase_key, stored_key
from fairsweep.trainables.trial.trial_secret import erase_secret, ids_key

HIDDEN = ".winner"
_KEY, _DRAWS, _OUTSIDE, _NEW = "draws.key", "draws", "outside.txt", ".new"
_BEST = Objective.model_validate({"max": "accuracy"})
# What decides the draws, and what they are chosen by.
_IDENTITY = {"dataset", "imbalance", "model", "learners", "split", "evaluation", "search", "privacy"}
_REMEDY = "the draws cannot be repeated without it: put it back from a copy, or choose another output folder"


class SecretRun:
    """The run of a sweep with ``release: winner``.

    Args:
        plan: the checked sweep; its trials are those by which the ends of its dimensions were checked.
        output: its output folder.

    Attributes:
        price: what publishing the winner costs.

    Raises:
        SweepError: if there is no price for it.
    """

    def __init__(self, plan: SweepPlan, output: OutputFolder) -> None:
        self._plan, self._output = plan, output
        self._hidden = output.path / HIDDEN
        self.price = WinnerPrice.of(plan)

    def check(self, address: str | None) -> None:
        """Refuse a Ray that others see, and an output folder with other trials, or with another winner.

        Raises:
            SweepError: with the remedy.
        """
        if cluster_of(address) is not None or ray.is_initialized():
            raise SweepError(
                "release: winner trains on a Ray of its own on this machine, since logs of a cluster would show the "
                "draws: leave --address and RAY_ADDRESS out, and start it in a process of its own",
                ("search", "release"),
            )
        said = self._said()
        is_other = bool(said) and said.get("identity") != self._identity()
        if is_other or (not said and any((self._output.path / TRIALS).glob("*"))):
            raise SweepError(
                f"the output folder {self._output.path} holds {'the winner of other draws' if is_other else 'trials'}: "
                "each winner needs an output folder of its own, for its price is that of all that is published",
                ("output",),
            )

    @property
    def is_over(self) -> bool:
        """Whether the winner has been published, or there is none."""
        return self._said().get("state") in ("published", "none")

    def begin(self) -> tuple[SweepPlan, OutputFolder, ListedTrials]:
        """Charge the sweep, and return the draws with the hidden folder in which they train."""
        if not self._said():
            self._say("running")
        self._hidden.mkdir(mode=0o700, exist_ok=True)
        key = stored_key(self._hidden / _KEY, _REMEDY)
        draws = secret_draws(self._plan, self.price, key, number_of_draws(self.price.draws, key))
        folder = OutputFolder.at(self._hidden / _DRAWS)
        folder.path.mkdir(exist_ok=True)
        ids_key(self._output.path / TRIALS / "any")
        for name in (IDS_KEY, EXAMPLES):  # what trials look for in their sweep's folder
            shutil.copyfile(self._output.path / name, folder.path / name)
        return draws, folder, ListedTrials(draws, folder)

    def note_folder(self, place: Path) -> None:
        """Keep in mind a folder outside, with logs on the draws, which a kill would leave behind."""
        with (self._hidden / _OUTSIDE).open("a") as file:
            file.write(f"{place}\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self, draws: SweepPlan, folder: OutputFolder) -> str:
        """Publish the winner, if there is any, delete everything else, and return a line on it.

        Raises:
            SweepError: if all draws failed.
        """
        winner = self._published() or (self._published_now(draws, folder) if draws.trials else None)
        if winner is None:
            self._say("none")
        else:
            self._say("published", trial=winner.name)
        self._describe(winner)
        self.purge()
        cost = f"ε = {self.price.epsilon().pld:.3g} at δ = {self.price.alone.delta:.2g}"
        if winner is None:
            return f"the secret number of draws was 0: nothing was trained, and nothing is published; charged: {cost}"
        return f"published the winner, {winner.name}, for {cost}; the other draws are deleted"

    def purge(self) -> None:
        """Delete the draws and their key, and let no file's time tell when it was written."""
        if self._hidden.exists():
            with suppress(FileNotFoundError):
                for place in (self._hidden / _OUTSIDE).read_text().splitlines():
                    shutil.rmtree(place, ignore_errors=True)
            erase_key(self._hidden / _KEY)
            for trial in (self._hidden / _DRAWS / TRIALS).glob("*"):
                erase_secret(trial)
            shutil.rmtree(self._hidden)
        now = time.time()
        for path in (*self._output.path.rglob("*"), self._output.path):
            with suppress(FileNotFoundError):
                os.utime(path, (now, now))

    # --- inside ---

    def _published(self) -> Path | None:
        """Return the winner's folder if it was published before the run was cut short."""
        return next(iter((self._output.path / TRIALS).glob("[!.]*")), None)

    def _published_now(self, draws: SweepPlan, folder: OutputFolder) -> Path:
        entry = self._best(draws, folder)
        target = self._output.path / TRIALS / entry.folder.name
        # A copy: the files themselves would tell when they were made.
        new = target.with_name(_NEW)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for path in entry.folder.iterdir():
            if path.name in COLUMNS or path.name in WHOLE:
                shutil.copyfile(path, new / path.name)
        write_json(new / PRIVACY, self._statement(read_json(new / PRIVACY)).model_dump(mode="json"))
        state = read_state(new / STATE)
        cost = {"epsilon": self.price.epsilon().pld}
        state = replace(state, run=1, attempt=2, node=None, recovered=None, metrics={**state.metrics, **cost})
        write_json(new / STATE, without_private(STATE, asdict(state)))
        new.rename(target)
        return target

    def _best(self, draws: SweepPlan, folder: OutputFolder) -> Entry:
        """Return the best of the draws that ended; the first of those that are equally good, which is as random."""
        entries = folder.ledger.entries()
        values = {trial.trial: self._value(entries[trial.trial]) for trial in draws.trials if _counts(trial, entries)}
        if not values:
            failed = next((entry.state.cause for entry in entries.values() if entry.state.cause), "no record is whole")
            raise SweepError(f"every draw failed, so there is no winner; the first one because: {failed}")
        return entries[max(values, key=values.__getitem__)]

    def _value(self, entry: Entry) -> float:
        objective = next(iter(self._plan.sweep.search.objectives), _BEST)
        meaning = meaning_of(self._plan.sweep, self._plan.dataset)
        try:
            (value,) = recorded_values(entry.folder, [objective.measure.settled(meaning)], meaning)
        except (RecordError, OSError):
            return -math.inf
        return -math.inf if math.isnan(value) else objective.sign * value

    def _statement(self, own: Mapping[str, Any]) -> PrivacyStatement:
        price = self.price
        alone = price.alone_epsilon()
        selection = Selection(draws=price.draws.law, mean=price.draws.mean, epsilon_of_one_draw=alone)
        return PrivacyStatement.model_validate(own).of_winner(describe(price.charge.event), price.epsilon(), selection)

    def _said(self) -> dict[str, Any]:
        try:
            return read_json(self._output.path / WINNER)
        except FileNotFoundError:
            return {}
        except RecordError as error:
            raise SweepError(f"{error}; put it back from a copy, or choose another output folder") from error

    def _say(self, state: str, *, trial: str | None = None) -> None:
        alone = self.price.alone
        charge = {"unit": alone.unit, "delta": alone.delta, "events": [describe(self.price.charge.event)]}
        config = self._plan.trials[0].config.record()
        public = {name: config[name] for name in ("dataset", "imbalance", "split")}
        public["learner"] = {name: config["learner"].get(name) for name in ("name", "kind", "clients")}
        content = {
            "state": state,
            "identity": self._identity(),
            "draws": {self.price.draws.law: self.price.draws.mean},
            "charge": charge,
            "config": public | {"seeds": {"data": 0}},
            "trial": trial,
        }
        write_json(self._output.path / WINNER, content)

    def _identity(self) -> str:
        content = self._plan.sweep.model_dump(mode="json", include=_IDENTITY)
        content["dataset"] = {"content": self._plan.content} | {
            k: v for k, v in content["dataset"].items() if k != "path"
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _describe(self, winner: Path | None) -> None:
        """Say in ``sweep.json`` which trial there is; it began and ended at one moment, as far as it says."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        members = [] if winner is None else [read_state(winner / STATE).trial]
        content = read_json(self._output.path / SWEEP_JSON)
        changes = {"created": now, "updated": now, "trials": len(members), MEMBERS: members}
        write_json(self._output.path / SWEEP_JSON, content | changes)


def _counts(trial: PlannedTrial, entries: Mapping[str, Entry]) -> bool:
    """Return whether a draw has ended; one that lost its secret on the way trained twice, and counts as failed."""
    entry = entries.get(trial.trial)
    return entry is not None and entry.state.ended and len(entry.state.secrets) <= 1
