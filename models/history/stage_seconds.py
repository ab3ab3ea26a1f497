"""How long the stages of recent jobs took, for plans of capacity."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

MOST_RUNS: Final = 10_000
"""The latest finished runs that are read; more would take time and hardly change a mean."""

_SECONDS: Final = """
SELECT r.stage, count(*)::integer AS runs, avg(r.duration_ms) / 1000.0 AS mean_s,
       coalesce(var_pop(r.duration_ms) / nullif(avg(r.duration_ms) ^ 2, 0), 0)::double precision AS variability
FROM (SELECT s.stage, s.duration_ms, s.job_type FROM darkroom.stage_runs s
      WHERE s.event = 'finished' AND s.at > now() - interval '7 days' AND s.job_type = $1 AND s.duration_ms IS NOT NULL
      ORDER BY s.id DESC LIMIT $2) r
GROUP BY r.stage
"""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """How long a stage took.

    Attributes:
        stage: its name.
        runs: finished runs that were read.
        mean_s: their mean.
        variability: their variance divided by the square of their mean: 0 for a constant, 1 for exponential times.
    """

    stage: str
    runs: int
    mean_s: float
    variability: float


async def stage_seconds(connection: Connection, job_type: str) -> list[StageSeconds]:
    """Return how long each stage of a job type took in the last week, over all tiers; stages that didn't run lack."""
    rows = await connection.fetch(_SECONDS, job_type, MOST_RUNS)
    return [StageSeconds(row["stage"], row["runs"], float(row["mean_s"]), row["variability"]) for row in rows]
