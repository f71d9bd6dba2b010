"""Draws the README figures from finished sweeps of both examples, with matplotlib."""

import argparse
from pathlib import Path

from fairsweep import analysis
from fairsweep.analysis.figures.plots import rate_by_group, rate_by_level
from fairsweep.analysis.report.statements import answer
from fairsweep.analysis.results.imbalance_design import design_of

_DPI = 200


def main() -> None:
    """Write docs/quickstart.png and docs/mnist-class8.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--mnist", type=Path, default=Path("runs/mnist-class8"))
    parser.add_argument("--to", type=Path, default=Path("docs"))
    given = parser.parse_args()
    quickstart = analysis.load(given.quickstart)
    figures = {
        "quickstart": rate_by_level(quickstart, "tone", backend="matplotlib"),
        "mnist-class8": rate_by_group(analysis.load(given.mnist), "digit", backend="matplotlib"),
    }
    for name, figure in figures.items():
        path = given.to / f"{name}.png"
        figure.savefig(path, dpi=_DPI)
        print(path)
    # What a caption may claim: the report's own statements, with their verdicts.
    for section in answer(quickstart, design_of(quickstart)):
        for statement in section.statements:
            print(f"{statement.verdict}: {statement.text}")


if __name__ == "__main__":
    main()
