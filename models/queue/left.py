"""Which jobs of some queues run or will run by themselves, and which wait for an operator."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from models.connections import Connection

MOST_NAMED: Final = 10
"""How many jobs are named of those that wait for the same reason."""

_LEFT: Final = f"""
SELECT w.why, count(*)::integer AS count, (array_agg(q.job_id ORDER BY q.id))[1:{MOST_NAMED}] AS job_ids
FROM (SELECT coalesce(darkroom.setting('pauses'), '{{}}') AS now) p
CROSS JOIN darkroom.job_queue q
CROSS JOIN LATERAL (SELECT darkroom.pause_of(q.job_type, q.tier, p.now) AS pause) o
CROSS JOIN LATERAL (
    SELECT CASE WHEN q.status = 'processing' THEN NULL
                WHEN p.now ? ('queue:' || q.queue) THEN format('queue %s is paused', q.queue)
                WHEN o.pause IS NOT NULL THEN replace(o.pause, ':', ' ') || ' is paused'
                WHEN q.refused_since IS NOT NULL THEN concat('the database refuses to start it: ', q.last_error)
                WHEN q.scheduled_at = 'infinity' THEN 'its producer has not finished it'
                WHEN $2::text IS NOT NULL THEN $2
                WHEN q.status = 'retrying' AND q.scheduled_at > now()
                     AND EXISTS (SELECT FROM unnest($3::text[]) spent WHERE position(spent IN q.last_error) > 0)
                THEN q.last_error END AS why) w
WHERE q.queue = ANY ($1)
GROUP BY w.why ORDER BY w.why NULLS FIRST
"""


@dataclass(frozen=True, slots=True)
class Left:
    """Unfinished jobs that wait for the same reason.

    Attributes:
        why: what keeps them waiting until an operator ends it; None for jobs that run, or will run without an operator.
        count: how many there are.
        job_ids: the first MOST_NAMED of them.
    """

    why: str | None
    count: int
    job_ids: Sequence[str]


async def jobs_left(
    connection: Connection, queues: Sequence[str], *, stopped: str | None, spent: Collection[str]
) -> list[Left]:
    """Return the unfinished jobs of some queues grouped by what they wait for.

    The group of jobs that run, or will run, comes first.

    Args:
        connection: to the database.
        queues: which are looked at.
        stopped: why no provider may be called until an operator says so; None if one may be called now, or
            may be again without an operator.
        spent: the reasons for which the gate refuses calls until an operator raises a budget: a job that was put off
            for one of them is tried again each hour, and put off again.
    """
    return [Left(**row) for row in await connection.fetch(_LEFT, list(queues), stopped, list(spent))]
