"""Where a sweep's things go: a local folder, or a folder on any pyarrow file system, named by a URI."""

from pathlib import Path

from pydantic import Field, field_validator

from fairsweep.sweeps.section import Section


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
    """A URI that may be written into records, as it is.

    Raises:
        ValueError: if it holds credentials.
    """
    authority = uri.partition("://")[2].partition("/")[0]
    if "@" in authority:
        raise ValueError(
            "a URI must hold no credentials, for the sweep's records keep it; give them by the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://)"
        )
    return uri


def absolute(place: str) -> str:
    """A place that does not depend on the working folder."""
    return place if "://" in place else str(Path(place).expanduser().absolute())
