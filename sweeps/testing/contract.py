"""What all contracts share: an attribute of the test class is what its tests are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from fairsweep.analysis.own_code import is_file, place_of, read_code


class Contract:
    """A suite for one thing: a subclass says which, by an attribute, a fixture or a parameter of that name.

    Attributes:
        given: Names of the attributes that become fixtures.
    """

    given: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Make fixtures of plain attributes."""
        for name in cls.given:
            value = vars(cls).get(name)
            if value is not None and not isinstance(value, _FIXTURE):
                setattr(cls, name, pytest.fixture(_returning(value), name=name))


def _returning(value: Any) -> Any:
    def given(self: Contract) -> Any:
        return value

    return given


_FIXTURE = type(pytest.fixture(lambda: None))


def with_source(content: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return a section with the text of the file that its ``name`` or ``kind`` is in."""
    named = content.get(field)
    return {**content, "source": read_code(str(named)).source} if is_file(named) else dict(content)


def sources_of(name: str) -> dict[str, str]:
    """Return the text of a name's file, as ``own_code`` has it."""
    return {place_of(name): read_code(name).source or ""} if is_file(name) else {}
