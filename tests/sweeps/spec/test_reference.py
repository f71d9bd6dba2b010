from pathlib import Path

from fairsweep.sweeps.spec.reference import reference
from fairsweep.sweeps.sweep import Sweep

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sweep-file.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference(), (
        f"python -m fairsweep.sweeps.spec.reference > {PAGE.relative_to(PAGE.parents[1])}"
    )


def test_every_field_of_the_file_is_explained():
    fields = reference().partition("## The file")[2]
    rows = [line.split(" | ") for line in fields.splitlines() if line.startswith("| `")]
    assert all(row[-1].strip(" |") for row in rows)
    names = {row[0].strip("| `") for row in rows}
    assert names >= set(Sweep.model_fields) | {"share", "l2_clip_norm", "optimizer.lr", "validation.balance", "keep"}
