"""Refusal of passwords in addresses, because the records of a sweep keep addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from fairsweep.sweeps.syntax.credentials import is_secret_name
from fairsweep.sweeps.syntax.errors import Location, SweepError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# As SQLAlchemy reads an address: a password may hold slashes. What begins with a number and a slash is a port.
_PASSWORD = re.compile(r"[^:/@?]*:(?!\d+/)[^@]+@")
_ELSEWHERE = {
    "postgresql": "by PGPASSWORD, or in ~/.pgpass",
    "mysql": "in a file of options (…?read_default_file=~/.my.cnf)",
    "http": "by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "https": "by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "s3": "by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}


def check_addresses(value: object, place: Location = ()) -> None:
    """Refuse plain values that hold an address with a password.

    Args:
        value: mappings and lists of plain values.
        place: where they stand in the sweep file.

    Raises:
        SweepError: with the place of the first such address, and where the password belongs.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_addresses(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_addresses(item, (*place, index))
    elif isinstance(value, str) and holds_password(value):
        raise SweepError(
            "an address must not contain a password, because the sweep's records keep it: delete it here and give it "
            + _elsewhere(value),
            place,
        )


def holds_password(address: str) -> bool:
    """Whether a text is an address with a password or a key in it.

    >>> holds_password("postgresql://me:word@host/db"), holds_password("postgresql://me@host:5432/db")
    (True, False)
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return False
    rest = address[scheme.end() :]
    named = parse_qsl(rest.partition("?")[2])
    return _PASSWORD.match(rest) is not None or any(is_secret_name(name) for name, value in named if value)


def _elsewhere(address: str) -> str:
    scheme = address.partition("://")[0].partition("+")[0].lower()
    return _ELSEWHERE.get(scheme, "by the environment, or in a file that its driver reads")
