"""Small fitted models, each of which computes one score from a picture's figures and the coefficients beside it."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local import cast_coefficients, coefficients

MODELS = coefficients.COEFFICIENTS | cast_coefficients.COEFFICIENTS
"""The numbers of each model, by its name."""

MAX_DEVIATION = 3.0
"""A figure further than so many deviations from the mean counts as that far, so that no model extrapolates."""

DEPTH = 3
"""A tree compares so many of a picture's figures with thresholds, one after the other."""


class Score(StrEnum):
    """The models, by their names in `MODELS`."""

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
        mean: the mean of each figure over the photographs it was fitted on.
        scale: the deviation of each figure.
        squared: the indices of the figures whose products with each other are terms as well.
        weights: of the constant, the figures, and the products in row order.
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
    """Decision trees of depth 3 whose answers are added up.

    A tree has seven comparisons of figures with thresholds, of which a picture passes three. A figure over its
    threshold leads to the right.

    Attributes:
        start: the number to which the answers are added.
        figures: trees x 7, the index of the figure of each comparison, in breadth-first order.
        thresholds: trees x 7, in the same order.
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
    """Return the model of an estimate; `bench/quality_fit.py` fits it."""
    model = MODELS[score]
    squared = tuple(int(index) for index in model["squared"])
    return FittedScore(np.array(model["mean"]), np.array(model["scale"]), squared, np.array(model["weights"]))


@cache
def verdict(score: Score) -> BoostedScore:
    """Return the model that computes how sure a defect is; a defect with a score above 0 is treated."""
    model = MODELS[score]
    inner = 2**DEPTH - 1
    return BoostedScore(
        float(model["start"][0]),
        np.array(model["figures"], np.int64).reshape(-1, inner),
        np.array(model["thresholds"]).reshape(-1, inner),
        np.array(model["answers"]).reshape(-1, inner + 1),
    )
