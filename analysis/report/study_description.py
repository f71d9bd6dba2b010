"""Description of the study: data set, groups, training and test sets, and learners."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.report.statements import rare_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.results import SweepResults

_KINDS = {
    "sgd": "stochastic gradient descent, without a privacy guarantee",
    "dpsgd": "DP-SGD: per-example gradient clipping and noise",
    "dpfedavg": "federated averaging with clipped client updates and noise",
    "fedavg": "federated averaging, without a privacy guarantee",
    "imported": "predictions of another program",
    "sisa": "SISA: shards and slices, so that examples can be unlearned",
    "pbt": "population-based training with SGD: the worst members are replaced by copies of the best",
}
DRAWINGS = "drawings of faces made by the software, which show how it works and say nothing about people"
_SOURCES = {
    "faces": DRAWINGS,
    "folder": "a folder of images",
    "hf": "a data set in the format of Hugging Face",
    "own": "images given as arrays",
}
"""Sources whose name is not that of a data set."""
_MOST_VALUES = 10


def data_sentences(results: SweepResults, design: ImbalanceDesign) -> tuple[str, ...]:
    """Return sentences on the data set, the label, the groups, the training sets and the test set."""
    sentences = [
        f"Data: {described_data(results)}. Models predict {results.label} ({_values(results, results.label)})."
    ]
    others = [name for name in design.groupings if name != results.label]
    if others:
        listed = "; ".join(f"{name} ({_values(results, name)})" for name in others)
        sentences.append(f"Results are reported by {listed}.")
    return (*sentences, *_training(results, design), _testing(results))


def described_data(results: SweepResults) -> str:
    """Return what the data set is: by its source where that is known, else by its name and where it was prepared to."""
    dataset = results.sweep.get("dataset", {})
    name, place = str(dataset.get("name") or ""), PurePath(str(dataset.get("path") or "")).name
    what = _SOURCES.get(name, f"the data set {name}" if name else "a data set without a name")
    if set(results.trials["kind"]) == {"imported"}:
        what = f"predictions of another program ({name})"
    return f"{what}, prepared as {place}" if place and place != name else what


def learners(results: SweepResults) -> pd.DataFrame:
    """Return a table of the learners: kind, description, ε of a trial, and number of finished trials."""
    rows = []
    for series, trials in results.trials[results.trials["series"] != ""].groupby("series", sort=False):
        first = trials.iloc[0]
        epsilon = trials["epsilon"].dropna()
        kind = str(first["kind"])
        what = _KINDS.get(kind, kind)
        if first["twin_of"]:
            what = f"as {first['twin_of']}, without clipping and noise"
            if kind != "dpsgd":
                what = f"as {first['twin_of']}, without privacy or forgetting"
        rows.append(
            {
                "learner": series,
                "kind": kind,
                "training": what,
                "ε": _range(epsilon),
                "trials done": f"{int((trials['state'] == 'done').sum())} of {len(trials)}",
            }
        )
    return pd.DataFrame(rows)


def _range(epsilon: pd.Series[float]) -> str:
    texts = dict.fromkeys(epsilon_text(value) for value in (epsilon.min(), epsilon.max()))
    return " to ".join(texts) if len(epsilon) else "n/a"


def _values(results: SweepResults, attribute: str) -> str:
    display = results.vocabulary(attribute).display
    few = ", ".join(display[:_MOST_VALUES])
    return few if len(display) <= _MOST_VALUES else f"{few} and {len(display) - _MOST_VALUES} more"


def _training(results: SweepResults, design: ImbalanceDesign) -> tuple[str, ...]:
    """Return a sentence on the size of training sets and the number of rare images at each level."""
    trials = results.trials
    sizes = np.unique(trials.loc[trials["state"] == "done", "train_size"].dropna())
    if not len(sizes):
        return ()
    text = f"The training set has {sizes[0]:,.0f} {results.unit}s"
    if len(sizes) > 1:
        text = f"Training sets have {sizes[0]:,.0f} to {sizes[-1]:,.0f} {results.unit}s"
    if not design.rare or not all(np.isfinite(level.rare_count) for level in design.levels):
        return (f"{text}.",)
    if len(design.levels) == 1:
        return (f"{text}, {design.levels[0].rare_count:,.0f} of them with {rare_text(results, design)}.",)
    counts = [f"{level.rare_count:,.0f} ({level.text})" for level in design.levels]
    return (f"{text}. {results.unit.capitalize()}s with {rare_text(results, design)}: {', '.join(counts)}.",)


def _testing(results: SweepResults) -> str:
    counts = results.counts().values[:, 0].sum((-2, -1))
    low, high = int(counts.min()), int(counts.max())
    if low != high:
        return f"Each trial is tested on {low:,} to {high:,} {results.unit}s."
    kinds = {str(((folder.config or {}).get("split") or {}).get("kind")) for folder in results.folders}
    if kinds & {"folds", "hold_out"}:
        return f"Each trial is tested on {low:,} held-out {results.unit}s."
    return f"All trials are tested on the same {low:,} held-out {results.unit}s."
