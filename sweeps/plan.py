"""The plan of a sweep as tables: trials, resources, privacy, bytes. Nothing is started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fairsweep.analysis.accounting.release_prices import Charge
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.wording import counted
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.feed_choice import Feeding, settle_feed
from fairsweep.sweeps.planning.machines import check_budget, check_resources, large_enough, machines, slots
from fairsweep.sweeps.planning.plan_warnings import idle_settings, plan_warnings
from fairsweep.sweeps.planning.planned_charges import planned_charge
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep, outlooks
from fairsweep.sweeps.planning.refusals import refusal_lines
from fairsweep.sweeps.planning.scarcity import scarce_groups
from fairsweep.sweeps.planning.winner_price import WinnerPrice
from fairsweep.sweeps.search.search_budget import Extent
from fairsweep.sweeps.search.search_summary import SearchSummary
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.difference import folder_difference
from fairsweep.sweeps.store.initial_weights import with_initial
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.frozen_features import features_bytes
from fairsweep.trainables.privacy.plan import Outlook
from fairsweep.trainables.privacy.privacy_statement import UserEpsilon
from fairsweep.trainables.trial.trial_data import frozen_body_of


@dataclass(frozen=True)
class LearnerLine:
    """One learner in a plan.

    Attributes:
        name: its name in the sweep.
        kind: which method.
        twin_of: name of the learner that it is the twin of, or None.
        trials: how many of its trials the sweep has.
        cpu: CPUs that a trial reserves.
        gpu: GPUs that a trial reserves.
        workloads: what a trial does, in words, where its epochs are not all of it; one for each size that differs.
    """

    name: str
    kind: str
    twin_of: str | None
    trials: int
    cpu: float
    gpu: float
    workloads: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrivacyLine:
    """What some trials cost alike, as far as it is known beforehand.

    Attributes:
        learner: name of the learner.
        plan: their privacy plan, or what is known instead.
        epsilon: what it costs, by PLD.
        trials: how many trials follow it.
        of_user: what a user pays for all of its examples; None where users are not known, or none has several.
    """

    learner: str
    plan: Outlook
    epsilon: float
    trials: int
    of_user: UserEpsilon | None = None


@dataclass(frozen=True)
class PlanReport:
    """What `fairsweep plan` shows.

    Attributes:
        name: the sweep's name.
        output: its output folder.
        labels: every trial's readable name, in order.
        missing: how many of them the output folder lacks.
        settings: number of distinct settings.
        training_sizes: the distinct sizes of training sets, ascending.
        evaluated: examples evaluated after each iteration.
        learners: one line a learner.
        privacy: one line a distinct privacy plan.
        charges: what each trial with a privacy plan will cost; empty for a guided search.
        draws: whether trials are independent draws of a random search.
        delta: of all trials together; None for the smallest of the trials' own.
        at_once: how many trials run at once on what there is.
        feeding: where their images come from.
        megabytes: estimate of what the missing trials write.
        search: what is known of a guided search, whose trials become known while it runs: all else is then said of the
            trials by which the ends of its dimensions were checked.
        winner: what publishing the winner alone costs, where only that is published: all else is then said of the ends
            of its dimensions.
        plan_warnings: what should be known of the data and of this machine, a sentence each.
    """

    name: str
    output: OutputFolder
    labels: tuple[str, ...]
    missing: int
    settings: int
    training_sizes: tuple[int, ...]
    evaluated: int
    learners: tuple[LearnerLine, ...]
    privacy: tuple[PrivacyLine, ...]
    charges: tuple[Charge, ...]
    draws: bool
    delta: float | None
    at_once: int
    feeding: Feeding
    megabytes: float
    search: SearchSummary | None = None
    winner: WinnerPrice | None = None
    plan_warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.extent})"

    def _repr_html_(self) -> str:
        from fairsweep.analysis.results.overview import titled_rows

        rows = {"trials": self.extent, "training examples": " or ".join(f"{size:,}" for size in self.training_sizes)}
        for line in self.learners:
            epsilons = dict.fromkeys(epsilon_text(one.epsilon) for one in self.privacy if one.learner == line.name)
            private = f", ε = {' or '.join(epsilons)}" if epsilons else ""
            twin = f", twin of {line.twin_of}" if line.twin_of else ""
            rows[line.name] = f"{line.kind}{twin}: {counted(line.trials, 'trial')}{private}"
        rows["output"] = f"{self.output.path}, about {self.megabytes:,.0f} MB"
        if self.plan_warnings:
            rows["notes"] = " ".join(self.plan_warnings)
        return titled_rows(self.name, rows)

    @property
    def extent(self) -> str:
        """Return how many trials there will be, in words."""
        if self.winner is not None:
            draws = self.winner.draws
            return f"a secret number of draws ({draws.law}, mean {draws.mean:g}), of which the best is published"
        if self.search is not None:
            known = self.search.extent
            return f"at most {counted(known.trials, 'trial')} of {counted(known.settings, 'setting')}"
        settings = counted(self.settings, "setting")
        return f"{counted(len(self.labels), 'trial')} of {settings}, {self.missing} of them to run"


def plan_sweep(sweep: SweepSpec) -> PlanReport:
    """Check a sweep as `run` would, and say what it would do.

    Raises:
        SweepError: whatever `run` would refuse, in the same words; but a machine that is too small is a warning.
    """
    sweep = with_initial(sweep)
    plan = check_sweep(sweep)
    output = OutputFolder.at(sweep.folder)
    missing = output.ledger.missing(plan.trials)
    available = machines()
    warnings = list(scarce_groups(plan))
    try:
        check_resources(plan.trials, available)
    except SweepError as error:
        # A plan is also made on a laptop, of what will run on a cluster.
        warnings.insert(0, f"this machine cannot run it ({error.message}); a cluster may: fairsweep run … --address")
        available = [large_enough(plan.trials, available)]
        check_resources(plan.trials, available)
    winner = WinnerPrice.of(plan) if sweep.search.is_secret else None
    extent = Extent.of(sweep) if sweep.search.is_guided else None
    count = None if extent is None else extent.trials
    check_budget(plan, plan.trials, available, count)
    feeding = settle_feed(sweep, plan.datasets, plan.trials, available)
    search = None
    needed, trials = plan.needed_bytes(missing), [trial.trial for trial in plan.trials]
    at_once = slots(plan.trials, available, feeding.max_concurrent, count)
    if extent is not None:
        search = SearchSummary.of(sweep, output, at_once)
        needed, trials = extent.needed_bytes(plan), []
    if winner is not None:
        needed, trials = winner.needed_bytes(plan), []
    output.check(name=sweep.name, content=plan.content, former=plan.former_content, trials=trials, needed_bytes=needed)
    return PlanReport(
        name=sweep.name,
        output=output,
        labels=tuple(trial.label for trial in plan.trials),
        missing=len(missing),
        settings=len({trial.setting for trial in plan.trials}),
        training_sizes=tuple(sorted(set(plan.sizes.values()))),
        evaluated=plan.evaluated,
        learners=_learner_lines(plan),
        privacy=_privacy_lines(plan),
        charges=_charges(plan, winner),
        draws=sweep.search.algorithm == "random" and winner is None,
        delta=sweep.privacy.delta_sweep,
        at_once=at_once,
        feeding=feeding,
        megabytes=needed / 1e6,
        search=search,
        winner=winner,
        plan_warnings=(
            *warnings,
            *folder_difference(plan, output).former_lines(),
            *refusal_lines(plan.refused),
            *idle_settings(sweep, plan.trials, plan.sizes),
            *plan_warnings(plan.dataset, plan.trials),
        ),
    )


def _charges(plan: SweepPlan, winner: WinnerPrice | None) -> tuple[Charge, ...]:
    if winner is not None:
        return (winner.charge,)
    return () if plan.sweep.search.is_guided else tuple(planned_charge(*known) for known in outlooks(plan))


def _learner_lines(plan: SweepPlan) -> tuple[LearnerLine, ...]:
    by_name: dict[str, list[PlannedTrial]] = {}
    for trial in plan.trials:
        by_name.setdefault(trial.config.learner.name, []).append(trial)
    return tuple(
        LearnerLine(
            name,
            own[0].config.learner.kind,
            own[0].config.twin_of,
            len(own),
            own[0].resources.cpu,
            own[0].resources.gpu,
            _workloads(plan, own),
        )
        for name, own in by_name.items()
    )


def _workloads(plan: SweepPlan, trials: list[PlannedTrial]) -> tuple[str, ...]:
    said = [trial.config.learner.workload(plan.sizes[trial.trial]) for trial in trials]
    said += [_features_used(plan, trial) for trial in trials]
    return tuple(dict.fromkeys(words for words in said if words))


def _features_used(plan: SweepPlan, trial: PlannedTrial) -> str:
    """Return what becomes of a frozen body's features, in words; nothing where all layers are trained."""
    name, body = trial.config.model.name, frozen_body_of(trial.config, plan.dataset)
    if body.tail is not None:
        size = sum(features_bytes(body.tail, dataset) for dataset in plan.datasets) / 1e6
        return (
            f"{body.tail.name!r} of {name} is trained on features of its frozen body, which each machine computes once "
            f"for all trials ({size:,.1f} MB)"
        )
    return f"the frozen layers of {name} are computed anew at every step: {body.reason}" if body.reason else ""


def _privacy_lines(plan: SweepPlan) -> tuple[PrivacyLine, ...]:
    distinct: dict[tuple[str, str, int | None], Outlook] = {}
    used: Counter[tuple[str, str, int | None]] = Counter()
    for trial, outlook in outlooks(plan):
        key = trial.config.learner.name, repr(outlook), plan.of_one_user.get(trial.trial)
        distinct.setdefault(key, outlook)
        used[key] += 1
    return tuple(
        PrivacyLine(key[0], outlook, outlook.epsilon().pld, used[key], outlook.epsilon_of_user(key[2]))
        for key, outlook in distinct.items()
    )
