"""Draws the README figures from finished sweeps of both examples, and writes the caption of the first from its report.

What the caption claims is the report's own answer with its verdict, so that a picture never says more than the numbers
do. A sweep that is not there keeps the figure that it had.
"""

import argparse
import textwrap
from pathlib import Path

from fairsweep import analysis
from fairsweep.analysis.figures.plots import rate_by_group, rate_by_level
from fairsweep.analysis.report.report_content import collect

_DPI = 200
_BEGIN, _END = "<!-- caption: benchmarks/readme_figures.py -->\n", "<!-- end of caption -->\n"


def caption(results: analysis.SweepResults) -> str:
    """The caption of the quickstart's figure, in Markdown."""
    findings = collect(results).findings
    if findings is None or findings.headline is None:
        raise SystemExit(f"{results.name} has no finished trials: there is no answer to write")
    first = findings.headline.statement
    text = (
        f"*The quickstart below: accuracy of each group as one becomes rare. {first.text} {first.reason} Bands are 95% "
        "intervals, dark for the test images alone, light with the replicates' spread. The faces are drawings, "
        "rendered by our own code: they show the software and prove nothing about people.*"
    )
    return "\n".join(textwrap.wrap(text, 140, break_on_hyphens=False, break_long_words=False)) + "\n"


def main() -> None:
    """Write docs/quickstart.png, docs/mnist-class8.png and the caption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--mnist", type=Path, default=Path("runs/mnist-class8"))
    parser.add_argument("--to", type=Path, default=Path("docs"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    given = parser.parse_args()
    quickstart = analysis.load(given.quickstart)
    figures = {"quickstart": rate_by_level(quickstart, "tone", backend="matplotlib")}
    if given.mnist.exists():
        figures["mnist-class8"] = rate_by_group(analysis.load(given.mnist), "digit", backend="matplotlib")
    for name, figure in figures.items():
        path = given.to / f"{name}.png"
        figure.savefig(path, dpi=_DPI)
        print(path)
    before, _, rest = given.readme.read_text().partition(_BEGIN)
    given.readme.write_text(before + _BEGIN + caption(quickstart) + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main()
