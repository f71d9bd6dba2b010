"""The deletion requests that a trial serves: whose, in which order, how many at once.

Most streams are settled before training. The adversarial ones that look at models (``typical``, ``influential``) are
settled once, when the first training is done; whoever serves them keeps the ids.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.unlearning.aggregation import ROWS_AT_ONCE
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.request_models import RequestModelConfig, weighted_order

Stream = list[NDArray[np.int64]]


class RequestsConfig(RequestModelConfig):
    """Who asks for deletion, and the stream of requests that the trial serves after its first training.

    Attributes:
        count: Number of examples to delete (of users, for ``by: user``); 0 serves none. With ``ids`` or ``file``: null.
        batch: How many of them are served at once; each batch is an iteration.
        by: ``model`` (drawn by the request model), ``user`` (all examples of each user drawn), ``group`` (only
            examples of ``group``), ``typical`` (those that the first model knows best), ``influential`` (those with
            the largest gradients at their shard's model, of shard ``shard``; neither with a private inner learner),
            ``ids`` (those given; of sweeps that began before they were refused).
        group: For ``by: group``: value by attribute; several must all hold.
        shard: For ``by: influential``: which shard, from 1.
        ids: For ``by: ids``: the ids, in order; an id that was deleted before makes no difference. A trial that begins
            refuses them, for they would stay in its files: `fairsweep forget` takes ids when it has ended.
        file: Instead of ``ids``: a CSV with a column ``id``. It is read when the sweep is.

    References:
        Gupta et al. 2021, arXiv 2106.04378: requests that depend on published models.
    """

    count: int = Field(default=0, ge=0)
    batch: int = Field(default=1, ge=1)
    by: Literal["model", "user", "group", "typical", "influential", "ids"] = "model"
    group: dict[str, str] = Field(default={})
    shard: int = Field(default=1, ge=1)
    ids: tuple[int, ...] = ()
    file: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        if not isinstance(given, Mapping):
            return given
        content = dict(given)
        if content.get("count", 0) is None:
            del content["count"]
        if content.get("file") is not None:
            if content.get("ids"):
                raise ValueError("give ids or file, not both")
            content["ids"] = read_ids(Path(str(content["file"]))).tolist()
        if content.get("ids"):
            content.setdefault("by", "ids")
            content.setdefault("count", len(set(content["ids"])))
        return content

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if bool(self.ids) != (self.by == "ids"):
            raise ValueError(f"ids (or file) belong to by 'ids', and it needs them, but got by={self.by!r}")
        if self.by == "ids" and self.count != len(set(self.ids)):
            raise ValueError(f"count must be left out with ids: there are {len(set(self.ids))}, not {self.count}")
        if bool(self.group) != (self.by == "group"):
            raise ValueError(f"group belongs to by 'group', and it needs one, but got by={self.by!r}")
        if "shard" in self.model_fields_set and self.shard != 1 and self.by != "influential":
            raise ValueError(f"shard belongs to by 'influential', but got by={self.by!r}")
        return self

    @property
    def batches(self) -> int:
        """Number of batches of the stream."""
        return -(-self.count // self.batch)

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The attributes that say who asks, for a stream that is drawn."""
        if self.by in ("ids", "typical", "influential"):
            return ()
        own = {"user": ("user",), "group": tuple(self.group)}.get(self.by, ())
        return tuple(dict.fromkeys((*own, *self.attributes)))

    @property
    def looks_at_models(self) -> bool:
        """Whether the stream can be settled only when the first training is done."""
        return self.by in ("typical", "influential")


def read_ids(path: Path) -> NDArray[np.int64]:
    """Read a CSV with a column ``id``, or one number a line; int64, each once, in the order of the file.

    Raises:
        ValueError: If the file cannot be read or holds anything else.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read ids from {path}: {error}") from error
    if not lines:
        raise ValueError(f"{path} must hold ids, one a line or in a column named id, but it is empty")
    header = [cell.strip().lower() for cell in lines[0]]
    column = header.index("id") if "id" in header else 0
    body = lines[1:] if "id" in header else lines
    found = []
    for number, line in enumerate(body, start=len(lines) - len(body) + 1):
        try:
            found.append(int(line[column]))
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {number}: an id must be a whole number, but got {','.join(line)!r}; "
                "give one id a line, or a CSV with a column named id"
            ) from error
    return np.array(list(dict.fromkeys(found)), dtype=np.int64)


def settle_stream(config: RequestsConfig, population: Population, key: bytes) -> Stream:
    """Says who asks, for a stream that does not look at models.

    Args:
        config: The requests.
        population: The training set.
        key: 32 bytes, public: of the data seed.

    Returns:
        For each batch the ids to delete, int64, distinct; an id stands in one batch only.

    Raises:
        UnknownIdsError: If ids are not in the training set; they are listed.
        ValueError: If fewer examples or users can ask than the count says, or a name is unknown.
    """
    if config.looks_at_models:
        raise ValueError(f"by={config.by!r} is determined after the first training: use settle_by_scores")
    if config.by == "ids":
        ids = np.array(list(dict.fromkeys(config.ids)), dtype=np.int64)
        population.positions(ids)
        return _batched(list(ids[:, None]), config.batch)
    probability = config.request_probability(population)
    if config.by == "user":
        return _batched(_users(config, population, probability, key), config.batch)
    if config.by == "group":
        probability = np.where(_members(config.group, population), probability, 0.0)
    order = weighted_order(key, "sisa requests", population.ids, probability)
    _check_enough(config, len(order), "examples")
    return _batched(list(population.ids[order[: config.count]][:, None]), config.batch)


def settle_by_scores(config: RequestsConfig, population: Population, scores: NDArray[np.float64]) -> Stream:
    """Says who asks, for a stream that looks at models.

    Args:
        config: The requests.
        population: The training set.
        scores: float64 [n]; the lowest ask first, NaN never. Ties are broken by id.

    Returns:
        For each batch the ids to delete.

    Raises:
        ValueError: If fewer can ask than the count says.
    """
    possible = np.flatnonzero(~np.isnan(scores))
    order = possible[np.lexsort((population.ids[possible], scores[possible]))]
    _check_enough(config, len(order), "examples")
    return _batched(list(population.ids[order[: config.count]][:, None]), config.batch)


def settle_by_models(
    config: RequestsConfig,
    task: LearningTask,
    population: Population,
    shard: NDArray[np.int32],
    predict: Callable[[NDArray[np.uint8]], torch.Tensor],
) -> Stream:
    """Say who asks, for a stream that looks at models.

    Args:
        config: The requests: ``typical`` asks those first whose error is smallest, ``influential`` those of the shard
            ``shard`` whose error is largest.
        task: The training set.
        population: Who is in it.
        shard: int32 [n], where each is placed, from 0.
        predict: Maps uint8 [B, H, W, C] to logits: of all shards, or of that one.

    Raises:
        ValueError: See `settle_by_scores`.
    """
    of_shard = config.by == "influential"
    scores = np.full(task.size, np.nan)
    candidates = np.flatnonzero(shard == config.shard - 1) if of_shard else np.arange(task.size)
    for start in range(0, len(candidates), ROWS_AT_ONCE):
        part = candidates[start : start + ROWS_AT_ONCE]
        logits = predict(task.feed.images(task.rows[part]))
        norms = error_norms(torch.softmax(logits.double(), dim=1).numpy(), task.labels[part])
        scores[part] = -norms if of_shard else norms
    return settle_by_scores(config, population, scores)


def error_norms(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the L2 norm of the loss's gradient at the logits, ‖p - onehot(y)‖, float64 [n].

    Small for what a model knows well, large for what would still move it.

    Args:
        probabilities: float64 [n, K].
        labels: int64 [n].

    References:
        Paul et al. 2021, arXiv 2107.07075, definition 2.2 (EL2N).
    """
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1.0
    norms: NDArray[np.float64] = np.linalg.norm(errors, axis=1)
    return norms


def _users(
    config: RequestsConfig, population: Population, probability: NDArray[np.float64], key: bytes
) -> list[NDArray[np.int64]]:
    """All ids of each user who asks; users are drawn in proportion to the mean probability of their examples."""
    if population.users is None:
        raise ValueError("requests by user need a dataset with a column user, but this one has none: choose another by")
    users, member = np.unique(population.users, return_inverse=True)
    mean = np.bincount(member, weights=probability) / np.bincount(member)
    order = weighted_order(key, "sisa user requests", users, mean)
    _check_enough(config, len(order), "users")
    return [np.sort(population.ids[member == user]) for user in order[: config.count].tolist()]


def _members(group: Mapping[str, str], population: Population) -> NDArray[np.bool_]:
    inside = np.ones(len(population), dtype=bool)
    for name, value in group.items():
        codes, values = population.attribute(name)
        if value not in values:
            raise ValueError(f"{name!r} has no value {value!r}, only {', '.join(values)}: correct the group")
        inside &= codes == values.index(value)
    return inside


def _check_enough(config: RequestsConfig, possible: int, what: str) -> None:
    if config.count > possible:
        raise ValueError(
            f"count must be at most the number of {what} that can ask, {possible:,}, but got count={config.count:,}"
        )


def _batched(askers: list[NDArray[np.int64]], batch: int) -> Stream:
    return [np.concatenate(askers[start : start + batch]) for start in range(0, len(askers), batch)]
