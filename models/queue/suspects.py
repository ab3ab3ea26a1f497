"""Suspects: jobs whose worker died while they ran, claimed one at a time by a process that runs nothing else.

Any job that a process ran may have killed it. A suspect that kills a process in which it runs alone is known, and is
quarantined; the others of the same death are then claimed like any job. A suspect that passes the stage at which its
worker died is none any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from models.connections import Connection
from models.database import Database
from models.queue.candidates import LostClaim
from models.queue.refusals import Claimed, claim_singly
from models.queue.transitions import JobRef

QUARANTINE_KILLS: Final = 2
"""How many workers must die at the same stage of a job, the last one while it ran nothing else, to end the job."""

_FIRST_REVISION: Final = "darkroom_0005"
"""Workers of an earlier revision claim suspects beside other jobs, and leave no place for them."""

_AT_ONCE: Final = 10
"""How many suspects of a queue one look returns: other processes may take the first ones at the same time."""

# A paused suspect may still be in the index, because only a claim of many jobs takes paused rows out of it.
_DUE: Final = f"""
SELECT s.id, s.job_type, s.job_id, k.queue, coalesce(first.id = $1, false) AS is_first
FROM unnest($2::text[]) k (queue)
CROSS JOIN (SELECT coalesce(darkroom.setting('pauses'), '{{}}') AS now) p
CROSS JOIN LATERAL (
    SELECT q.id, q.job_type, q.job_id FROM darkroom.job_queue q
    WHERE q.queue = k.queue AND q.suspect_of IS NOT NULL
      AND (q.ready AND q.status = 'pending'
           OR q.refused_since IS NOT NULL AND q.status = 'retrying' AND q.scheduled_at <= now())
      AND NOT p.now ? ('queue:' || q.queue) AND darkroom.pause_of(q.job_type, q.tier, p.now) IS NULL
    ORDER BY q.position, q.id LIMIT {_AT_ONCE}) s
LEFT JOIN LATERAL (
    SELECT w.id FROM darkroom.workers w
    WHERE w.lease_expires_at > now() AND k.queue = ANY (w.queues) AND w.revision >= '{_FIRST_REVISION}'
    ORDER BY w.id LIMIT 1) first ON true
"""
_CLEAR: Final = """
UPDATE darkroom.job_queue q SET suspect_of = NULL
WHERE q.id = ANY (ARRAY(
    SELECT s.id FROM darkroom.job_queue s
    WHERE s.suspect_of IS NOT NULL AND s.suspect_of = $1 AND s.status <> 'processing'
    ORDER BY s.id FOR UPDATE SKIP LOCKED))
RETURNING q.id
"""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A suspect that may be claimed now.

    `is_first` says whether the asking worker is the one that has to run the suspects of this queue before other jobs:
    the live worker with the smallest id.
    """

    job: JobRef
    queue: str
    is_first: bool


async def due_suspects(connection: Connection, worker_id: UUID, queues: Sequence[str]) -> list[Suspect]:
    """Return the next suspects of some queues, of each queue a few in the order of their positions."""
    rows = await connection.fetch(_DUE, worker_id, list(queues))
    return [
        Suspect(JobRef(row["job_type"], row["job_id"], row["id"]), row["queue"], is_first=row["is_first"])
        for row in rows
    ]


async def claim_suspect(
    database: Database, worker_id: UUID, suspects: Sequence[Suspect], deadlines_s: Mapping[str, float]
) -> Claimed:
    """Claim the first of some suspects that is still free, for a process that runs no job.

    Args:
        database: where the queue is.
        worker_id: the process that will hold the job. It must claim no other one until this claim has ended.
        suspects: as `due_suspects` returned them.
        deadlines_s: as in `models.queue.claims.claim`.
    """
    refused = 0
    for queue in dict.fromkeys(one.queue for one in suspects):
        jobs = [one.job for one in suspects if one.queue == queue]
        claimed = await claim_singly(database, jobs, worker_id, queue, 1, deadlines_s, is_alone=True)
        refused += claimed.refused
        if claimed.claims:
            return Claimed(claimed.claims, refused)
    return Claimed(refused=refused)


def is_killer(claim: LostClaim) -> bool:
    """Return whether a job is known to kill workers: its worker died, not for the first time, and ran nothing else."""
    return claim.suspect_of is not None and claim.kills + 1 >= QUARANTINE_KILLS


async def clear_others(database: Database, killer: LostClaim) -> int:
    """Make the other suspects of a death claimable like any job, since the one that killed is known.

    Return how many there were. A row that is locked stays a suspect, and so does one that a process runs.
    """
    if killer.suspect_of is None:
        return 0
    death = killer.suspect_of
    return len(await database.commit("clear_suspects", lambda connection: connection.fetch(_CLEAR, death)))
