"""Charges from what trials leave on disk: their configs and privacy statements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dp_accounting

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.events import rebuilt, sampled_gaussian, sampled_gaussian_numbers
from fairsweep.analysis.accounting.release_prices import Charge, Fold
from fairsweep.analysis.accounting.user_events import event_of_user


def stated_charge(config: Mapping[str, Any], statement: Mapping[str, Any]) -> Charge:
    """Return what a trial costs whoever it trained on.

    Where a larger deployment is simulated, that is what the training itself did, with less noise than the deployment's.

    Args:
        config: ``config.json``.
        statement: ``privacy.json``, or what the driver has stored of a trial that has not ended.

    Raises:
        ValueError: If the statement has no events, or some of a kind that is not known.
    """
    described = statement.get("events") or ()
    if not described:
        raise ValueError("a statement must list its events, but this one lists none")
    event = composed(rebuilt(each) for each in described)
    if statement.get("epsilon_of_this_training") is not None:  # an earlier version: its events are the deployment's
        event = _as_trained(event, statement)
    unit = str(statement["unit"])
    charge = charge_of(config, unit, event, float(statement["delta"]))
    places = tuple(composed([rebuilt(each)]) for each in statement.get("events_by_shard") or ())
    return replace(charge, places=places, map=map_of(config)) if places else charge


def charge_of(config: Mapping[str, Any], unit: str, event: dp_accounting.DpEvent, delta: float) -> Charge:
    """Return the charge of a trial with a config.

    Args:
        config: ``config.json``, or what of it names dataset, split, imbalance, learner and seeds.
        unit: Whose contribution is hidden.
        event: What the training itself does to a unit.
        delta: The trial's own.
    """
    learner = config.get("learner") or {}
    simulates, name = learner.get("deployment_cohort") is not None, str(learner.get("name", ""))
    return Charge(unit, pool_of(config, unit), event, delta, fold_of(config), simulates, name)


def charge_of_user(charge: Charge, statement: Mapping[str, Any]) -> Charge | None:
    """Return what a trial costs a user for all of its examples together; None where that is not known.

    Args:
        charge: What it costs an example.
        statement: ``privacy.json``.
    """
    examples = (statement.get("of_user") or {}).get("examples")
    event = None if examples is None else event_of_user(charge.event, int(examples))
    return None if event is None else replace(charge, unit="user", event=event)


def pool_of(config: Mapping[str, Any], unit: str) -> str:
    """Return what names the set that a trial's units belong to.

    Examples and users are those of the dataset. Clients are those of one partition of one training set: the clients of
    another partition are other units.
    """
    dataset = config.get("dataset") or {}
    pool = str(dataset.get("content_hash") or dataset.get("name"))
    clients = (config.get("learner") or {}).get("clients") or {}
    if unit != "client" or clients.get("partition") == "user":
        return pool
    drawn = [clients, config.get("imbalance"), config.get("split"), (config.get("seeds") or {}).get("data")]
    return f"{pool} {json.dumps(drawn, sort_keys=True)}"


def map_of(config: Mapping[str, Any]) -> str:
    """Return what names the map of a trial's examples to shards; different names may stand for equal maps."""
    learner = config.get("learner") or {}
    names = ("shards", "slices", "strategy", "put_in", "placed_by", "requests")
    drawn = [config.get(name) for name in ("dataset", "imbalance", "split", "shadow_candidates")]
    made = [learner.get(name) for name in names]
    return json.dumps([*drawn, (config.get("seeds") or {}).get("data"), *made], sort_keys=True)


def fold_of(config: Mapping[str, Any]) -> Fold | None:
    """Return the fold that a trial leaves out; None where its split is another one."""
    split = config.get("split") or {}
    if split.get("kind") != "folds":
        return None
    dataset = config.get("dataset") or {}
    strata = split.get("stratify") or [dataset.get("label"), *(dataset.get("groups") or ())]
    return Fold(json.dumps([split.get("key"), strata]), int(split["folds"]), int(split["fold"]))


def _as_trained(event: dp_accounting.DpEvent, statement: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """Return the event with the noise that was added: less than the deployment's, as its cohort is smaller."""
    numbers = sampled_gaussian_numbers(event)
    if numbers is None:  # nothing was done, or nothing is promised
        return event
    noise_multiplier, rate, steps = numbers
    scale = rate * float(statement["population"]) / float(statement["deployment_cohort"])
    return sampled_gaussian(scale * noise_multiplier, rate, steps)
