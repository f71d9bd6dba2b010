"""The tables that ``fairsweep plan`` prints."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep.analysis.inference.privacy_ledger import cost_sentences, epsilon_text, price_table, release_prices_of
from fairsweep.analysis.wording import counted
from fairsweep.sweeps.cli.privacy_tables import print_frame, print_sentences
from fairsweep.sweeps.plan import PlanReport, PrivacyLine
from fairsweep.trainables.unlearning.first_training import BEFORE_REQUESTS

_MOST_TRIALS = 40


def print_plan(report: PlanReport, console: Console) -> None:
    """Print what a sweep would do.

    Args:
        report: what `plan_sweep` says.
        console: where to.
    """
    sizes = " or ".join(f"{size:,}" for size in report.training_sizes)
    console.print(
        f"[bold]{escape(report.name)}[/bold]: {report.extent}, {report.at_once} at once; {sizes} training examples, "
        f"{report.evaluated:,} evaluated after each iteration; writes about {report.megabytes:,.0f} MB to "
        f"{escape(str(report.output.path))}",
        soft_wrap=True,
    )
    choice, note = report.feeding.choice, report.feeding.note
    console.print(
        f"Feed: {choice.kind} ({choice.reason}){'; ' + note if note else ''}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    for caution in report.plan_warnings:
        console.print(f"Note: {escape(caution)}", soft_wrap=True, highlight=False)
    learners = Table("learner", "kind", "twin of", "trials", "CPUs", "GPUs", box=None, header_style="bold")
    for line in report.learners:
        cells = (line.name, line.kind, line.twin_of or "", str(line.trials), f"{line.cpu:g}", f"{line.gpu:g}")
        learners.add_row(*map(escape, cells))
    console.print(learners)
    for line in report.learners:
        for words in line.workloads:
            console.print(f"{escape(line.name)}: {escape(words)}", soft_wrap=True, highlight=False)
    if report.privacy:
        columns = ("learner", "ε", "δ", "noise multiplier", "sampling rate", "steps", "trials", "")
        privacy = Table(*columns, box=None, header_style="bold")
        for cost in report.privacy:
            plan = cost.plan
            privacy.add_row(
                escape(cost.learner),
                epsilon_text(cost.epsilon),
                f"{plan.delta:g}",
                f"{plan.trained_noise_multiplier:.4g}",
                f"{plan.largest_rate:.4g}",
                f"{plan.steps:,}",
                str(cost.trials),
                escape(plan.remark),
            )
        console.print(privacy)
        print_sentences(dict.fromkeys(_user_sentence(line) for line in report.privacy if line.of_user), console)
        _print_prices(report, console)
    if report.search is not None or report.winner is not None:
        console.print(
            "These are the end points of the dimensions; the settings in between are chosen while the sweep runs.",
            soft_wrap=True,
        )
        if report.search is not None:
            report.search.show(console)
        console.print("Nothing was started.")
        return
    for label in report.labels[:_MOST_TRIALS]:
        console.print(f"  {escape(label)}", highlight=False)
    if len(report.labels) > _MOST_TRIALS:
        console.print(f"  … and {len(report.labels) - _MOST_TRIALS} more")
    console.print("Nothing was started.")


def _user_sentence(line: PrivacyLine) -> str:
    """Return what a user with several examples pays."""
    of_user = line.of_user
    if of_user is None:
        return ""
    cost = of_user.epsilon
    price = "is not known, for want of a theorem" if cost is None else f"is {epsilon_text(cost.pld)} by PLD"
    return (
        f"{line.learner}: ε is for one example. Users have up to {of_user.examples} of them in the first seed's "
        f"training set, and ε for all examples of such a user together {price}."
    )


def _print_prices(report: PlanReport, console: Console) -> None:
    """Print what all trials will cost together; of a search by results it becomes known while it runs."""
    if report.search is not None:
        console.print(
            "Every setting that a search tries is charged: what they cost together says fairsweep privacy, later.",
            soft_wrap=True,
        )
        return
    found = release_prices_of(report.charges, report.delta)
    if not found:
        return
    print_frame("What a release will cost", price_table(found, draws=report.draws), console)
    print_sentences(cost_sentences(found, draws=report.draws), console)
    sliced = [line.learner for line in report.privacy if line.plan.remark == BEFORE_REQUESTS]
    if sliced:
        names = ", ".join(dict.fromkeys(sliced))
        text = f"Of {names} this is what is spent {BEFORE_REQUESTS} for deletion, and for slices of equal size."
        print_sentences([text], console)
    without = len(report.labels) - sum(charge.guarantees for charge in report.charges)
    if without and report.winner is None:
        said = f"{counted(without, 'trial')} without a guarantee"
        print_sentences([f"{said}: for the sweep as a whole, results included, ε is infinite."], console)
