"""Every example in exactly one client, whatever the partition; skews as asked for; bad input refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fairsweep.datasets.selection.partitions import (
    ClientsConfig,
    Partition,
    TrainingColumns,
    majority_values,
    partition_clients,
    split_held_out,
)
from fairsweep.datasets.selection.randomness import seed_key

KEY = seed_key(1, "data")


def columns(n=600, classes=10, seed=0):
    random = np.random.default_rng(seed)
    return TrainingColumns(
        rows=random.permutation(5 * n)[:n],
        labels=random.integers(0, classes, n),
        attributes={"tone": (random.random(n) < 0.2).astype(np.int16)},
        users=random.integers(0, 40, n) * 7,
    )


def by_client(partition, codes):
    """Counts [clients, values]."""
    return np.stack([np.bincount(codes[partition.client(c)], minlength=codes.max() + 1) for c in range(len(partition))])


CONFIGS = [
    {"partition": "user"},
    {"partition": "iid", "count": 17},
    {"partition": "dirichlet", "count": 30, "alpha": 0.05},
    {"partition": "dirichlet", "count": 30, "alpha": 5.0, "attribute": "tone"},
    {"partition": "attribute", "count": 12, "attribute": "tone", "mixing": 0.3},
    {"partition": "quantity", "count": 50, "alpha": 0.1},
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c["partition"])
def test_every_example_is_in_exactly_one_client_and_the_key_decides(config):
    given, data = ClientsConfig(**config), columns()
    partition = partition_clients(data, given, KEY)
    assert np.array_equal(np.sort(partition.order), np.arange(600))
    assert partition.sizes.min() >= 1
    assert len(partition) == (given.count or 40)
    again = partition_clients(data, given, KEY)
    assert np.array_equal(partition.order, again.order)
    if given.partition != "user":
        assert not np.array_equal(partition.owners(), partition_clients(data, given, seed_key(2, "data")).owners())


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 80),
    share=st.floats(0.02, 1.0),
    alpha=st.floats(0.01, 100.0),
    mixing=st.floats(0, 1),
    kind=st.sampled_from(["iid", "dirichlet", "quantity", "attribute"]),
)
def test_no_partition_ever_leaves_a_client_empty_or_an_example_out(n, share, alpha, mixing, kind):
    data = columns(n, classes=3)
    count = max(1, round(share * n))
    fields = {"dirichlet": {"alpha": alpha}, "quantity": {"alpha": alpha}}.get(kind, {})
    if kind == "attribute":
        count = max(count, len(np.unique(data.attributes["tone"])))
        fields = {"attribute": "tone", "mixing": mixing}
    if count > n:
        return
    config = ClientsConfig(partition=kind, count=count, **fields)
    partition = partition_clients(data, config, KEY)
    assert partition.sizes.min() >= 1
    assert np.array_equal(np.sort(partition.order), np.arange(n))


def test_users_keep_their_own_examples():
    data = columns()
    partition = partition_clients(data, ClientsConfig(partition="user"), KEY)
    for client in range(len(partition)):
        assert len(set(data.users[partition.client(client)])) == 1


def test_iid_sizes_differ_by_one_at_most():
    sizes = partition_clients(columns(), ClientsConfig(partition="iid", count=17), KEY).sizes
    assert sizes.max() - sizes.min() <= 1


def test_a_small_alpha_makes_clients_differ_and_a_large_one_makes_them_alike():
    data = columns(4000)

    def spread(alpha):
        config = ClientsConfig(partition="dirichlet", count=50, alpha=alpha)
        partition = partition_clients(data, config, KEY)
        assert partition.sizes.max() - partition.sizes.min() <= 1
        counts = by_client(partition, data.labels)
        return (counts.max(axis=1) / counts.sum(axis=1)).mean()

    # For alpha -> infinity a client of 80 has about 10% + sampling error in its largest class; for alpha -> 0 all.
    assert spread(0.01) > 0.75 > spread(0.3) > 0.25 > spread(1000.0)


def test_dirichlet_shares_have_the_stated_variance():
    """Of Dirichlet(a, …, a) over K values a share varies by (1/K)(1 - 1/K)/(K a + 1); multinomial error adds to it."""
    n, clients, alpha, classes = 40_000, 200, 1.0, 4
    data = columns(n, classes)
    config = ClientsConfig(partition="dirichlet", count=clients, alpha=alpha)
    # The first half of the clients, for whom nothing has run out yet.
    shares = by_client(partition_clients(data, config, KEY), data.labels)[: clients // 2] / (n / clients)
    mean, size = 1 / classes, n / clients
    expected = mean * (1 - mean) * (1 / (classes * alpha + 1) * (1 - 1 / size) + 1 / size)
    assert shares.var() == pytest.approx(expected, rel=0.2)


def test_by_attribute_each_client_holds_mostly_one_value():
    data = columns()
    tone = data.attributes["tone"]
    pure = partition_clients(data, ClientsConfig(partition="attribute", attribute="tone", count=10), KEY)
    counts = by_client(pure, tone)
    assert (counts.min(axis=1) == 0).all()
    homes = majority_values(pure, tone)
    # Clients in proportion to the values, one at least: about a fifth of ten.
    assert 1 <= (homes == 1).sum() <= 3
    mixed = partition_clients(data, ClientsConfig(partition="attribute", attribute="tone", count=10, mixing=1.0), KEY)
    shares = by_client(mixed, tone)[:, 1] / mixed.sizes
    assert abs(shares - tone.mean()).max() < 0.2


def test_quantity_skew_grows_as_alpha_falls():
    data = columns()
    sizes = {
        a: partition_clients(data, ClientsConfig(partition="quantity", count=30, alpha=a), KEY).sizes
        for a in (0.1, 100)
    }
    assert sizes[0.1].max() > 4 * sizes[100].max()
    assert sizes[0.1].min() >= 1


def test_held_out_examples_and_caps():
    partition = partition_clients(columns(), ClientsConfig(partition="quantity", count=60, alpha=0.2), KEY)
    config = ClientsConfig(partition="iid", count=60, held_out=0.25, max_examples=7)
    trained, held_out = split_held_out(partition, config)
    for client in range(len(partition)):
        own, kept, apart = partition.client(client), trained.client(client), held_out.client(client)
        assert set(kept) <= set(own)
        assert set(apart) <= set(own)
        assert not set(kept) & set(apart)
        assert 1 <= len(kept) <= 7
        assert len(apart) == min(int(0.25 * len(own)), len(own) - 1)
        assert len(kept) == min(7, len(own) - len(apart))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"partition": "iid"}, "needs count"),
        ({"partition": "dirichlet", "count": 3}, "needs alpha"),
        ({"partition": "attribute", "count": 3}, "needs attribute"),
        ({"partition": "user", "count": 3}, "has no count"),
        ({"partition": "iid", "count": 3, "alpha": 1.0}, "has no alpha"),
        ({"partition": "iid", "count": 0}, "greater than or equal to 1"),
        ({"partition": "dirichlet", "count": 3, "alpha": 0.0}, "greater than 0"),
        ({"partition": "attribute", "count": 3, "attribute": "tone", "mixing": 1.1}, "less than or equal to 1"),
        ({"partition": "by_luck", "count": 3}, "'user', 'iid', 'dirichlet'"),
    ],
)
def test_configs_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        ClientsConfig(**fields)


def test_what_a_training_set_cannot_give_is_refused():
    data = columns(20)
    with pytest.raises(ValueError, match=r"clients\.count=21 for 20 examples"):
        partition_clients(data, ClientsConfig(partition="iid", count=21), KEY)
    with pytest.raises(ValueError, match="has none: prepare it with one"):
        partition_clients(TrainingColumns(data.rows, data.labels), ClientsConfig(partition="user"), KEY)
    with pytest.raises(ValueError, match=r"one of \['tone'\], but got 'shape'"):
        partition_clients(data, ClientsConfig(partition="attribute", attribute="shape", count=4), KEY)
    with pytest.raises(ValueError, match="each of the 2 values of 'tone'"):
        partition_clients(data, ClientsConfig(partition="attribute", attribute="tone", count=1), KEY)
    with pytest.raises(ValueError, match="client 1 has none"):
        Partition.of([np.arange(20), np.empty(0, np.int64)], 20)
    with pytest.raises(ValueError, match="exactly one client"):
        Partition.of([np.arange(20), np.arange(2)], 20)
