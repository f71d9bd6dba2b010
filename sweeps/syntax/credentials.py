"""Detection of secrets in a sweep file, by name and value together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fairsweep.sweeps.syntax.errors import Location

_PASSWORD = re.compile(r"(^|[^a-z])(password|passwd|passphrase)$", re.IGNORECASE)
_KEY = re.compile(r"(^|[^a-z])(wandb|api_?key|.*_key(_id)?|key|secret|token|credentials?)$", re.IGNORECASE)
_SHORTEST_KEY = 16


def secret_places(value: object, place: Location = ()) -> Iterator[Location]:
    """Find the places whose names are those of secrets and whose values look like secrets.

    A word is no key: ``wandb: true`` and ``{secretary: 5}`` are fine. A password may be any text.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and _is_secret(key, item):
                yield (*place, key)
            yield from secret_places(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secret_places(item, (*place, index))


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is secret."""
    return bool(_PASSWORD.search(name) or _KEY.search(name))


def _is_secret(name: str, value: object) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    return bool(_PASSWORD.search(name)) or bool(_KEY.search(name) and _looks_random(value.strip()))


def _looks_random(text: str) -> bool:
    """Whether a text is long, without spaces, and has both letters and digits, as keys do."""
    is_one_word = len(text) >= _SHORTEST_KEY and not re.search(r"\s", text)
    return is_one_word and any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
