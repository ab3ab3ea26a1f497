"""Places of unfinished jobs under the fair order, and estimates of their ends; models/queue/progress.sql."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.queue.job_names import JobKey

_OUTLOOKS: Final = """
SELECT a.id, p.status, p.stage, p.attempt, p.place, p.eta_s, p.eta_50_low_s, p.eta_50_high_s, p.eta_90_low_s,
       p.eta_90_high_s, p.waits_for
FROM unnest($1::text[]) a (id) CROSS JOIN LATERAL darkroom.job_progress(a.id) p
"""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What `darkroom.job_progress` tells of a job.

    Attributes:
        status: the job's status.
        stage: the stage that runs, or the next one; None once the job is over.
        attempt: the present attempt, or how many there were.
        place: 1 for the job that is claimed next; None if it waits for no turn, or if more than 10,000 come before it.
        eta_s: seconds until the job is over; None if that can't be estimated.
        eta_50_low_s: with the next, the range that holds half of the ends.
        eta_50_high_s: see the one before.
        eta_90_low_s: with the next, the range that holds nine tenths of the ends.
        eta_90_high_s: see the one before.
        waits_for: what it waits for and what the estimate assumes, in words; None while it runs and once it is over.
    """

    status: str
    stage: str | None
    attempt: int | None
    place: int | None
    eta_s: float | None
    eta_50_low_s: float | None
    eta_50_high_s: float | None
    eta_90_low_s: float | None
    eta_90_high_s: float | None
    waits_for: str | None


async def outlooks(connection: Connection, keys: Iterable[JobKey]) -> dict[JobKey, Outlook]:
    """Return the outlook of jobs; keys of no job are left out."""
    named = {key.full_name: key for key in keys}
    return {named[row["id"]]: Outlook(*row[1:]) for row in await connection.fetch(_OUTLOOKS, list(named))}
