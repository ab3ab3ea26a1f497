"""Writes of one claim's events, each alone: fenced, and repeated while PostgreSQL is unreachable or rows are locked."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from models.connections import Connection, ContentionError
from models.database import Database
from models.database_retries import LANE_RETRY_S, Waiting, with_database_retries
from models.history.artifacts import Artifact, record_artifact
from models.queue.claims import Claim, prolong
from models.queue.ended import Ended
from models.queue.transitions import Transition, record_end

Event: TypeAlias = Transition | Artifact
"""What a claim writes: a transition of its job, or the record of a picture that it has stored."""

PROLONGED_S: Final = 30.0
"""Seconds for which a claim is prolonged while its result waits for a locked row.

They are more than the pause between tries.
"""

TURN_S: Final = 1.0
"""For how long, in seconds, one turn of a write repeats its statement if it meets locks."""


def commit_name(kind: type[Event]) -> str:
    """Return the name of the failpoints at the commit of an event of a kind, such as `record_completed`."""
    return f"record_{kind.__name__.lower()}"


async def write_alone(
    database: Database, claim: Claim, *events: Event, waiting: Waiting, contention_s: float | None = None
) -> Ended | None:
    """Write an event, or checkpoints together, under the claim's fence. While PostgreSQL is unreachable, repeat it.

    Return what the job is now; None for the record of a picture, which leaves the job as it is.

    If another program holds a row, wait up to `contention_s` for it; after the first LANE_RETRY_S the job leaves its
    lane. Only so many writes wait at once that other work finds connections.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
        ContentionError, asyncpg.PostgresError: its row was locked for longer, or the database refused the change.
    """
    name, work = commit_name(type(events[-1])), _work(claim, events)

    async def once() -> Ended | None:
        try:
            async with database.turns_to_wait:
                return await database.commit(name, work, retry_for_s=min(TURN_S, LANE_RETRY_S))
        except ContentionError:  # the stage has finished, so its deadline no longer applies
            await database.commit("prolong", partial(prolong, held=[(claim, PROLONGED_S)]), retry_for_s=0)
            raise

    return await with_database_retries(once, contention_s=contention_s, waiting=waiting)


def _work(claim: Claim, events: Sequence[Event]) -> Callable[[Connection], Awaitable[Ended | None]]:
    transitions = [one for one in events if not isinstance(one, Artifact)]
    artifact = events[0]
    if isinstance(artifact, Artifact):
        return partial(record_artifact, claim=claim, artifact=artifact)
    return lambda connection: record_end(connection, claim, *transitions)
