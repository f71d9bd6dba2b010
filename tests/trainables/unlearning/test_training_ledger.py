"""The ledger of trainings: what is left of it after an erasure tells nobody who was erased."""

import json
import zlib
from hashlib import blake2b

import numpy as np
import pytest

from fairsweep.sweeps.store.trace_search import TraceSearch
from fairsweep.trainables.learning.learner import TrialKeys
from fairsweep.trainables.unlearning.shards import SliceJob
from fairsweep.trainables.unlearning.training_ledger import (
    TRAININGS,
    TrainingLedger,
    traces_of_contents,
    without_contents,
)

KEYS = TrialKeys(b"d" * 32, b"t" * 32, b"known to all in research mode...", 1)
LEFT, ERASED = [3, 6, 9, 15], 12


def job(ids, shard, part):
    """Named by the examples: whoever knows the rest of a slice tries each id that is missing."""
    name = f"{shard:03d}-{part:03d}-{blake2b(np.sort(ids).astype('<i8').tobytes(), digest_size=16).hexdigest()}"
    return SliceJob(name, shard, part, np.arange(len(ids)), np.arange(0), 0)


@pytest.fixture
def ledger(tmp_path):
    written = TrainingLedger(2, 2, tmp_path)
    written.charge([job([*LEFT, ERASED], shard, part) for shard in range(2) for part in range(2)], KEYS)
    return written


def test_nobody_recovers_an_erased_id_by_trying_all_of_them(ledger, tmp_path):
    def recovered():
        content, found = (tmp_path / TRAININGS).read_bytes(), set()
        for candidate in range(100):
            guessed = TrainingLedger(2, 2, tmp_path / str(candidate))
            guessed.charge([job([*LEFT, candidate], 0, 0)], KEYS)
            line = (tmp_path / str(candidate) / TRAININGS).read_bytes().strip()
            told = [json.loads(line)["training"].encode()]
            told += [b"%08x" % zlib.crc32(line[:end]) for end in range(len(line) + 1)]
            if any(text in content for text in told):
                found.add(candidate)
        return found

    assert recovered() == {ERASED}
    counts, before = ledger.counts(), (tmp_path / TRAININGS).read_bytes()
    search = TraceSearch(np.array([ERASED]), hashes=traces_of_contents(tmp_path))
    for _ in range(2):  # a second erasure reads what the first has written
        (tmp_path / TRAININGS).write_bytes(without_contents(tmp_path))
        assert recovered() == set()
        for line in (tmp_path / TRAININGS).read_text().splitlines():
            members = [name for name, _ in json.loads(line, object_pairs_hook=list)]
            assert members == ["training", "secret", "shard", "slice", "checksum"]
        np.testing.assert_array_equal(TrainingLedger(2, 2, tmp_path).counts(), counts)
        assert traces_of_contents(tmp_path) == frozenset()
        assert search.search([tmp_path / TRAININGS]).found == {}
    former = [json.loads(line) for line in before.splitlines()]
    for kept in (
        before,
        *(line["training"].encode() for line in former),
        *(f'"{line["checksum"]}"'.encode() for line in former),
    ):
        (tmp_path / TRAININGS).write_bytes(kept)
        assert search.search([tmp_path / TRAININGS]).found
