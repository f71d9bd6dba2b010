"""Answers the questions of docs/study.md from the finished sweeps of benchmarks/revisiting.py, and writes the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from fairsweep import analysis
from fairsweep.analysis import SweepResults
from fairsweep.analysis.verdicts.verdict_sentences import points, points_text

METRICS = {
    "worst_group_accuracy": "worst group's accuracy",
    "accuracy_difference": "accuracy gap",
    "equalized_odds_difference": "equalised-odds gap",
    "demographic_parity_difference": "demographic-parity gap",
    "calibration_difference": "calibration gap",
}
"""What is compared; of all but the first more is worse."""

CHOSEN_BY = "worst_group_accuracy"
SEARCHED = 2
"""The first seeds, by whose validation images settings are chosen; the others judge."""

CLIP = 1.0
"""Clip norm of DP-SGD that takes over SGD's hyperparameters, which have none."""

SILENT = 0.3
"""Largest rank correlation that counts as none."""

QUESTIONS = {
    "widens": "DP-SGD with SGD's hyperparameters against its twin",
    "narrows": "DP-SGD tuned for privacy against DP-SGD with SGD's hyperparameters",
    "closes": "DP-SGD tuned for privacy against tuned SGD",
}

Words = Mapping[str, int]


@dataclass(frozen=True)
class Study:
    """One data set's sweep: which settings were chosen, and what the other seeds say of them.

    Attributes:
        name: of the data set.
        results: of all trials.
        margin: largest difference that does not matter.
    """

    name: str
    results: SweepResults
    margin: float

    @property
    def group(self) -> str:
        """Return the attribute whose values are compared."""
        return self.results.groups[0]

    @cached_property
    def fields(self) -> pd.DataFrame:
        """Return what a series was trained with: ``learner``, ``epsilon``, ``lr``, ``clip``."""
        series = self.results.trials.drop_duplicates("series").set_index("trial")["series"]
        configs = {folder.name: (folder.config or {})["learner"] for folder in self.results.folders}
        rows = {
            str(name): {
                "learner": configs[trial]["name"],
                "epsilon": configs[trial].get("epsilon") or np.inf,
                "lr": configs[trial]["optimizer"]["lr"],
                "clip": configs[trial].get("l2_clip_norm"),
            }
            for trial, name in series.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def config(self, learner: str) -> dict[str, Any]:
        """Return the configuration of some run of a learner."""
        configs = [(folder.config or {})["learner"] for folder in self.results.folders]
        return next(config for config in configs if config["name"] == learner)

    @property
    def network(self) -> str:
        """Return the network that is trained."""
        return str((self.results.folders[0].config or {})["model"]["name"])

    @property
    def initial(self) -> str:
        """Return how its convolutions start, in words; nothing where there are none."""
        model = (self.results.folders[0].config or {})["model"]
        before = {"cnn": "he"}.get(model["name"])  # what records of earlier versions do not say
        initial = model.get("initial", before)
        return f", from initial weights `{initial}`" if initial else ""

    def role(self, name: str, epsilon: float) -> str:
        """Return the series that is chosen for a role at an ε."""
        return self.chosen[f"{name} {epsilon:g}"]

    @cached_property
    def epsilons(self) -> list[float]:
        """Return the levels of ε."""
        return sorted(set(self.fields["epsilon"]) - {np.inf})

    @cached_property
    def searched(self) -> SweepResults:
        """Return the trials by which settings are chosen."""
        return self.results.filter(replicate=list(range(SEARCHED)))

    @cached_property
    def chosen(self) -> dict[str, str]:
        """Return the series of each role: ``sgd``, and for each ε ``reused``, ``tuned`` and their ``twin``."""
        table = analysis.settings_table(self.searched, [CHOSEN_BY], by=self.group)

        def best(part: pd.DataFrame) -> str:
            chosen = table[table["series"].isin(part.index)]
            return str(analysis.best_setting(chosen, f"validation {CHOSEN_BY}")["series"])

        fields = self.fields
        found = {"sgd": best(fields[fields["learner"] == "sgd"])}
        lr = fields.loc[found["sgd"], "lr"]
        found["twin"] = self._only(learner="matched", lr=lr)
        for epsilon in self.epsilons:
            found[f"reused {epsilon:g}"] = self._only(learner="private", epsilon=epsilon, lr=lr, clip=CLIP)
            mine = fields[(fields["learner"] == "private") & (fields["epsilon"] == epsilon)]
            found[f"tuned {epsilon:g}"] = best(mine)
        return found

    def _only(self, **wanted: object) -> str:
        chosen = self.fields[np.logical_and.reduce([self.fields[name] == value for name, value in wanted.items()])]
        (name,) = chosen.index
        return str(name)

    @cached_property
    def judged(self) -> SweepResults:
        """Return the trials of the chosen settings under the other seeds."""
        others = sorted(set(self.results.trials["replicate"]) - set(range(SEARCHED)))
        return self.results.filter(replicate=others, series=sorted(set(self.chosen.values())))

    @cached_property
    def values(self) -> pd.DataFrame:
        """Return the means on test images, with intervals."""
        return analysis.crossed_frame(self.judged, list(METRICS), by=self.group).set_index(["series", "metric"])

    @cached_property
    def collapsed(self) -> dict[str, int]:
        """Return the number of judging runs of each series that predict one class for every image."""
        return self.judged.collapsed()["series"].astype(str).value_counts().to_dict()

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Return all questions with their verdicts: ``question``, ``epsilon``, ``harm`` (more is worse), ``word``."""
        pairs = {}
        for epsilon in self.epsilons:
            reused, tuned = self.role("reused", epsilon), self.role("tuned", epsilon)
            pairs["widens", epsilon] = (reused, self.chosen["twin"])
            if tuned != reused:
                pairs["narrows", epsilon] = (tuned, reused)
            pairs["closes", epsilon] = (tuned, self.chosen["sgd"])
        asked = list(dict.fromkeys(pairs.values()))
        table = analysis.metric_verdicts(self.judged, list(METRICS), asked, by=self.group, margin=self.margin)
        rows = []
        for (question, epsilon), pair in pairs.items():
            mine = table[(table["first"] == pair[0]) & (table["second"] == pair[1])]
            rows.append(mine.assign(question=question, epsilon=epsilon))
        found = pd.concat(rows, ignore_index=True).assign(data=self.name)
        sign = np.where(found["metric"] == "worst_group_accuracy", -1.0, 1.0)
        bounds = np.sort(np.stack([sign * found["low"], sign * found["high"]]), axis=0)
        found = found.assign(harm=sign * found["difference"], harm_low=bounds[0], harm_high=bounds[1])
        different = np.where(found["harm"] > 0, "worse", "better")
        return found.assign(word=np.where(found["verdict"] == "different", different, found["verdict"]))

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Return whether metrics' changes from the twins rank the private settings alike: ``at`` all ε, and at each."""
        fields = self.fields
        twins = fields.index[fields["learner"] == "matched"]
        private = fields[fields["learner"] == "private"]
        asked = {"all ε": private} | {f"ε = {e:g}": private[private["epsilon"] == e] for e in self.epsilons}
        parts = []
        for at, settings in asked.items():
            chosen = self.results.filter(series=[*settings.index, *twins])
            found = analysis.gap_agreement(chosen, list(METRICS), by=self.group, margin=SILENT)
            parts.append(found.assign(data=self.name, at=at))
        return pd.concat(parts, ignore_index=True)

    def price(self, epsilon: float) -> tuple[int, str]:
        """Return how many trials a release of the tuned model at an ε is charged for, and their ε together."""
        trials, fields = self.results.trials, self.fields
        at = fields.index[(fields["learner"] == "private") & (fields["epsilon"] == epsilon)]
        search = trials["series"].isin(at) & (trials["replicate"] < SEARCHED)
        final = (trials["series"] == self.role("tuned", epsilon)) & (trials["replicate"] == SEARCHED)
        names = trials["trial"][search | final].tolist()
        ledger = analysis.privacy_ledger(self.results.filter(trial=names))
        if ledger is None:
            raise SystemExit("no private trial has made a statement: finish the sweeps")
        every = ledger.prices.set_index("what is released")
        return len(names), str(every.loc["all trials", "ε (PLD)"])


def counts(words: pd.Series[str], *known: str) -> Words:
    """Return how often each word occurs, those that are known even if never."""
    return {word: int((words == word).sum()) for word in known}


def told(found: Words) -> str:
    """Return counts in words: ``12 worse, 3 undecided``."""
    return ", ".join(f"{count} {word}" for word, count in found.items() if count) or "none"


@dataclass(frozen=True)
class Claim:
    """A claim with its verdict.

    Attributes:
        word: ``holds``, ``does not hold``, ``does not hold in general``, ``undecided``.
        why: the numbers, in a sentence.
        short: what the answer says of it.
    """

    word: str
    why: str
    short: str


def claim_of_tuning(verdicts: pd.DataFrame) -> Claim:
    """Return whether tuning is unreliable at closing gaps; the worst group's accuracy is none."""
    verdicts = verdicts[verdicts["metric"] != "worst_group_accuracy"]
    keys = ["data", "epsilon", "metric"]
    wide = verdicts[(verdicts["question"] == "widens") & (verdicts["word"] == "worse")]
    rest = verdicts[verdicts["question"] == "closes"].merge(wide[keys], on=keys)
    closed, still = rest["word"].isin(["equivalent", "better"]).sum(), (rest["word"] == "worse").sum()
    better = verdicts[(verdicts["question"] == "narrows") & (verdicts["word"] == "better")]
    narrowed = better.merge(wide[keys], on=keys)
    why = (
        f"Of {len(wide)} gaps that private training is shown to widen, tuning is shown to narrow {len(narrowed)}; "
        f"beside tuned SGD, {closed} are shown closed (equivalent within the margin, or better), {still} are still "
        f"wider, and {len(rest) - closed - still} are undecided."
    )
    word = "holds" if still else ("does not hold" if closed == len(rest) and len(wide) else "undecided")
    return Claim(word, why, f"closes {closed} of the {len(wide)} gaps that are shown to be wider")


def claim_of_silence(agreement: pd.DataFrame) -> Claim:
    """Return whether one metric's gap is silent on another's."""
    pairs = agreement[agreement["metric"] != agreement["other"]]
    found = agreed(pairs["verdict"])
    low, high = pairs["correlation"].min(), pairs["correlation"].max()
    why = (
        f"Of {len(pairs)} pairs of metrics ({pairs['data'].nunique()} data sets) {told(found)}; rank correlations run "
        f"from {signed(low)} to {signed(high)}."
    )
    predicted = found["agree"]
    word = "does not hold" if predicted == len(pairs) else "does not hold in general"
    if not predicted:
        word = "holds" if found["are silent"] + found["oppose"] == len(pairs) else "undecided"
    return Claim(word, why, f"in {predicted or 'any'} of {len(pairs)} pairs of metrics")


def agreed(words: pd.Series[str]) -> Words:
    """Return how many pairs of metrics have each verdict, in words that follow a number."""
    known = {"predicts": "agree", "silent": "are silent", "opposes": "oppose", "undecided": "are undecided"}
    found = counts(words, *known, "undefined")
    return {known.get(word, "are undefined"): count for word, count in found.items()}


def signed(value: float) -> str:
    """Return a correlation with two digits and a proper minus."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def interval(row: pd.Series[float]) -> str:
    """Return a share in percent with its interval."""
    return f"{100 * row['value']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def roles(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the ε and the series of each learner in the order of the table."""
    yield "SGD, tuned", "∞", study.chosen["sgd"]
    yield "its matched twin", "∞", study.chosen["twin"]
    for role, epsilon in product(("reused", "tuned"), study.epsilons):
        name = {"reused": "DP-SGD, SGD's hyperparameters", "tuned": "DP-SGD, tuned"}[role]
        yield name, f"{epsilon:g}", study.role(role, epsilon)


def value_table(study: Study) -> pd.DataFrame:
    """Return the means of all metrics for each learner."""
    rows = []
    for name, epsilon, series in roles(study):
        fields = study.fields.loc[series]
        clip = "" if pd.isna(fields["clip"]) else f", clip {fields['clip']:g}"
        row = {"learner": name, "ε": epsilon, "chosen": f"lr {fields['lr']:g}{clip}"}
        rows.append(row | {METRICS[metric]: interval(study.values.loc[series, metric]) for metric in METRICS})
    return pd.DataFrame(rows)


def count_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return how often each verdict was given, by question and data set."""
    rows = []
    for question, text in QUESTIONS.items():
        for data in verdicts["data"].unique():
            mine = verdicts[(verdicts["question"] == question) & (verdicts["data"] == data)]
            found = counts(mine["word"], "worse", "equivalent", "better", "undecided", "undefined")
            rows.append({"question": text, "data": data} | found)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != 0).any()]


def verdict_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return every question with its answer."""
    return pd.DataFrame(
        {
            "data": verdicts["data"],
            "question": verdicts["question"],
            "ε": [f"{value:g}" for value in verdicts["epsilon"]],
            "metric": verdicts["metric"].map(METRICS),
            "harm in points": [
                points_text(*row) for row in verdicts[["harm", "harm_low", "harm_high"]].itertuples(index=False)
            ],
            "verdict": verdicts["word"],
            "detectable": [
                "nothing" if np.isinf(value) else points(value) if np.isfinite(value) else ""
                for value in verdicts["detectable"]
            ],
        }
    )


def agreement_table(agreement: pd.DataFrame) -> pd.DataFrame:
    """Return every pair of metrics with its rank correlation."""
    found = [
        f"{signed(a)} [{signed(b)}, {signed(c)}]" for a, b, c in agreement[["correlation", "low", "high"]].to_numpy()
    ]
    return pd.DataFrame(
        {
            "data": agreement["data"],
            "metric": agreement["metric"].map(METRICS),
            "other": agreement["other"].map(METRICS),
            "rank correlation": found,
            "verdict": agreement["verdict"],
        }
    )
