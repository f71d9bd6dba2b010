"""What becomes of errors on their way to the user."""

import errno

import pytest

from fairsweep.sweeps.syntax.errors import SweepError, paths_fit


@pytest.mark.timeout(30)
def test_errors_that_are_causes_of_each_other_reach_the_user():
    first, second = OSError("the cluster is gone"), RuntimeError("no answer")
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(OSError, match="the cluster is gone"), paths_fit():
        raise first


def test_a_path_that_is_too_long_is_told_wherever_the_error_began():
    error = ValueError("no such sweep")
    error.__context__ = OSError(errno.ENAMETOOLONG, "File name too long")
    with pytest.raises(SweepError, match="a path must have parts of at most 255 bytes"), paths_fit():
        raise error
