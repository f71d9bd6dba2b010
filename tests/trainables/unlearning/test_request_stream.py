"""Streams of requests: who asks, in which order, how many at once."""

import numpy as np
import pytest

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.unlearning.known_examples import Population, UnknownIdsError
from fairsweep.trainables.unlearning.request_stream import (
    RequestsConfig,
    error_norms,
    read_ids,
    settle_by_scores,
    settle_stream,
)

KEY = seed_key(3, "data")


@pytest.fixture
def population():
    n = 60
    return Population(
        ids=np.arange(n) * 3 + 1,
        codes={"tone": np.arange(n) % 2, "smiling": np.arange(n) // 2 % 2},
        values={"tone": ("light", "dark"), "smiling": ("no", "yes")},
        users=np.arange(n) // 5,
    )


def test_a_stream_is_distinct_batched_and_nested_in_longer_ones(population):
    stream = settle_stream(RequestsConfig(count=10, batch=4), population, KEY)
    assert [len(batch) for batch in stream] == [4, 4, 2]
    ids = np.concatenate(stream)
    assert len(set(ids.tolist())) == 10
    assert np.isin(ids, population.ids).all()
    single = settle_stream(RequestsConfig(count=20), population, KEY)
    np.testing.assert_array_equal(np.concatenate(single)[:10], ids)
    assert RequestsConfig(count=10, batch=4).batches == 3


def test_all_examples_of_a_user_go_together(population):
    stream = settle_stream(RequestsConfig(count=3, by="user"), population, KEY)
    assert len(stream) == 3
    for batch in stream:
        users = population.users[population.positions(batch)]
        assert len(set(users)) == 1
        assert len(batch) == 5
    with pytest.raises(ValueError, match="column user"):
        settle_stream(RequestsConfig(count=3, by="user"), Population(population.ids), KEY)


def test_one_group_alone_asks(population):
    stream = settle_stream(RequestsConfig(count=9, by="group", group={"tone": "dark"}), population, KEY)
    assert (population.codes["tone"][population.positions(np.concatenate(stream))] == 1).all()
    with pytest.raises(ValueError, match="at most the number of examples that can ask, 30"):
        settle_stream(RequestsConfig(count=31, by="group", group={"tone": "dark"}), population, KEY)
    with pytest.raises(ValueError, match="no value 'darker'"):
        settle_stream(RequestsConfig(count=1, by="group", group={"tone": "darker"}), population, KEY)


def test_weights_decide_who_asks(population):
    requests = RequestsConfig(count=20, model="groups", weights={"tone": {"dark": 0.0}})
    ids = np.concatenate(settle_stream(requests, population, KEY))
    assert (population.codes["tone"][population.positions(ids)] == 0).all()


def test_ids_come_from_the_config_or_a_csv_in_order(population, tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("name,id\nAda,7\nBob,1\nAda,7\n\n")
    requests = RequestsConfig(file=path, batch=1)
    assert (requests.ids, requests.count, requests.by) == ((7, 1), 2, "ids")
    assert [batch.tolist() for batch in settle_stream(requests, population, KEY)] == [[7], [1]]
    assert RequestsConfig.model_validate(requests.model_dump(mode="json")) == requests.model_copy(update={"file": None})
    with pytest.raises(UnknownIdsError, match="1 are not: 2;"):
        settle_stream(RequestsConfig(ids=(1, 2)), population, KEY)


def test_files_without_ids_say_where(tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("1\n2\nthree\n")
    with pytest.raises(ValueError, match="line 3"):
        read_ids(path)
    path.write_text("")
    with pytest.raises(ValueError, match="empty"):
        read_ids(path)
    with pytest.raises(ValueError, match="cannot read"):
        read_ids(tmp_path / "none.csv")
    path.write_text("5\n4\n")
    assert read_ids(path).tolist() == [5, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "ids"}, "needs them"),
        ({"by": "group"}, "needs one"),
        ({"ids": (1,), "by": "model"}, "belong to"),
        ({"ids": (1, 2), "count": 3}, "left out"),
        ({"shard": 2}, "influential"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RequestsConfig(**fields)


def test_the_adversary_takes_the_lowest_scores(population):
    scores = np.full(60, np.nan)
    scores[[4, 9, 2]] = [0.5, 0.1, 0.5]
    stream = settle_by_scores(RequestsConfig(count=3, by="typical"), population, scores)
    assert [batch.tolist() for batch in stream] == [[28], [7], [13]]
    with pytest.raises(ValueError, match="at most the number"):
        settle_by_scores(RequestsConfig(count=4, by="typical"), population, scores)


def test_error_norms_are_gradients_of_the_loss_at_the_logits():
    import torch

    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1])
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    norms = error_norms(torch.softmax(logits, 1).detach().numpy(), labels.numpy())
    np.testing.assert_allclose(norms, logits.grad.norm(dim=1).numpy())
