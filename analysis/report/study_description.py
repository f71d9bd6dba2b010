"""What was studied, in sentences: the images, who is rare among them, the test set, and the learners."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.report.statements import rare_text
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.results import SweepResults

_KINDS = {
    "sgd": "stochastic gradient descent, without a guarantee",
    "dpsgd": "DP-SGD: each example's gradient is clipped, and noise is added",
    "dpfedavg": "federated averaging with clipped client updates and noise",
    "fedavg": "federated averaging, without a guarantee",
    "sisa": "shards and slices, so that examples can be forgotten",
    "pbt": "a population of models trained by stochastic gradient descent: the worst go on from copies of the best",
}
_MOST_VALUES = 10


def data_sentences(results: SweepResults, design: ImbalanceDesign) -> tuple[str, ...]:
    """Return the data set, what is predicted, the groups, the training sets and the test set."""
    dataset = results.sweep.get("dataset", {})
    sentences = [
        f"The data set is {dataset.get('name') or 'not named'}. A model sees an image and predicts {results.label} "
        f"({_values(results, results.label)})."
    ]
    others = [name for name in design.groupings if name != results.label]
    if others:
        listed = "; ".join(f"{name} ({_values(results, name)})" for name in others)
        sentences.append(f"How well it does is looked at by {listed}.")
    return (*sentences, *_training(results, design), _testing(results))


def learners(results: SweepResults) -> pd.DataFrame:
    """One row a series: what it does, whose twin it is, the ε of a trial, and how many trials are done."""
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
                "how it learns": what,
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
    """How large training sets are, and how many of the rare they hold at each level."""
    trials = results.trials
    sizes = np.unique(trials.loc[trials["state"] == "done", "train_size"].dropna())
    if not len(sizes):
        return ()
    text = f"A training set has {sizes[0]:,.0f} images"
    if len(sizes) > 1:
        text = f"Training sets have {sizes[0]:,.0f} to {sizes[-1]:,.0f} images"
    if not design.rare or not all(np.isfinite(level.rare_count) for level in design.levels):
        return (f"{text}.",)
    if len(design.levels) == 1:
        return (f"{text}. Images of {rare_text(results, design)} among them: {design.levels[0].rare_count:,.0f}.",)
    counts = [f"{level.rare_count:,.0f} ({level.text})" for level in design.levels]
    return (f"{text}. Images of {rare_text(results, design)} among them: {', '.join(counts)}.",)


def _testing(results: SweepResults) -> str:
    counts = results.counts().values[:, 0].sum((-2, -1))
    low, high = int(counts.min()), int(counts.max())
    if low != high:
        return f"Each trial is tested on {low:,} to {high:,} images."
    kinds = {str(((folder.config or {}).get("split") or {}).get("kind")) for folder in results.folders}
    if kinds & {"folds", "hold_out"}:
        return f"Each trial is tested on {low:,} images that it was not trained on."
    return f"Every trial is tested on the same {low:,} images, of which it was not trained on any."
