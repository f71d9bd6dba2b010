"""Storage locations of a sweep: a local folder, or a URI on any pyarrow file system."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from fairsweep.datasets.feeds.machine_copy import cache_root
from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.syntax.address_passwords import holds_password
from fairsweep.sweeps.syntax.section import Section

# A URI that went through pathlib has lost one of its slashes: s3:/bucket/faces.
_URI = re.compile(r"^([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])")
_OUTPUTS = "outputs"
_SHOWN_BYTES = 200


class MirrorSection(Section):
    """Where a sweep is copied while it runs, so that another machine can go on with it."""

    to: str = Field(
        min_length=1,
        description="A folder on a mounted drive, or a URI (`s3://bucket/folder`). Credentials come from the "
        "environment, never from the URI.",
    )
    minutes: float = Field(default=5.0, gt=0, description="Minutes between two copies.")

    @field_validator("to")
    @classmethod
    def _check(cls, to: str) -> str:
        return without_credentials(to)


def without_credentials(uri: str) -> str:
    """Return a URI that may be written into records, as it is.

    Raises:
        ValueError: if it holds credentials.
    """
    authority = uri.partition("://")[2].partition("/")[0]
    if "@" in authority or holds_password(uri):
        raise ValueError(
            "a URI must not contain credentials, because the sweep's records keep it; set them in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://)"
        )
    return uri


def absolute(place: str) -> str:
    """Return a place that does not depend on the working folder."""
    return place if "://" in place else str(settled(Path(place)))


def uri_of(place: str | Path | None) -> str | None:
    """Return the URI that a place is; None for a local folder.

    >>> uri_of(Path("s3://bucket/runs/x")), uri_of("runs/x")
    ('s3://bucket/runs/x', None)
    """
    found = None if place is None else _URI.match(str(place))
    if found is None:
        return None
    return f"{found[1]}:{'///' if found[1] == 'file' else '//'}{str(place)[found.end() :]}"


def working_folder(uri: str) -> Path:
    """Where this machine works on a sweep whose output is on another file system."""
    name = uri.partition("?")[0].rstrip("/").rpartition("/")[2]
    shown = name.encode()[:_SHOWN_BYTES].decode(errors="ignore")
    return cache_root() / _OUTPUTS / f"{shown}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


def _place(raw: object) -> object:
    if not isinstance(raw, str | Path):
        return raw
    uri = uri_of(raw)
    return Path(raw) if uri is None else without_credentials(uri)


PlaceField = Annotated[Path | str, BeforeValidator(_place)]
