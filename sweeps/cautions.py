"""What a user should know of a sweep's data before hours are spent on it: said by a plan, refused by nothing."""

from collections.abc import Iterable

from fairsweep.datasets.division import OfficialSplit
from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.sweeps.expand import PlannedTrial


def cautions(dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> tuple[str, ...]:
    """Look at the splits of a sweep.

    Args:
        dataset: the dataset that is learnt from.
        trials: the sweep's trials.
    """
    said = []
    if dataset.users is not None and any(not isinstance(trial.config.split, OfficialSplit) for trial in trials):
        said.append("the dataset knows users: folds and hold-outs keep all images of one user in one part")
    said += [
        f"images of the {second} split that are identical to images of the {first} split: {count:,}"
        for (first, second), count in dataset.info.identical_images()
        if count
    ]
    return tuple(said)
