"""Rehearses examples/utkface-sisa.yaml without UTKFace: drawn faces in exactly its file format, then the same study.

The faces say nothing about people; what is rehearsed is the way from raw files to the report, at the study's number of
trials, epochs and requests. The model and the number of faces are smaller by default.

    python benchmarks/utkface_rehearsal.py FOLDER --faces 2600 --model cnn
    fairsweep report FOLDER/runs
"""

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.sources.camera import Shot
from fairsweep.datasets.sources.portrait import Person, draw
from fairsweep.datasets.sources.utkface import AGE_EDGES, RACES
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.sweep_file import SweepSource

# Tone levels of the drawn faces that stand for each race's files, and each race's share in UTKFace (about).
_TONES = ((0, 1), (8, 9), (2, 3), (5, 6), (4, 7))
_SHARES = (0.42, 0.19, 0.15, 0.17, 0.07)
_DRAWN, _ALIGNED = 64, 200
_LEAST_A_CELL = 12


def write_raw(folder: Path, faces: int, seed: int = 0) -> None:
    """Write `age_gender_race_time.jpg.chip.jpg` files of 200x200, at least twelve for each race and age bin."""
    folder.mkdir(parents=True)
    for number in range(faces):
        random = generator(seed_key(seed, "utkface rehearsal"), "face", number)
        cells = len(RACES) * len(AGE_EDGES)
        race, age_bin = divmod(number % cells, len(AGE_EDGES))
        if number >= cells * _LEAST_A_CELL:
            race, age_bin = int(random.choice(len(RACES), p=_SHARES)), int(random.integers(len(AGE_EDGES)))
        youngest = AGE_EDGES[age_bin - 1] + 1 if age_bin else 0
        years, gender = int(random.integers(youngest, AGE_EDGES[age_bin] + 1)), int(random.integers(2))
        person = Person(int(random.choice(_TONES[race])), bool(gender), years + 0.5, random.random() < 0.3, False)
        shot = Shot.draw(random)
        picture = Image.fromarray(shot.take(draw(person, _DRAWN, random), random))
        stamp = 20_170_101_000_000_000 + number
        name = f"{years}_{gender}_{race}_{stamp}.jpg.chip.jpg"
        picture.resize((_ALIGNED, _ALIGNED), Image.Resampling.BICUBIC).save(folder / name, quality=92)


def study(folder: Path, example: Path, model: str) -> Sweep:
    """The example on the rehearsal's faces, without a GPU."""
    content = SweepSource.read(example).content
    content["dataset"]["path"] = str(folder / "data")
    content["model"] = {"name": model}
    content["resources"] = {"cpu": 1}
    content["output"] = str(folder / "runs")
    return Sweep.from_mapping(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=2600)
    parser.add_argument("--model", default="cnn", choices=("linear", "cnn", "resnet18"))
    given = parser.parse_args()
    raw = given.folder / "UTKFace"
    if not raw.exists():
        write_raw(raw, given.faces)
    if not (given.folder / "data").exists():
        balanced = ["--balanced-test.per-cell", "9", "--balanced-test.extra-random", "63"]
        command = str(Path(sys.executable).with_name("fairsweep"))
        subprocess.run(
            [command, "prepare", "utkface", "--from", str(raw), "--to", str(given.folder / "data"), *balanced],
            check=True,
        )
    example = Path(__file__).resolve().parents[1] / "examples" / "utkface-sisa.yaml"
    results = study(given.folder, example, given.model).run()
    accuracy = results.rates(["accuracy"], by="race").groupby(["learner", "group"], observed=True)["value"].mean()
    print(accuracy.unstack().round(3).to_string())


if __name__ == "__main__":
    main()
