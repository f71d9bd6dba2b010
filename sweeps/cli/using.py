"""The commands that use a trained model: ``fairsweep predict | export``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fairsweep.sweeps.cli.destination import in_a_folder
from fairsweep.sweeps.syntax.errors import as_ours

_LISTED = 20

Folder = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep's output folder.", show_default=False)]
Trial = Annotated[
    str,
    typer.Argument(
        metavar="TRIAL", help="Name of the trial, or the start of it; `fairsweep ls SWEEP`.", show_default=False
    ),
]


def predict(
    folder: Folder,
    trial: Trial,
    images: Annotated[
        Path,
        typer.Option(
            "--images", metavar="FOLDER|DATASET", help="A folder, zip or tar of image files, or a prepared dataset."
        ),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="File to write: .parquet or .csv.", callback=in_a_folder)
    ],
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop",
            metavar="PIXELS",
            help="Edge of the centred square that is cut out of each file; default: that of the source of the training "
            "images, mostly the largest that fits.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where to predict: cpu or cuda.")] = "cpu",
) -> None:
    """Predict images with a trained model: the likeliest class, and the probability of each.

    Files are turned, cut and resized as preparation does it. Damaged images are listed, and have no prediction.

    Examples: `fairsweep predict runs/quickstart private --images photos --to predictions.csv`
    """
    from fairsweep.datasets.storage.layout import INFO_FILE
    from fairsweep.datasets.storage.prepared import PreparedDataset
    from fairsweep.sweeps.store.trial_models import load_model
    from fairsweep.trainables.trained import predicting

    with as_ours():
        predicting.check_table_path(to)
        model = load_model(folder, trial, device=device)
        typer.echo(f"{model.facts.trial}: {model.facts.weights}")
        if (images / INFO_FILE).is_file():
            table = predicting.predict_dataset(model, PreparedDataset.open(images))
        else:
            framing = predicting.framing_of(model, crop)
            square = "the largest centred square" if framing.crop is None else f"a centred square of {framing.crop}"
            typer.echo(f"each image is cut to {square} and resized to {framing.size} x {framing.size}")
            table = predicting.predict_files(model, images, framing)
        predicting.write_predictions(table, to)
    damaged = (
        [reason for reason in table.column("damaged").to_pylist() if reason] if "damaged" in table.schema.names else []
    )
    for reason in damaged[:_LISTED]:
        typer.echo(f"no prediction: {reason}", err=True)
    if len(damaged) > _LISTED:
        typer.echo(f"no prediction: {len(damaged) - _LISTED} more, see the column damaged", err=True)
    typer.echo(f"wrote {len(table) - len(damaged):,} predictions of {model.facts.label} to {to}")


def export(
    folder: Folder,
    trial: Trial,
    to: Annotated[Path, typer.Option("--to", metavar="MODEL.pt2", help="File to write.", callback=in_a_folder)],
) -> None:
    """Write a trained model to one file that loads with torch alone: `torch.export.load(FILE).module()`.

    It takes images as uint8 [B, H, W, C] and gives logits [B, K].

    Example: `fairsweep export runs/quickstart private --to model.pt2`
    """
    from fairsweep.sweeps.store.trial_models import load_model
    from fairsweep.trainables.trained.export import export_model

    with as_ours():
        model = load_model(folder, trial)
        export_model(model, to)
    facts = model.facts
    typer.echo(f"{facts.trial}: {facts.weights}")
    shape = ", ".join(map(str, facts.image_shape))
    typer.echo(f"wrote {to}: uint8 [B, {shape}] to logits of {facts.label} ({', '.join(facts.classes)})")


USING: dict[str, Callable[..., None]] = {"predict": predict, "export": export}
