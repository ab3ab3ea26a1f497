"""The write of a claim's transition: fenced, and patient with PostgreSQL and with rows that others hold."""

from functools import partial
from typing import Final

from models.connections import ContentionError
from models.database import Database
from models.patience import LANE_PATIENCE_S, Waiting, with_database
from models.queue.claims import Claim, prolong
from models.queue.transitions import Transition, record

PROLONGED_S: Final = 30.0
"""How long a claim lives at least whose result waits for a row; more than the time from one try to the next."""


async def write(
    database: Database, claim: Claim, transition: Transition, *, waiting: Waiting, contention_s: float | None = None
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
            await database.commit(name, partial(record, claim=claim, transition=transition), patience_s=LANE_PATIENCE_S)
        except ContentionError:  # the result is in hand: the stage's deadline has nothing more to say
            await database.commit("prolong", partial(prolong, held=claim, at_least_s=PROLONGED_S), patience_s=0)
            raise

    await with_database(once, contention_s=contention_s, waiting=waiting)
