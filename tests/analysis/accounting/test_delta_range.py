import pytest

from fairsweep.analysis.accounting.delta_range import LEAST_DELTA, check_least_delta


@pytest.mark.parametrize("delta", [0.0, 1e-16, 1.0, 2.0])
def test_a_delta_that_no_accountant_can_tell_is_refused(delta):
    with pytest.raises(ValueError, match="delta must be at least 1e-12 and below 1"):
        check_least_delta(delta)


def test_any_other_is_taken():
    assert [check_least_delta(delta) for delta in (LEAST_DELTA, 0.5)] == [LEAST_DELTA, 0.5]
