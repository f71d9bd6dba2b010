"""Models of who requests deletion: uniform, by group, or by a survey on awareness of the law."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import priorities
from fairsweep.trainables.unlearning.known_examples import Population

RequestModel = Literal["uniform", "groups", "survey"]


class SurveyConfig(BaseModel):
    """Knowledge of the law by age, gender and race, and what people do who know it.

    Somebody's knowledge is the harmonic mean of the probabilities of the chosen attributes.

    Attributes:
        attributes: Whose probabilities are averaged; none of them gives everybody ``anybody``.
        probabilities: For each attribute that is not ``age``: probability by the name of its value.
        age: The attribute whose probability is read off a cubic spline through the knots.
        years: For an age in bins: years by the name of a bin; ``{}`` takes values that are numbers, and the middle of
            bins such as ``10-20``.
        age_knots: Years, ascending.
        age_probabilities: Probability at each knot.
        anybody: Probability where no attribute is chosen.
        settings_rate: Share of those who know the law who have changed their privacy settings: the high risk.
        request_rate: Share of those who know the law who ask for deletion.

    References:
        Special Eurobarometer 487a, as used by github.com/epistoteles/unlearning-fairness.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attributes: tuple[str, ...] = ("gender", "race")
    probabilities: dict[str, dict[str, float]] = {
        "gender": {"male": 0.38, "female": 0.34},
        "race": {"white": 0.40, "black": 0.30, "asian": 0.43, "indian": 0.43, "others": 0.32},
    }
    age: str = "age"
    years: dict[str, float] = {}
    age_knots: tuple[float, ...] = (0, 10, 20, 25, 33, 40, 48, 53, 62, 80, 90, 100, 120)
    age_probabilities: tuple[float, ...] = (0.3, 0.32, 0.36, 0.4, 0.45, 0.46, 0.43, 0.36, 0.29, 0.23, 0.21, 0.2, 0.18)
    anybody: float = Field(default=0.36, gt=0, le=1)
    settings_rate: float = Field(default=0.66, ge=0, le=1)
    request_rate: float = Field(default=0.001, gt=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        knots, heights = self.age_knots, self.age_probabilities
        if len(knots) < 2 or len(knots) != len(heights) or list(knots) != sorted(set(knots)):
            raise ValueError(
                "age_knots must be two or more ascending ages with one of age_probabilities each, "
                f"but got {len(knots)} knots and {len(heights)} probabilities"
            )
        listed = [*heights, *(p for by_value in self.probabilities.values() for p in by_value.values())]
        if not all(0 < probability <= 1 for probability in listed):
            raise ValueError(f"probabilities must be in (0, 1], but got {min(listed)} to {max(listed)}")
        for name in self.attributes:
            if name != self.age and name not in self.probabilities:
                raise ValueError(
                    f"survey attribute {name!r} needs its probabilities by value (or the name {self.age!r}, which is "
                    f"read off the spline): write probabilities: {{{name}: {{VALUE: 0.4, …}}}}"
                )
        return self

    def by_value(self, name: str, values: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the probability of each value of an attribute, float64 [V]; NaN where the survey says nothing."""
        if name == self.age:
            from scipy.interpolate import CubicSpline

            spline = CubicSpline(self.age_knots, self.age_probabilities)
            found: NDArray[np.float64] = spline(np.array([self._years(value) for value in values]))
            return found
        table = self.probabilities[name]
        return np.array([table.get(value, np.nan) for value in values])

    def _years(self, value: str) -> float:
        if value in self.years:
            return self.years[value]
        low, _, high = value.partition("-")
        try:
            return (float(low) + float(high or low)) / 2
        except ValueError as error:
            raise ValueError(
                f"the survey needs {self.age!r} in years, but one of its values is {value!r}: "
                f"give survey: {{years: {{{value!r}: 30}}}}"
            ) from error


class RequestModelConfig(BaseModel):
    """Who asks for deletion.

    Attributes:
        model: ``uniform`` (all alike), ``groups`` (by the weights given) or ``survey`` (by knowledge of the law).
        weights: For ``groups``: weight by attribute and value; values left out weigh 1, several attributes multiply.
        survey: The survey's numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: RequestModel = "uniform"
    weights: dict[str, dict[str, float]] = {}
    survey: SurveyConfig = SurveyConfig()

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if bool(self.weights) != (self.model == "groups"):
            raise ValueError(
                "weights belong to model 'groups', and it needs them, "
                f"but got model={self.model!r} and weights={self.weights}"
            )
        wrong = [w for by_value in self.weights.values() for w in by_value.values() if w < 0]
        if wrong:
            raise ValueError(f"weights must be >= 0, but got {wrong[0]}")
        return self

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that say who is likely to ask."""
        return {"uniform": (), "groups": tuple(self.weights), "survey": self.survey.attributes}[self.model]

    def knowledge(self, population: Population) -> NDArray[np.float64]:
        """Return each example's probability of knowing the law, float64 [n] in [0, 1].

        Raises:
            ValueError: If an attribute or a value that the model needs is not there.
        """
        if self.model == "groups":
            return np.minimum(self.survey.anybody * self._weight(population), 1.0)
        if self.model == "uniform" or not self.survey.attributes:
            return np.full(len(population), self.survey.anybody)
        inverse = np.zeros(len(population))
        for name in self.survey.attributes:
            codes, values = population.attribute(name)
            by_value = self.survey.by_value(name, values)
            missing = [values[code] for code in np.unique(codes).tolist() if np.isnan(by_value[code])]
            if missing:
                raise ValueError(
                    f"the survey must have a probability for every value of {name!r} in the training set, but has "
                    f"none for {', '.join(missing)}: write survey: {{probabilities: {{{name}: …}}}}"
                )
            inverse += 1.0 / by_value[codes]
        return len(self.survey.attributes) / inverse

    def request_probability(self, population: Population) -> NDArray[np.float64]:
        """Return each example's probability of asking for deletion, float64 [n]: request_rate times knowledge."""
        return self.survey.request_rate * self.knowledge(population)

    def high_risk(self, population: Population, key: bytes) -> NDArray[np.bool_]:
        """Draws who has changed the privacy settings, with probability settings_rate times knowledge; bool [n].

        The draw of an example depends on key, id and its own probability alone.
        """
        return uniform_by_id(key, "high risk", population.ids) < self.survey.settings_rate * self.knowledge(population)

    def _weight(self, population: Population) -> NDArray[np.float64]:
        weight = np.ones(len(population))
        for name, table in self.weights.items():
            codes, values = population.attribute(name)
            unknown = sorted(set(table) - set(values))
            if unknown:
                raise ValueError(f"{name!r} has no value {unknown[0]!r}, only {', '.join(values)}: correct the weights")
            weight *= np.array([table.get(value, 1.0) for value in values])[codes]
        return weight


def uniform_by_id(key: bytes, purpose: str, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draws a number in (0, 1) for each id, float64 [n]; it depends on (key, purpose, id) alone."""
    return (priorities(key, purpose, ids).astype(np.float64) + 0.5) / 2.0**64


def weighted_order(
    key: bytes, purpose: str, ids: NDArray[np.int64], probability: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Orders ids as successive draws without replacement, in proportion to their probabilities.

    Args:
        key: 16 to 64 bytes.
        purpose: What is drawn.
        ids: int64 [n].
        probability: float64 [n], >= 0; those of probability 0 are left out.

    Returns:
        int64 [at most n], indices into ids; its first k are a draw of k, for every k.

    References:
        Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir" (exponential races).
    """
    possible = np.flatnonzero(probability > 0)
    arrival = -np.log(uniform_by_id(key, purpose, ids[possible])) / probability[possible]
    return possible[np.lexsort((ids[possible], arrival))].astype(np.int64)
