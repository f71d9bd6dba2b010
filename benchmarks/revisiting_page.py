"""Writes docs/study.md from what benchmarks/revisiting.py has run: every number on the page is computed here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from revisiting_answers import (
    CHOSEN_BY,
    CLIP,
    METRICS,
    QUESTIONS,
    SEARCHED,
    SILENT,
    Claim,
    Study,
    agreed,
    agreement_table,
    claim_of_silence,
    claim_of_tuning,
    count_table,
    counts,
    markdown,
    signed,
    told,
    value_table,
    verdict_table,
)
from revisiting_figures import draw_agreement, draw_gaps

from fairsweep.analysis.verdicts.verdict_sentences import points_text

_WIDTH = 140
_MIDDLE = 3.0
"""The ε of which the answer says a number."""

PAGE = Path(__file__).with_suffix(".md")
"""What the page says around its numbers."""


def write_page(studies: Sequence[Study], folder: Path, spent: Mapping[str, float]) -> Path:
    """Write study.md and its figures, and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_gaps(studies, folder / "study-gaps.png")
    draw_agreement(studies, folder / "study-agreement.png")
    verdicts = pd.concat([study.verdicts for study in studies], ignore_index=True)
    agreement = pd.concat([study.agreement for study in studies], ignore_index=True)
    all_epsilons = agreement[agreement["at"] == "all ε"]
    tuning, silence = claim_of_tuning(verdicts), claim_of_silence(all_epsilons)
    first = studies[0]
    text = PAGE.read_text().format(
        margin=100 * first.margin,
        answer=answer(studies, verdicts, tuning, silence),
        values="\n\n".join(f"**{s.name.capitalize()}**\n\n{markdown(value_table(s))}" for s in studies),
        judging=first.judged.trials["replicate"].nunique(),
        counts=markdown(count_table(verdicts)),
        family=families(studies),
        collapsed=collapses(studies),
        verdicts=markdown(verdict_table(verdicts)),
        tuning=tuning,
        silence=silence,
        repeats=repeats(agreement),
        settings=int(all_epsilons["settings"].iloc[0]),
        silent=SILENT,
        agreement=markdown(agreement_table(all_epsilons)),
        methods=methods(studies),
        prices=markdown(price_table(studies)),
        delta=f"{first.results.trials['delta'].min():g}",
        network=first.network,
        minutes=time_text(studies, spent),
    )
    path = folder / "study.md"
    path.write_text(wrapped(text))
    return path


def answer(studies: Sequence[Study], verdicts: pd.DataFrame, tuning: Claim, silence: Claim) -> str:
    """Return the answer in three sentences."""
    parts = {name: verdicts[verdicts["question"] == name] for name in QUESTIONS}
    found = {name: counts(part["word"], "worse", "equivalent", "better", "undecided") for name, part in parts.items()}
    gaps = parts["widens"].query("metric == 'accuracy_difference' and epsilon == @_MIDDLE").set_index("data")
    sizes = [
        f"{points_text(*gaps.loc[s.name, ['harm', 'harm_low', 'harm_high']])} on {s.name} ({gaps.loc[s.name, 'word']})"
        for s in studies
    ]
    worse, better = found["widens"]["worse"], found["widens"]["better"]
    verb = {(True, False): "widens", (False, True): "narrows", (True, True): "both widens and narrows"}
    says = "says" if silence.word.startswith("does not") else "is not shown to say"
    return (
        f"Private training {verb.get((worse > 0, better > 0), 'is not shown to widen')} gaps: in "
        f"{len(parts['widens'])} comparisons of DP-SGD with SGD's hyperparameters to its twin ({len(METRICS)} metrics, "
        f"{len(studies[0].epsilons)} levels of ε, {len(studies)} data sets) the verdicts are {told(found['widens'])}; "
        f"at ε = {_MIDDLE:g} the accuracy gap changes by {' and by '.join(sizes)}. Tuning for privacy {tuning.short}; "
        f"its verdicts are {told(found['narrows'])} compared with no tuning, and {told(found['closes'])} compared with "
        f"tuned SGD. One metric's gap {says} how another's moves {silence.short}."
    )


def families(studies: Sequence[Study]) -> str:
    """Return how questions were corrected, and which were not asked."""
    asked = [f"{len(s.verdicts.drop_duplicates(['first', 'second', 'metric']))} of {s.name}" for s in studies]
    text = (
        f"Holm-corrected over all questions of a data set ({' and '.join(asked)}), differences and equivalence apart; "
        "intervals are not corrected."
    )
    same = [f"{s.name} at ε = {e:g}" for s in studies for e in s.epsilons if s.role("tuned", e) == s.role("reused", e)]
    if same:
        text += f" Tuning chose SGD's hyperparameters on {', '.join(same)}: there is nothing to narrow there."
    return text


def collapses(studies: Sequence[Study]) -> str:
    """Return which learners predict one class for every test image."""
    found = [f"{name} on {s.name} ({count} runs)" for s in studies for name, count in s.collapsed.items()]
    if found:
        return f"One class for every test image is predicted by {', '.join(found)}."
    return "No judging run predicts one class for every test image."


def repeats(agreement: pd.DataFrame) -> str:
    """Return how far a metric predicts itself, and what is left of the agreement at one ε."""
    same = (agreement["metric"] == agreement["other"]) & (agreement["at"] == "all ε")
    fixed = (agreement["metric"] != agreement["other"]) & (agreement["at"] != "all ε")
    found = ", ".join(f"{signed(value)}" for value in sorted(agreement["correlation"][same]))
    return (
        f"Beside itself, which shows how far its ranks repeat, a metric has {found}. ε moves all gaps at once; at one "
        f"ε, where only tuning differs, of {fixed.sum()} pairs {told(agreed(agreement['verdict'][fixed]))}."
    )


def methods(studies: Sequence[Study]) -> str:
    """Return what was trained, how settings were chosen, and how they were judged."""
    lines = []
    for study in studies:
        config = study.results.folders[0].config or {}
        trials = study.results.trials
        lines.append(
            f"- *{study.name.capitalize()}*: {config['dataset']['label']} is predicted, {study.group} is compared; "
            f"{trials['train_size'].iloc[0]:,.0f} training images, {trials['minority_count'].iloc[0]:,.0f} of them of "
            f"the rare group; {study.values['n'].iloc[0]:,} test images, half of each group; {len(trials):,} runs."
        )
    fields = studies[0].fields
    lrs = ", ".join(f"{lr:g}" for lr in sorted(set(fields["lr"])))
    clips = " and ".join(f"{clip:g}" for clip in sorted(set(fields["clip"].dropna())))
    learner = studies[0].config("private")
    judging = studies[0].judged.trials["replicate"].nunique()
    return "\n".join(
        [
            *lines,
            f"- *Learners*: SGD (shuffled batches) at learning rates {lrs}; DP-SGD (Poisson batches, flat clipping, ε "
            f"by PLD) at these and clip norms {clips} for each ε; its twins, the same without clipping and noise. All "
            f"have {learner['epochs']} epochs, batches of {learner['batch_size']}, momentum "
            f"{learner['optimizer']['momentum']:g} and the network `{studies[0].network}`{studies[0].initial}.",
            f"- *Tuning*: each learner at each ε has the setting with the best {METRICS[CHOSEN_BY]} on validation "
            f"images, mean of the first {SEARCHED} seeds. So tuning is for fairness: whether it closes gaps "
            "is asked where it tries to. SGD's hyperparameters are those of tuned SGD, with the clip norm "
            f"{CLIP:g} in the private learner.",
            f"- *Judging*: the other {judging} seeds, on test images. Runs are paired by seed; every interval has a "
            "part between seeds and one of the test images, which all runs share ([statistics.md](statistics.md)).",
        ]
    )


def price_table(studies: Sequence[Study]) -> pd.DataFrame:
    """Return what publishing the tuned model costs at each ε."""
    rows = []
    for study in studies:
        for epsilon in study.epsilons:
            charged, together = study.price(epsilon)
            row = {"data": study.name, "ε of one model": f"{epsilon:g}"}
            rows.append(row | {"trials charged": charged, "ε together": together})
    return pd.DataFrame(rows)


def time_text(studies: Sequence[Study], spent: Mapping[str, float]) -> str:
    """Return how long it took."""
    runs = sum(len(study.results.trials) for study in studies)
    wall, cpu, cores = spent["wall"] / 60, spent["cpu"] / 60, spent["cores"]
    return (
        f"Data and {runs:,} runs took {wall:.0f} minutes by the clock and {cpu:.0f} CPU minutes, "
        f"{cpu / wall / cores:.0%} of {cores:g} cores: fully used, these would need {cpu / cores:.0f} minutes."
    )


def wrapped(text: str) -> str:
    """Return Markdown whose paragraphs and list items are wrapped, tables as they are."""
    lines, options = [], {"break_on_hyphens": False, "break_long_words": False}
    for line in text.split("\n"):
        plain = len(line) <= _WIDTH or line.startswith(("|", "#", "!"))
        indent = "  " if line.startswith("- ") else ""
        lines += [line] if plain else textwrap.wrap(line, _WIDTH, subsequent_indent=indent, **options)
    return "\n".join(lines)
