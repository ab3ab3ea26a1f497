"""How long stages take, by the last runs of each (`darkroom.stage_times`)."""

from collections.abc import Iterable, Mapping
from typing import Final

from models.connections import Connection

_MEANS: Final = """
SELECT k.job_type, k.tier, t.stage, t.mean_s
FROM unnest($1::text[], $2::text[]) k (job_type, tier) CROSS JOIN LATERAL darkroom.stage_times(k.job_type, k.tier) t
"""


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
