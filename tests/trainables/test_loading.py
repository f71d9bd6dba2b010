import gc
from contextlib import suppress

import pytest

from fairsweep.trainables.loading import uncollected


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_is_looked_for_afterwards_if_it_was_before(is_enabled):
    was = gc.isenabled()
    (gc.enable if is_enabled else gc.disable)()
    try:
        with suppress(ImportError), uncollected():
            assert not gc.isenabled()
            import fairsweep.trainables.no_such_module  # noqa: F401
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if was else gc.disable)()
