"""Remote places that a sweep's files name, and which of them this user has named on this machine.

Whoever opens a folder has not chosen what its files name: a folder of somebody else may name any server. A place is
known once a sweep file that this user ran here has named it, or once they have agreed with ``--contact``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsweep.datasets.feeds.machine_copy import cache_root
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import absolute, uri_of

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.sweep_spec import SweepSpec
    from fairsweep.sweeps.spec.tracking_section import TrackingSection

MIRROR, STORAGE = "mirror", "storage of the search"
_KNOWN = "known-places"
_PUBLIC = "public dataset "
_CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class NamedAddress:
    """A place that a sweep names outside its output folder.

    Attributes:
        role: what it is to the sweep, in words.
        address: where it is.
        is_needed: whether the sweep cannot run without it.
        tracker: the field of its tracker; None for other places.
    """

    role: str
    address: str
    is_needed: bool = False
    tracker: str | None = None

    def __str__(self) -> str:
        return f"the {self.role} {_CREDENTIALS.sub('//', self.address)}"

    @property
    def is_known(self) -> bool:
        """Whether a sweep of this user has named it on this machine."""
        return _mark(self.address) in _known()


def named_addresses(sweep: SweepSpec) -> tuple[NamedAddress, ...]:
    """Return the places outside its output folder that a sweep contacts or writes to when it runs.

    Local datasets are left out.
    """
    return tuple(_named(sweep))


def remember_addresses(sweep: SweepSpec) -> None:
    """Take the places that a sweep names for known from now on. Without a cache that can be written, none is."""
    _remember({_mark(place.address) for place in named_addresses(sweep)})


def remember_public(content_hash: str) -> None:
    """Take a prepared dataset for one that anyone may see."""
    _remember({_mark(_PUBLIC + content_hash)})


def shows_public(described: Mapping[str, Any]) -> bool:
    """Whether a sweep's dataset lies on this machine and was prepared here from a source that anyone may see.

    Args:
        described: what ``sweep.json`` says of the dataset; its name there proves nothing.
    """
    is_local = _dataset(str(described.get("path", ""))) is None
    return is_local and _mark(_PUBLIC + str(described.get("content_hash"))) in _known()


def settle_addresses(sweep: SweepSpec, *, contact: bool | None, named: Collection[str] = ()) -> SweepSpec:
    """Decide on the places that a sweep from an output folder names and this user has not.

    Args:
        sweep: the sweep, as its folder describes it.
        contact: whether to use such places; None refuses a sweep that names any.
        named: addresses that the user has given beside the folder.

    Returns:
        The sweep; without them where they are not to be used.

    Raises:
        SweepError: if there are such places and nobody has said what to do, or the sweep cannot do without them.
    """
    foreign = [place for place in named_addresses(sweep) if not place.is_known and place.address not in named]
    if not foreign or contact:
        remember_addresses(sweep)
        return sweep
    listed = " and ".join(map(str, foreign))
    needed = " and ".join(str(place) for place in foreign if place.is_needed)
    if needed:
        raise SweepError(
            f"the sweep needs {needed}, which only its folder's files name, and no sweep that you have run here does: "
            "add "
            "--contact if you trust it"
        )
    if contact is None:
        raise SweepError(
            f"only the folder's files name {listed}, and no sweep that you have run here does: add --contact to use it "
            "if you "
            "trust it, or --no-contact to go on without it"
        )
    foreign_trackers = {place.tracker: None for place in foreign if place.tracker}
    tracking = None if sweep.tracking is None else sweep.tracking.model_copy(update=foreign_trackers)
    mirror = None if any(place.role == MIRROR for place in foreign) else sweep.mirror
    return sweep.model_copy(update={"mirror": mirror, "tracking": tracking})


def check_trackers(section: TrackingSection, *, contact: bool) -> None:
    """Refuse trackers that only the files of an output folder name, unless the user has asked for them.

    Raises:
        SweepError: with their addresses.
    """
    foreign = [place for place in _tracked(section) if not place.is_known]
    if foreign and not contact:
        raise SweepError(
            f"only the folder's files name {' and '.join(map(str, foreign))}, and no sweep that you have run here "
            "does: add "
            "--contact to send to it if you trust it"
        )


def check_datasets(paths: Iterable[str | Path], *, contact: bool) -> None:
    """Refuse remote datasets that only the records of trials name, unless the user has asked for them.

    Raises:
        SweepError: with the first one's address.
    """
    for place in filter(None, map(_dataset, paths)):
        if not (contact or place.is_known):
            raise SweepError(
                f"only the trial's records name {place}, and no sweep that you have run here does: add --contact if "
                "you trust it"
            )


def _dataset(path: str | Path | None) -> NamedAddress | None:
    """Return a dataset as a place; None for one on this machine."""
    uri = uri_of(path)
    return None if uri is None or uri.startswith("file:") else NamedAddress("dataset", uri, is_needed=True)


def _named(sweep: SweepSpec) -> Iterator[NamedAddress]:
    yield from filter(None, map(_dataset, (sweep.dataset.path, sweep.evaluation.dataset)))
    if sweep.search.storage is not None:
        yield NamedAddress(STORAGE, absolute(sweep.search.storage), is_needed=True)
    if sweep.mirror is not None:
        yield NamedAddress(MIRROR, absolute(sweep.mirror.to))
    if sweep.tracking is not None:
        yield from _tracked(sweep.tracking)


def _tracked(section: TrackingSection) -> Iterator[NamedAddress]:
    if section.mlflow is not None and section.mlflow.uri is not None:
        yield NamedAddress("MLflow server", section.mlflow.uri, tracker="mlflow")
    if section.wandb is not None and section.wandb.entity is not None:
        yield NamedAddress("W&B account", section.wandb.entity, tracker="wandb")


def _mark(address: str) -> str:
    """Return what stands for a place in the file: an address may hold what others must not read."""
    return hashlib.sha256(address.encode()).hexdigest()


def _remember(marks: set[str]) -> None:
    new = sorted(marks - _known())
    if not new:
        return
    with suppress(OSError):
        cache_root().mkdir(parents=True, exist_ok=True)
        # Short lines, appended at once: two processes never mix theirs.
        with (cache_root() / _KNOWN).open("a") as file:
            file.write("".join(f"{mark}\n" for mark in new))


def _known() -> set[str]:
    try:
        return set((cache_root() / _KNOWN).read_text().split())
    except OSError:
        return set()
