"""Draws the README figures from finished sweeps of both examples; needs the package kaleido and a Chromium."""

import argparse
from pathlib import Path

from fairsweep import analysis
from fairsweep.analysis.plots import rate_by_group, rate_by_level


def main() -> None:
    """Write docs/quickstart.png and docs/mnist-class8.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--mnist", type=Path, default=Path("runs/mnist-class8"))
    parser.add_argument("--to", type=Path, default=Path("docs"))
    given = parser.parse_args()
    figures = {
        "quickstart": rate_by_level(analysis.load(given.quickstart), "tone"),
        "mnist-class8": rate_by_group(analysis.load(given.mnist), "digit"),
    }
    for name, figure in figures.items():
        path = given.to / f"{name}.png"
        figure.write_image(path, width=1000, height=380, scale=1.5)
        print(path)


if __name__ == "__main__":
    main()
