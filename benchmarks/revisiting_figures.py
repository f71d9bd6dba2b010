"""The two figures of docs/study.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from revisiting_answers import METRICS, Study, signed

mpl.use("Agg")
import matplotlib.pyplot as plt

_DPI = 110
_DARK = 0.6


def draw_gaps(studies: Sequence[Study], path: Path) -> None:
    """Draw all metrics over ε, one row of panels for each data set."""
    figure, axes = plt.subplots(
        len(studies), len(METRICS), figsize=(13, 2.6 * len(studies)), sharex=True, squeeze=False
    )
    styles = {"reused": ("#c1272d", "o", "SGD's hyperparameters"), "tuned": ("#0000a7", "s", "tuned for privacy")}
    for line, study in zip(axes, studies, strict=True):
        for panel, (metric, title) in zip(line, METRICS.items(), strict=True):
            for role, (color, marker, text) in styles.items():
                rows = [study.values.loc[study.role(role, e), metric] for e in study.epsilons]
                value, low, high = (np.array([100 * row[name] for row in rows]) for name in ("value", "low", "high"))
                place = np.array(study.epsilons) * (0.96 if role == "reused" else 1.04)
                style = {"color": color, "marker": marker, "ms": 4, "capsize": 2, "label": text}
                panel.errorbar(place, value, [value - low, high - value], **style)
            for role, dash, text in (("sgd", "-", "SGD, tuned"), ("twin", ":", "matched twin")):
                panel.axhline(
                    100 * study.values.loc[study.chosen[role], metric]["value"], color="#555", ls=dash, lw=1, label=text
                )
            panel.set_xscale("log")
            panel.set_xticks(study.epsilons, [f"{e:g}" for e in study.epsilons])
            panel.minorticks_off()
            panel.set_title(f"{study.name}: {title}", fontsize=8)
    for panel in axes[-1]:
        panel.set_xlabel("ε")
    axes[0, 0].set_ylabel("%")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def draw_agreement(studies: Sequence[Study], path: Path) -> None:
    """Draw the rank correlations of all pairs of metrics as one matrix for each data set."""
    figure, axes = plt.subplots(1, len(studies), figsize=(5 * len(studies), 4.2), squeeze=False)
    names = list(METRICS)
    for panel, study in zip(axes[0], studies, strict=True):
        grid = np.full((len(names), len(names)), np.nan)
        for row in study.agreement.query("at == 'all ε'").itertuples():
            one, two = sorted((names.index(row.metric), names.index(row.other)), reverse=True)
            grid[one, two] = row.correlation
            text, color = (
                f"{signed(row.correlation)}\n{row.verdict}",
                "white" if abs(row.correlation) > _DARK else "black",
            )
            panel.text(two, one, text, ha="center", va="center", fontsize=6.5, color=color)
        panel.imshow(grid, vmin=-1, vmax=1, cmap="RdBu")
        short = [METRICS[name].removesuffix(" gap").removesuffix("'s accuracy") for name in names]
        panel.set_xticks(range(len(names)), short, rotation=25, ha="right", fontsize=7)
        panel.set_yticks(range(len(names)), short, fontsize=7)
        panel.set_title(study.name, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
