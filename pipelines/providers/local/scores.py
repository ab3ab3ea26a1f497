"""Small fitted models over a picture's figures: one number each, from coefficients in a file of their own."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.coefficients import COEFFICIENTS

MAX_DEVIATION = 3.0
"""A figure further from what was seen than so many deviations counts as that far: no model extrapolates."""

DEPTH = 3
"""Questions that a tree asks about a picture's figures."""


class Score(StrEnum):
    """The models, by their names in the file."""

    DARK = "dark"
    GAMMA = "gamma"
    UNDEREXPOSED = "underexposed"
    OVEREXPOSED = "overexposed"
    CAST = "cast"
    CAST_RED = "cast_red"
    CAST_BLUE = "cast_blue"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class FittedScore:
    """A polynomial over standardized figures.

    Attributes:
        mean: of each figure over the photographs it was fitted on.
        scale: deviation of each figure.
        squared: indices of the figures whose products count, too.
        weights: constant, figures, products in row order.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    squared: tuple[int, ...]
    weights: NDArray[np.float64]

    def of(self, figures: NDArray[np.float64]) -> float:
        """Return the score of one picture's figures."""
        return float(terms(figures, self.mean, self.scale, self.squared) @ self.weights)


@dataclass(frozen=True, slots=True)
class BoostedScore:
    """Trees whose answers are added up: evidence counts together with other evidence, not alone.

    Each tree asks three questions, the next by the answer to the last; a
    figure over the threshold goes right.

    Attributes:
        start: what the answers are added to.
        figures: trees x 7, the figure that each question is about, in breadth-first order.
        thresholds: trees x 7.
        answers: trees x 8, from left to right.
    """

    start: float
    figures: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    answers: NDArray[np.float64]

    def of(self, figures: NDArray[np.float64]) -> float:
        """Return the score of one picture's figures."""
        trees = np.arange(len(self.figures))
        node = np.zeros(len(trees), np.int64)
        for _ in range(DEPTH):
            goes_right = figures[self.figures[trees, node]] > self.thresholds[trees, node]
            node = 2 * node + 1 + goes_right
        return self.start + float(self.answers[trees, node - (2**DEPTH - 1)].sum())


def terms(
    figures: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64], squared: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the polynomial's terms for one picture."""
    z = np.clip((figures - mean) / scale, -MAX_DEVIATION, MAX_DEVIATION)
    products = [z[a] * z[b] for place, a in enumerate(squared) for b in squared[place:]]
    return np.array([1.0, *z, *products])


@cache
def fitted(score: Score) -> FittedScore:
    """Return an estimate's model; `bench/quality_fit.py` fits them and says how."""
    model = COEFFICIENTS[score]
    squared = tuple(int(index) for index in model["squared"])
    return FittedScore(np.array(model["mean"]), np.array(model["scale"]), squared, np.array(model["weights"]))


@cache
def verdict(score: Score) -> BoostedScore:
    """Return the model that says how sure a defect is; above 0 it is treated."""
    model = COEFFICIENTS[score]
    inner = 2**DEPTH - 1
    return BoostedScore(
        float(model["start"][0]),
        np.array(model["figures"], np.int64).reshape(-1, inner),
        np.array(model["thresholds"]).reshape(-1, inner),
        np.array(model["answers"]).reshape(-1, inner + 1),
    )
