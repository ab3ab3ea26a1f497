"""Jobs without a queue row: the terms of their adoption, and taking over those of another worker."""

from models.history.actions import record_action
from models.queue.unqueued import AdoptionTerms, TakeOverCounts, take_over
from pipelines.job_types import stage_deadlines
from pipelines.settings import Settings
from workers.gate.rules import stops_of
from workers.process.runtime import make_direct_database
from workers.services.services import Services


def adoption_terms(settings: Settings) -> AdoptionTerms:
    """Return the conditions on which schedulers adopt, or end, jobs without a queue row."""
    return AdoptionTerms.of(settings.max_wait_s, list(stage_deadlines(settings).values()), stops_of(settings))


async def take_over_jobs(settings: Settings, services: Services, *, actor: str) -> TakeOverCounts:
    """Queue the unfinished jobs that another worker than Darkroom's left in these tables; record who asked for it.

    Raises:
        OSError, asyncpg.PostgresError: the database doesn't answer or refuses.
    """
    database = make_direct_database(services, most_connections=2)
    await database.open()
    try:
        taken = await take_over(database, adoption_terms(settings), actor=actor)
        after = {"takenIn": taken.taken_in, "ended": taken.ended, "left": taken.left}
        await database.commit(
            "record_take_over",
            lambda connection: record_action(
                connection, actor=actor, action="db_take_over", target="jobs", after=after
            ),
        )
        return taken
    finally:
        await database.close()
