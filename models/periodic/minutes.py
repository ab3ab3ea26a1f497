"""What happened in the last minutes, hours and today, from the roll-ups and from what they don't have yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.connections import Connection

MOST_ENDS: Final = 999
"""How many ends of jobs that aren't rolled up yet are read; a scheduler rolls them up each minute."""

# Where no index is asked, times are computed by subqueries, once and not for each row
_ENDS: Final = f"""
WITH recent AS MATERIALIZED (
    SELECT date_trunc('minute', e.at, 'UTC') AS minute, e.job_type, e.tier, e.outcome
    FROM (SELECT * FROM darkroom.job_ends LIMIT {MOST_ENDS}) e),
left_out AS MATERIALIZED (SELECT CASE WHEN count(*) = {MOST_ENDS} THEN min(r.minute) END AS since FROM recent r),
ends AS (
    SELECT m.minute, m.job_type, m.tier, m.outcome, m.jobs FROM darkroom.job_minutes m
    WHERE m.minute > now() - interval '1 day'
    UNION ALL
    SELECT r.*, 1 FROM recent r WHERE r.minute > (SELECT now() - interval '1 day')),
sums AS (
    SELECT e.job_type, e.tier, e.outcome, sum(e.jobs)::bigint AS jobs,
           coalesce(sum(e.jobs) FILTER (WHERE e.minute >= (SELECT date_trunc('day', now(), 'UTC'))), 0)::bigint AS today
    FROM ends e GROUP BY 1, 2, 3)
SELECT NULL::timestamptz AS minute, s.job_type, s.tier, s.outcome, s.jobs, s.today, l.since
FROM sums s CROSS JOIN left_out l
UNION ALL
SELECT e.minute, NULL, NULL, e.outcome, sum(e.jobs)::bigint, 0, (SELECT l.since FROM left_out l)
FROM ends e WHERE e.minute >= (SELECT date_trunc('minute', now(), 'UTC') - make_interval(mins => $1))
GROUP BY 1, 4
ORDER BY 1, 2, 3, 4
"""
_WAITING: Final = """
SELECT m.minute, coalesce(sum(m.jobs) FILTER (WHERE m.status = 'waiting'), 0)::bigint AS jobs
FROM darkroom.queue_minutes m
WHERE m.minute >= date_trunc('minute', now(), 'UTC') - make_interval(mins => $1) GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """Jobs of a type and tier that ended alike.

    Attributes:
        job_type: their type.
        tier: their tier.
        outcome: their terminal status, or DELETED.
        last_day: how many ended in the last 24 hours.
        today: how many of these ended since midnight UTC.
    """

    job_type: str
    tier: str
    outcome: str
    last_day: int
    today: int


@dataclass(frozen=True, slots=True)
class EndedInMinute:
    """How many jobs ended alike in a minute. In a minute without such jobs there is no object."""

    minute: datetime
    outcome: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends of jobs.

    Attributes:
        jobs: those of the last 24 hours, by type, tier and outcome.
        minutes: those of the last minutes, by minute and outcome, oldest first. The present minute isn't over.
        unknown_since: from which minute on some are missing, because more than MOST_ENDS aren't rolled up; None if none
            are.
    """

    jobs: Sequence[EndedJobs]
    minutes: Sequence[EndedInMinute]
    unknown_since: datetime | None


@dataclass(frozen=True, slots=True)
class WaitingInMinute:
    """How many jobs waited in a minute. For a minute in which nobody counted there is no object."""

    minute: datetime
    jobs: int


async def ended_jobs(connection: Connection, *, minutes: int) -> Ends:
    """Return the jobs that ended in the last day, and in each of the last `minutes` minutes."""
    rows = await connection.fetch(_ENDS, minutes)
    return Ends(
        [
            EndedJobs(row["job_type"], row["tier"], row["outcome"], row["jobs"], row["today"])
            for row in rows
            if row["minute"] is None
        ],
        [EndedInMinute(row["minute"], row["outcome"], row["jobs"]) for row in rows if row["minute"] is not None],
        next((row["since"] for row in rows), None),
    )


async def waiting_jobs(connection: Connection, *, minutes: int) -> list[WaitingInMinute]:
    """Return how many jobs waited in the last `minutes` minutes, oldest first."""
    return [WaitingInMinute(**row) for row in await connection.fetch(_WAITING, minutes)]
