"""How long stages take, by the last runs of each (`darkroom.stage_times`)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from models.connections import Connection

Basis = Literal["tier", "type", "stage"]
"""Whose runs are behind a time: those of the type and tier, of all tiers of the type, or of the stage in all jobs."""

_MEANS: Final = """
SELECT k.job_type, k.tier, t.stage, t.mean_s
FROM unnest($1::text[], $2::text[]) k (job_type, tier) CROSS JOIN LATERAL darkroom.stage_times(k.job_type, k.tier) t
"""
_TIMES: Final = """
SELECT t.stage, round(t.runs)::integer AS runs, t.mean_s, darkroom.variability_of(t.counts) AS variability, t.basis
FROM darkroom.stage_times($1, $2) t
"""


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took in its last runs.

    Attributes:
        stage: its name.
        runs: finished runs, the newest 500 or so.
        mean_s: their mean.
        variability: their variance divided by the square of their mean: 0 for a constant, 1 for exponential times.
        basis: whose runs they are.
    """

    stage: str
    runs: int
    mean_s: float
    variability: float
    basis: Basis


async def stage_times(connection: Connection, job_type: str, tier: str) -> list[StageTime]:
    """Return how long each stage takes for jobs of a type and tier; stages that never ran aren't in it."""
    return [StageTime(**row) for row in await connection.fetch(_TIMES, job_type, tier)]


async def mean_stage_times(
    connection: Connection, kinds: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return the mean seconds of each known stage, by job type and tier. Stages that never ran aren't in it."""
    wanted = sorted(set(kinds))
    found: dict[tuple[str, str], dict[str, float]] = {kind: {} for kind in wanted}
    rows = await connection.fetch(_MEANS, [kind[0] for kind in wanted], [kind[1] for kind in wanted])
    for row in rows:
        found[row["job_type"], row["tier"]][row["stage"]] = row["mean_s"]
    return found
