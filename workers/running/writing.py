"""The write of a claim's transition: fenced, and patient with PostgreSQL and with rows that others hold."""

from typing import Final

from models.connections import ContentionError
from models.database import Database
from models.queue.claims import prolong
from models.queue.transitions import Transition, record
from workers.running.job import RunningJob
from workers.running.patience import LANE_PATIENCE_S, with_database

PROLONGED_S: Final = 30.0
"""How long a claim lives at least whose result waits for a row; more than the time from one try to the next."""


async def write(
    database: Database, job: RunningJob, transition: Transition, *, contention_s: float | None = None
) -> None:
    """Write a transition under the claim's fence; a PostgreSQL that is gone is waited for.

    For a row that another program holds it waits `contention_s`, and for LANE_PATIENCE_S of it in its lane.

    Raises:
        FencedError: another holds the job, or it is over; nothing was written.
        ContentionError, asyncpg.PostgresError: its row is held for longer, or the database refuses the change.
    """
    name = f"record_{type(transition).__name__.lower()}"

    async def once() -> None:
        try:
            await database.commit(
                name, lambda connection: record(connection, job.claim, transition), patience_s=LANE_PATIENCE_S
            )
        except ContentionError:  # the result is in hand: the stage's deadline has nothing more to say
            await database.commit(
                "prolong", lambda connection: prolong(connection, job.claim, PROLONGED_S), patience_s=0
            )
            raise

    with job.recording():
        await with_database(once, contention_s=contention_s, waiting=job)
