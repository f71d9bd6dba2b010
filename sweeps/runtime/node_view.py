"""What a node of a cluster sees of a sweep: it is asked in a process of its own there, which loads this and no more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fairsweep.datasets.storage.layout import INFO_FILE, DatasetError
from fairsweep.datasets.storage.location import Location


@dataclass(frozen=True)
class Wanted:
    """What every node must see.

    Attributes:
        probe: a file that the driver has put into the output folder; None where that is on another file system.
        output: URI of such an output folder; None for a local one.
        datasets: path and content hash of each prepared dataset.
    """

    probe: str | None
    output: str | None
    datasets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Complaint:
    """What a node does not see.

    Attributes:
        place: where in the sweep file it stands.
        message: what, and the remedy.
    """

    place: tuple[str, ...]
    message: str


def look(wanted: Wanted) -> list[Complaint]:
    """Return what this machine does not see of what is wanted."""
    complaints = []
    for path, content_hash in wanted.datasets:
        try:
            found = json.loads(Location.of(path).read(INFO_FILE)).get("content_hash")
        except (OSError, ValueError, DatasetError) as error:
            found = None
            reason = " ".join(str(error).split())
            message = (
                f"cannot read the dataset {path} ({reason}): copy it there, or give its URI (s3://…) as dataset.path"
            )
            complaints.append(Complaint(("dataset", "path"), message))
        if found is not None and found != content_hash:
            message = f"has another dataset at {path} (content {found} instead of {content_hash}): copy this one there"
            complaints.append(Complaint(("dataset", "path"), message))
    if wanted.probe is not None and not Path(wanted.probe).exists():
        message = (
            f"cannot see the output folder {Path(wanted.probe).parent}: its trials' records would stay there; give "
            "a folder that all nodes share, or a URI (output: s3://bucket/runs/x)"
        )
        complaints.append(Complaint(("output",), message))
    if wanted.output is not None:
        try:
            Location.of(wanted.output).describe()
        except (OSError, DatasetError) as error:
            reason = " ".join(str(error).split())
            message = f"cannot reach the output {wanted.output} ({reason}): give its environment the credentials"
            complaints.append(Complaint(("output",), message))
    return complaints
