"""What provider calls cost, and the switch that stops buying."""

from typing import Any, Final, Literal

from models.connections import Connection
from workers.operations.actions import record_action
from workers.operations.pauses import remember_pause
from workers.process.compose import Runtime

By = Literal["user", "model", "day", "job"]

_COLUMNS: Final = {
    "user": """c.payer AS "user\"""",
    "model": "c.provider, c.model",
    "job": "c.job_type AS type, c.job_id AS job",
    "day": "date_trunc('day', c.started_at AT TIME ZONE 'utc')::date::text AS day",
}

# What a call cost is what the provider said, or its price by the table if it may have been paid and nothing was said.
_COSTS: Final = """
SELECT {columns}, count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'answered') AS answered,
       count(*) FILTER (WHERE c.outcome = 'open') AS open,
       coalesce(sum(c.images), 0) AS images, coalesce(sum(c.prompt_units), 0) AS prompt_units,
       coalesce(sum(c.output_units), 0) AS output_units,
       coalesce(sum(coalesce(c.cost_usd, CASE WHEN c.may_be_paid THEN c.quoted_usd ELSE 0 END)), 0) AS cost_usd
FROM darkroom.provider_calls c
WHERE c.payer IS NOT NULL AND c.started_at >= now() - make_interval(days => $1) AND ($3::text IS NULL OR c.job_id = $3)
GROUP BY {groups} ORDER BY {order} LIMIT $2
"""

_SWITCH: Final = """
INSERT INTO darkroom.settings (key, value) VALUES ('buying', $1)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""


async def list_costs(
    runtime: Runtime, by: By, *, days: int = 30, limit: int = 50, job_id: str | None = None
) -> list[dict[str, Any]]:
    """Return calls, units and USD of the last days, of one job or of all, by payer, model, day (of UTC) or job."""
    groups = "1, 2" if by in {"model", "job"} else "1"
    order = "1 DESC" if by == "day" else "cost_usd DESC, 1"
    sql = _COSTS.format(columns=_COLUMNS[by], groups=groups, order=order)
    return [dict(row) for row in await runtime.database.fetch(sql, days, limit, job_id)]


async def set_buying(runtime: Runtime, *, is_stopped: bool, actor: str, reason: str | None = None) -> dict[str, Any]:
    """Turn the kill switch: nothing is bought from the next call on; free providers go on. Return its state."""
    after = {"stopped": is_stopped, "reason": reason, "actor": actor}

    async def switch(connection: Connection) -> None:
        async with connection.transaction():
            before = await connection.fetchval("SELECT darkroom.setting('buying')")
            await remember_pause(connection, "buying")
            await connection.execute(_SWITCH, after)
            await record_action(
                connection, actor=actor, action="buying", target="all", before=before, after=after, reason=reason
            )

    await runtime.database.commit("switch_buying", switch)
    return after
