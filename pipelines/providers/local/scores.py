"""Small fitted models over a picture's figures: one number each, from coefficients in a file of their own."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.coefficients import COEFFICIENTS

MAX_DEVIATION = 3.0
"""A figure further from what was seen than so many deviations counts as that far: no model extrapolates."""

STRANGE_FROM = 4.5
"""Deviations from which a figure is strange: of 137 pictures a fundus photograph, a colour chart and two carpets."""


class Score(StrEnum):
    """The models, by their names in the file."""

    DARK = "dark"
    GAMMA = "gamma"
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

    def sureness_of(self, figures: NDArray[np.float64]) -> float:
        """Return the score as a sureness: a picture unlike any that was seen isn't judged (-1, or less)."""
        strangest = float(np.abs((figures - self.mean) / self.scale).max())
        return min(self.of(figures), -1.0) if strangest > STRANGE_FROM else self.of(figures)


def terms(
    figures: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64], squared: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the polynomial's terms for one picture."""
    z = np.clip((figures - mean) / scale, -MAX_DEVIATION, MAX_DEVIATION)
    products = [z[a] * z[b] for place, a in enumerate(squared) for b in squared[place:]]
    return np.array([1.0, *z, *products])


@cache
def fitted(score: Score) -> FittedScore:
    """Return one model; `bench/quality_fit.py` fits them and says how."""
    model = COEFFICIENTS[score]
    squared = tuple(int(index) for index in model["squared"])
    return FittedScore(np.array(model["mean"]), np.array(model["scale"]), squared, np.array(model["weights"]))
