"""Which defects of a picture to treat. Pixel children import this, so it imports no models of data."""

from dataclasses import dataclass

from config.pipeline_rules import Defect


@dataclass(frozen=True, slots=True)
class Corrections:
    """Which defects to treat.

    A defect in `allowed` is treated if it is measured in the picture, the more strongly the stronger it is. A defect in
    `forced` was asked for by the pipeline, and is treated even if it is hardly measurable.
    """

    allowed: frozenset[Defect]
    forced: frozenset[Defect] = frozenset()


ALL_CORRECTIONS = Corrections(frozenset(Defect))
"""The corrections for a picture that wasn't analyzed: every defect that is measured when the picture is treated."""

NO_CORRECTIONS = Corrections(frozenset())
