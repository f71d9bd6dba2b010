"""The sweep described by an output folder, its URI or a mirror."""

from __future__ import annotations

from pathlib import Path

from fairsweep.analysis.records.file_names import SWEEP_JSON
from fairsweep.sweeps.copies.remote_output import fetch_remote
from fairsweep.sweeps.copies.restoring import fetch_sweep
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.store.trusted_addresses import settle_addresses
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.paths import with_stored_paths
from fairsweep.sweeps.syntax.storage_uri import MirrorSection, absolute, uri_of


def resume_sweep(folder: str | Path, *, contact: bool | None = None) -> tuple[SweepSpec, str]:
    """Return the sweep of an output folder, and its file's text.

    Args:
        folder: the output folder, or its URI.
        contact: whether to use places that the folder's files alone name; see `settle_addresses`.

    Raises:
        SweepError: if the folder holds no sweep, or names places that the user has not.
    """
    sweep, text = described_sweep(folder)
    return settle_addresses(sweep, contact=contact), text


def described_sweep(folder: str | Path) -> tuple[SweepSpec, str]:
    """Return the sweep that an output folder describes, with every place that it names, and its file's text.

    Raises:
        SweepError: if the folder holds no sweep.
    """
    uri = uri_of(folder)
    output = OutputFolder.at(folder if uri is None else fetch_remote(uri))
    found = output.sweep()
    sweep = SweepSpec.from_mapping(with_stored_paths(found.content) | {"output": uri or str(output.path)})
    return sweep, found.text


def resume_mirror(mirror: str, folder: Path, *, contact: bool | None = None) -> tuple[SweepSpec, str]:
    """Return the sweep of a mirror, after what the mirror holds was fetched into a folder that lacks it.

    Args:
        mirror: the mirror; the sweep goes on being copied there.
        folder: the local output folder.
        contact: whether to use other places that the mirror's files alone name; see `settle_addresses`.

    Raises:
        SweepError: if the mirror holds no sweep, cannot be read, or names places that the user has not.
    """
    fetch_sweep(mirror, folder)
    if not (folder / SWEEP_JSON).exists():
        raise SweepError(
            f"{mirror} holds no complete copy of a sweep, so nothing was copied to {folder}; run its file there"
        )
    sweep, text = described_sweep(folder)
    minutes = {} if sweep.mirror is None else {"minutes": sweep.mirror.minutes}
    named = sweep.model_copy(update={"mirror": MirrorSection.model_validate({"to": mirror, **minutes})})
    return settle_addresses(named, contact=contact, named=(absolute(mirror),)), text
