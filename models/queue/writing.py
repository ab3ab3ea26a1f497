"""Writes of a claim's transition: fenced, and repeated while PostgreSQL is unreachable or the rows are locked."""

from functools import partial
from typing import Final

from models.connections import ContentionError
from models.database import Database
from models.database_retries import LANE_RETRY_S, Waiting, with_database_retries
from models.queue.claims import Claim, prolong
from models.queue.transitions import Transition, record

PROLONGED_S: Final = 30.0
"""Seconds for which a claim is prolonged while its result waits for a locked row.

They are more than the pause between tries.
"""


async def write(
    database: Database, claim: Claim, transition: Transition, *, waiting: Waiting, contention_s: float | None = None
) -> None:
    """Write a transition under the claim's fence. While PostgreSQL is unreachable, wait and repeat it.

    If another program holds a row, wait up to `contention_s` for it; after the first LANE_RETRY_S the job leaves its
    lane.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
        ContentionError, asyncpg.PostgresError: its row was locked for longer, or the database refused the change.
    """
    name = f"record_{type(transition).__name__.lower()}"

    async def once() -> None:
        try:
            await database.commit(name, partial(record, claim=claim, transition=transition), retry_for_s=LANE_RETRY_S)
        except ContentionError:  # the stage has finished, so its deadline no longer applies
            await database.commit("prolong", partial(prolong, held=claim, at_least_s=PROLONGED_S), retry_for_s=0)
            raise

    await with_database_retries(once, contention_s=contention_s, waiting=waiting)
