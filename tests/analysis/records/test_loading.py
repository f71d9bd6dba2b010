"""Reading many files: one after the other while they come at once, in threads as soon as they are waited for."""

import threading
import time

import pytest

from fairsweep.analysis.records.loading import _MOST_AT_ONCE, read_all


@pytest.mark.parametrize("is_local", [True, False])
def test_results_keep_the_order_of_the_items(is_local):
    items = list(range(3 * _MOST_AT_ONCE + 5))
    assert read_all(lambda item: item**2, items, is_local=is_local) == [item**2 for item in items]
    assert read_all(str, [], is_local=is_local) == []


def test_files_that_are_waited_for_are_read_in_threads():
    threads = []

    def slow(item):
        threads.append(threading.current_thread().name)
        time.sleep(0.002)
        return item

    items = list(range(2 * _MOST_AT_ONCE))
    assert read_all(slow, items, is_local=True) == items
    main = threading.current_thread().name
    assert set(threads[:_MOST_AT_ONCE]) == {main}
    assert main not in threads[_MOST_AT_ONCE:]
    assert len(set(threads[_MOST_AT_ONCE:])) > 1


def test_files_elsewhere_are_read_in_threads_from_the_start():
    found = read_all(lambda _: threading.current_thread().name, range(3), is_local=False)
    assert threading.current_thread().name not in found
