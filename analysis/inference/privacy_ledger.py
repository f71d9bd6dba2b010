"""Privacy guarantees of the trials of a sweep, one by one and composed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairsweep.analysis.accounting.delta_range import check_least_delta
from fairsweep.analysis.extras import is_installed, needs
from fairsweep.analysis.inference.ledger_view import PrivacyLedger
from fairsweep.analysis.records.file_names import WINNER
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.learner_records import RecordedPlans
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.wording import counted

if TYPE_CHECKING:
    from fairsweep.analysis.accounting.release_prices import Charge, ReleasePrices

_RESEARCH = "simulated (research mode)"
_DEPLOYMENT = "simulates a larger deployment"
SIMULATED_EPSILON = "ε of the simulated deployment"
NO_GUARANTEE = "none: no clipping, no noise or no Poisson sampling"
PRICE_COLUMNS = ("unit", "what is released", "trials", "ε (PLD)", "ε (RDP)", "δ")


def epsilon_text(epsilon: float) -> str:
    """Return an ε as text: ``2.95``, ``∞``, or ``n/a`` if it is not known yet."""
    if np.isnan(epsilon):
        return "n/a"
    return "∞" if np.isinf(epsilon) else f"{epsilon:.3g}"


def privacy_ledger(results: SweepRecords, delta: float | None = None) -> PrivacyLedger | None:
    """Compose the trials of a sweep by their events.

    Args:
        results: The sweep.
        delta: Of the whole sweep; None takes what its file says, or the smallest of the trials' own.

    Returns:
        The ledger; None if no trial has made a statement.

    Raises:
        ValueError: If delta is at least 1/N for the units of some trial, or smaller than what accountants can tell.
    """
    if delta is not None:
        check_least_delta(delta)
    stated = [folder for folder in results.folders if folder.privacy]
    unpublished = _unpublished_winner(results)
    if not stated and unpublished is None:
        return None
    statements = [folder.privacy or {} for folder in stated]
    if delta is not None:
        _check_delta(delta, statements)
    prices = price_table(())
    search = (results.sweep.get("sweep") or {}).get("search") or {}
    draws = search.get("algorithm") == "random" and search.get("release") != "winner"
    costs: tuple[str, ...] = ()
    unprotected = 0
    if is_installed("dp_accounting"):
        charges, unknown = _charges(stated)
        pending, uncounted = _pending(results)
        charges += pending
        if unpublished is not None:
            from fairsweep.analysis.accounting.statement_charges import stated_charge

            charges.append(stated_charge(unpublished["config"], unpublished["charge"]))
        unprotected = sum(not charge.guarantees for charge in pending)
        found = release_prices_of(charges, _delta_of(results) if delta is None else delta)
        prices, costs = (
            price_table(found, draws=draws),
            (*cost_sentences(found, draws=draws), *_unknown_sentences(unknown, len(pending) - unprotected, uncounted)),
        )
    else:
        costs = (f"{needs('The ε of all trials together', 'dp_accounting')}.",)
    if unpublished is not None:
        costs = (*costs, "Charged in full though no winner is published: draws were, or may have been, trained.")
    headline = (*costs, *_other_sentences(results, statements, unprotected))
    return PrivacyLedger(headline, prices, _table(results, stated), _assumptions(stated))


def _assumptions(stated: Iterable[TrialFolder]) -> tuple[str, ...]:
    """Return each assumption once, with the learners that it is made of where others do without it."""
    learners: dict[str, dict[str, None]] = {}
    for folder in stated:
        said = folder.privacy or {}
        relation = f"Unit: {said.get('unit')}. Relation between neighbouring training sets: {said.get('relation')}."
        for text in (relation, *(said.get("assumptions") or ())):
            learners.setdefault(text, {})[folder.learner] = None
    everybody = {name for names in learners.values() for name in names}
    return tuple(
        text if len(names) == len(everybody) else f"Of {', '.join(names)}: {text}" for text, names in learners.items()
    )


def _check_delta(delta: float, statements: Sequence[Mapping[str, Any]]) -> None:
    for statement in statements:
        units = int(statement.get("population") or 1)
        if guarantee_of(statement) != _DEPLOYMENT and delta >= 1 / units:
            raise ValueError(
                f"delta must be below 1/N = {1 / units:.3g}, N being the number of {statement.get('unit')}s, but got "
                f"{delta:.3g}: publishing the data of one outright satisfies any larger delta"
            )


def release_prices_of(charges: Iterable[Charge], delta: float | None) -> tuple[ReleasePrices, ...]:
    """Return what releasing trials costs; see `fairsweep.analysis.accounting.release_prices`, which is loaded here."""
    from fairsweep.analysis.accounting.release_prices import release_prices

    return release_prices(charges, delta)


def price_table(found: Sequence[ReleasePrices], *, draws: bool = False) -> pd.DataFrame:
    """Return prices as a table: one trial, the winner by distribution of its number of draws, all trials.

    Args:
        found: The prices.
        draws: Whether trials are independent draws, as those of a random search; others have no price of a winner.
    """
    rows: list[tuple[str, str, str, str, str, str]] = []
    for unit, prices in _named(found):
        count, delta = f"{prices.trials:,}", f"{prices.delta:.2g}"
        one, everything = prices.one, prices.everything
        if prices.selection is not None:  # for which PLD has no theorem
            law, mean = prices.selection
            rows.append((unit, f"the winner alone, K {law}", f"K, mean {mean:g}", "", _rdp_text(one.rdp), delta))
            continue
        rows.append((unit, "one trial, named beforehand", "1", epsilon_text(one.pld), _rdp_text(one.rdp), delta))
        if prices.trials == 1:
            continue
        rows += [
            (unit, f"the winner alone, K {number}", f"K, mean {count}", "", _rdp_text(price), delta)
            for number, price in prices.winner.items()
            if draws and price is not None
        ]
        rows.append((unit, "all trials", count, epsilon_text(everything.pld), _rdp_text(everything.rdp), delta))
    return pd.DataFrame(rows, columns=list(PRICE_COLUMNS))


def cost_sentences(found: Sequence[ReleasePrices], *, draws: bool = False) -> tuple[str, ...]:
    """Return what releasing all trials costs whom, in sentences; ``draws`` as `price_table` takes it."""
    named = _named(found)
    listed = [_cost_sentence(unit, prices) for unit, prices in named]
    if len(found) > 1 and {prices.unit for prices in found} != {"example", "user"}:
        listed.append(
            "These numbers do not combine: an example may be used by trials of several lines, and no line covers it "
            "against all of them."
        )
    if draws and any(prices.trials > 1 and any(prices.winner.values()) for prices in found):
        listed.append(
            "The price of the winner alone is for comparison: it holds only if K, the number of trials, is drawn at "
            "random and stays secret, which it does not in a sweep file, if every other trial stays secret, too, and "
            "if the choice looks at public or separately charged data. Else all trials are charged."
        )
    return tuple(listed)


def _cost_sentence(unit: str, prices: ReleasePrices) -> str:
    if prices.selection is not None:
        law, mean = prices.selection
        sentence = (
            f"the winner of a secret number of draws, {law} with mean {mean:g}, costs ε = "
            f"{epsilon_text(prices.one.pld)} at δ = {prices.delta:.2g} by RDP, for which alone there is a theorem."
        )
    elif prices.trials == 1:
        sentence = f"one trial has a guarantee, ε = {epsilon_text(prices.one.pld)} at δ = {prices.delta:.2g}."
    else:
        sentence = (
            f"the {prices.trials:,} private trials together cost ε = {epsilon_text(prices.everything.pld)} at "
            f"δ = {prices.delta:.2g}, their events composed by PLD{_by_rdp(prices.everything.rdp)}. To add their ε "
            f"would give {epsilon_text(prices.added)} at δ = {prices.trials * prices.delta:.2g}."
        )
    if prices.in_folds is not None:
        sentence += f" Folds leave each {prices.unit} out of some of them: it takes part in at most {prices.in_folds}."
    if prices.simulated:
        sentence += (
            f" Simulations of a larger deployment among them ({prices.simulated:,}) count with the noise that they add "
            "themselves, which is less."
        )
    return f"For each {unit}: {sentence}"


def _by_rdp(rdp: float | None) -> str:
    return "" if rdp is None else f" ({epsilon_text(rdp)} by RDP)"


def _rdp_text(rdp: float | None) -> str:
    return "" if rdp is None else epsilon_text(rdp)


def _named(found: Sequence[ReleasePrices]) -> list[tuple[str, ReleasePrices]]:
    """Return each price with the name of its unit: clients by their learner; sets of units that pay alike share one."""
    alike: dict[tuple[str, str], list[ReleasePrices]] = {}
    for prices in found:
        alike.setdefault((prices.unit, repr(replace(prices, pool=""))), []).append(prices)
    whose = {key: _of_learners(listed[0]) for key, listed in alike.items()}
    units, kinds = Counter(unit for unit, _ in alike), Counter(whose.values())
    number: Counter[str] = Counter()
    named = []
    for key, listed in alike.items():
        unit, name = key[0], whose[key]
        first = number[name] + 1
        number[name] += len(listed)
        sets = "partition" if unit == "client" else "dataset"
        if len(listed) > 1:
            name = f"{name}, {sets}s {first} to {number[name]}, alike"
        elif kinds[name] > 1:
            name = f"{name}, {sets} {first}"
        elif units[unit] == 1:
            name = unit
        named.append((name, listed[0]))
    return named


def _of_learners(prices: ReleasePrices) -> str:
    names = [name for name in prices.learners if name]
    return f"{prices.unit} of {' and '.join(names)}" if prices.unit == "client" and names else prices.unit


def _charges(stated: Iterable[TrialFolder]) -> tuple[list[Charge], int]:
    """Return the charges of trials, and how many statements do not say their events."""
    from fairsweep.analysis.accounting.statement_charges import charge_of_user, stated_charge

    charges, of_users, unknown = [], [], 0
    for folder in stated:
        try:
            charge = stated_charge(folder.config or {}, folder.privacy or {})
        except (ValueError, KeyError, TypeError):
            unknown += 1
            continue
        charges.append(charge)
        if charge.unit == "example" and charge.guarantees:
            of_users.append(charge_of_user(charge, folder.privacy or {}))
    known = [charge for charge in of_users if charge is not None]
    # A number that leaves some of a user's trials out would be too small.
    return charges + (known if len(known) == len(of_users) else []), unknown


def _pending(results: SweepRecords) -> tuple[list[Charge], int]:
    """Return what private trials that have begun and made no statement cost as planned, and how many have no plan."""
    from fairsweep.analysis.accounting.statement_charges import stated_charge

    begun = results.trials["epsilon"].isna() & ~results.trials["state"].isin(["queued", "unknown"])
    names = set(results.trials["trial"][begun])
    plans = RecordedPlans(results.location)
    with suppress(OSError):
        plans.look()
    charges, uncounted = [], 0
    for folder in (folder for folder in results.folders if folder.name in names):
        planned = plans.content["charges"].get(plans.content["trials"].get(folder.hash or "", ""))
        if planned is None or folder.config is None:
            uncounted += 1
        else:
            charges.append(stated_charge(folder.config, planned))
    return charges, uncounted


def _unpublished_winner(results: SweepRecords) -> Mapping[str, Any] | None:
    """Return what a sweep says of a winner that is not, or not yet, among its trials; None without one."""
    with suppress(RecordError, OSError):
        said = (results.location / WINNER).json()
        return said if said is not None and said.get("state") != "published" else None
    return None


def _delta_of(results: SweepRecords) -> float | None:
    """Return what the sweep file says is the δ of the whole sweep."""
    given = ((results.sweep.get("sweep") or {}).get("privacy") or {}).get("delta_sweep")
    return None if given is None else float(given)


def _unknown_sentences(unknown: int, pending: int, uncounted: int) -> tuple[str, ...]:
    """Return which trials are counted by their plans, and which are not counted."""
    listed = []
    if pending:
        listed.append(f"Charged for all planned steps: {counted(pending, 'trial')} that began and did not end.")
    if unknown:
        listed.append(f"Not in these numbers: {counted(unknown, 'privacy statement')} without a list of events.")
    if uncounted:
        begun = counted(uncounted, "private trial")
        listed.append(f"Not in these numbers: {begun} that began, with neither a statement nor a plan of the cost.")
    return tuple(listed)


def _other_sentences(
    results: SweepRecords, statements: Sequence[Mapping[str, Any]], unprotected: int
) -> tuple[str, ...]:
    """Return what the composed numbers do not cover.

    Args:
        results: The sweep.
        statements: Those of its trials.
        unprotected: Number of further trials that have begun, and whose plan promises nothing.
    """
    guarantees = [guarantee_of(statement) for statement in statements]
    spent = [float((statement.get("epsilon") or {}).get("pld") or np.nan) for statement in statements]
    without = unprotected + int(np.isinf(results.trials["epsilon"]).sum())
    listed = []
    if any(map(np.isfinite, spent)) and not all(statement.get("selection") for statement in statements):
        listed.append(
            "Each ε of the table of trials holds for one trial. An example that several trials trained on is covered "
            "only by their composition."
        )
    if without:
        listed.append(
            f"{counted(without, 'trial')} on the same data had no guarantee. Their results are shown too, so for the "
            "sweep as a whole ε is infinite."
        )
    kinds = {((folder.config or {}).get("split") or {}).get("kind") for folder in results.folders}
    exchanged = " Here trials train on each other's test sets: whoever is trained on is also tested on."
    listed.append(
        "ε covers what the weights reveal of training data. What is recorded of an evaluation, counts and predictions, "
        "are exact functions of the validation and test examples, and no ε covers those."
        f"{exchanged if kinds & {'folds', 'hold_out'} else ''}"
    )
    if _DEPLOYMENT in guarantees:
        listed.append(
            "Simulated deployment: its ε, in a column of its own in the table of trials, is that of a deployment that "
            "nobody ran. All other numbers are of what the trials themselves did: they add less noise and protect "
            "their own clients far less."
        )
    if {_RESEARCH, _DEPLOYMENT} & set(guarantees):
        listed.append(
            "Research mode: the noise follows from a recorded key, so that results repeat. The guarantee is simulated; "
            "it shows what the same training would promise with secret noise."
        )
    return tuple(listed)


def _table(results: SweepRecords, stated: Sequence[TrialFolder]) -> pd.DataFrame:
    """Return one row per private series and level: that of its trial of the largest ε."""
    if not stated:
        return pd.DataFrame(columns=["learner", "level", "unit", "ε (PLD)", "guarantee", "trials"])
    names = results.trials.set_index("trial")
    rows = []
    for folder in stated:
        statement = folder.privacy or {}
        rows.append(
            {
                "learner": names.loc[folder.name, "series"],
                "level": names.loc[folder.name, "level"],
                "unit": statement.get("unit"),
                "ε (PLD)": float(folder.spent.get("pld") or np.nan),
                "ε (RDP)": float(folder.spent.get("rdp") or np.nan),
                SIMULATED_EPSILON: float(folder.simulated.get("pld") or np.nan),
                "ε of a user": float(((statement.get("of_user") or {}).get("epsilon") or {}).get("pld") or np.nan),
                "δ": float(statement.get("delta") or np.nan),
                "noise multiplier": float(statement.get("noise_multiplier") or 0.0),
                "clipping norm": statement.get("l2_clip_norm"),
                "sampling rate": float(statement.get("sampling_rate") or np.nan),
                "steps": statement.get("charged_steps") or statement.get("steps"),
                "guarantee": guarantee_of(statement),
            }
        )
    table = pd.DataFrame(rows)
    costs = [name for name in table.columns if name.startswith("ε")]
    groups = table.groupby(["learner", "level"], sort=False, dropna=False)
    table = table.assign(trials=groups["δ"].transform("size"), group=groups.ngroup())
    worst = table.sort_values(["group", *costs], ascending=[True, *(False for _ in costs)])
    table = worst.drop_duplicates("group").drop(columns="group").reset_index(drop=True)
    has_none = np.isinf(table["ε (PLD)"])
    unasked = [name for name in (SIMULATED_EPSILON, "ε of a user") if table[name].isna().all()]
    table = table.drop(columns=unasked)
    for name in (name for name in costs if name not in unasked):
        table[name] = [epsilon_text(value) for value in table[name]]
    table.loc[has_none, "guarantee"] = NO_GUARANTEE
    return table


def guarantee_of(statement: Mapping[str, Any]) -> str:
    """Return whose ε a statement gives: a simulated one, or that of a release."""
    if statement.get("simulation"):
        return _DEPLOYMENT
    if statement.get("selection"):
        return "release mode, the winner alone (by RDP)"
    return _RESEARCH if statement.get("mode") == "research" else "release mode"
