"""What follows from changed queues of stages: waiting jobs are moved, and queues that nobody serves are named."""

from dataclasses import dataclass
from functools import partial

from config.job_terms import DEFAULT_QUEUE
from models.queue.queues import UnservedQueue, move_page, unserved_queues
from workers.process.runtime import make_direct_database
from workers.services.services import Services


@dataclass(frozen=True, slots=True)
class SettledQueues:
    """How many waiting jobs were moved into the queues of their stages, and the queues that no live worker serves."""

    moved: int
    unserved: list[UnservedQueue]


async def settle_stage_queues(services: Services) -> SettledQueues:
    """Move waiting jobs into the queues of their stages, as recorded. Idempotent.

    Each page is a transaction of its own. After an interruption, workers and schedulers move the other jobs as soon as
    these can be claimed. Queue `default` isn't named while it is empty, because an upgrade usually precedes the start
    of workers.

    Raises:
        OSError, asyncpg.PostgresError: the database doesn't answer or refuses.
    """
    database = make_direct_database(services, most_connections=2)
    await database.open()
    try:
        moved = 0
        last: int | None = 0
        while last is not None:
            page = await database.commit("move_to_queues", partial(move_page, after_id=last))
            moved, last = moved + page.moved, page.last_id
        unserved = await database.run(unserved_queues)
        return SettledQueues(moved, [one for one in unserved if one.queue != DEFAULT_QUEUE or one.waiting])
    finally:
        await database.close()
