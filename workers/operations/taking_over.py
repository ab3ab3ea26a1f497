"""Jobs without a queue row, as operators meet them: when they are taken in, and taking over from another worker."""

from typing import Any, Final

from config.embedded.services import Services
from config.settings import Settings
from models.queue.left_behind import TakeInTerms, TakenOver, take_over
from workers.gate.rules import stops_of
from workers.operations.actions import record_action
from workers.process.compose import Runtime, make_direct_database

_UNQUEUED: Final = """
SELECT darkroom.takes_over() AS takes_over,
       extract(epoch FROM darkroom.utc_now() - greatest($1::timestamp, $2::timestamp))::float8 AS silent_s,
       extract(epoch FROM darkroom.utc_now() - $3::timestamp)::float8 AS age_s,
       EXISTS (SELECT FROM darkroom.job_money m WHERE m.job_type = $4 AND m.job_id = $5 AND m.kind = 'refund')
           AS is_refunded
"""


def take_in_terms(settings: Settings) -> TakeInTerms:
    """Return the terms on which schedulers take in, and end, jobs without a queue row."""
    return TakeInTerms.of(settings.max_wait_s, list(settings.stage_deadlines.values()), stops_of(settings))


async def take_over_jobs(settings: Settings, services: Services, *, actor: str) -> TakenOver:
    """Take over the unfinished jobs of the worker that was here before, and record who did.

    Raises:
        OSError, asyncpg.PostgresError: the database doesn't answer or refuses.
    """
    database = make_direct_database(services, most_connections=2)
    await database.open()
    try:
        taken = await take_over(database, take_in_terms(settings), actor=actor)
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


async def unqueued_words(runtime: Runtime, job: Any) -> str:
    """Say what becomes of an unfinished job that has no queue row."""
    row = await runtime.database.fetchrow(
        _UNQUEUED, job["updatedAt"], job["processingStartedAt"], job["createdAt"], job["jobType"], job["id"]
    )
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    terms = take_in_terms(runtime.settings)
    where = "it isn't in the queue"
    if job["status"] == "PROCESSING":
        where = "it isn't in the queue, though it is PROCESSING: another worker holds it, or left it, or a restore did"
    if not row["takes_over"]:
        return f"{where}; these tables were made by another tool, and `darkroom db upgrade --take-over` takes it in"
    wait_s = terms.silence_s - row["silent_s"] if job["status"] == "PROCESSING" else 0
    when = f"in {wait_s:.0f} s" if wait_s > 0 else "within 10 s of starting"
    if row["is_refunded"] or row["age_s"] >= terms.max_wait_s:
        why = "it is refunded already" if row["is_refunded"] else f"it is older than {terms.max_wait_s:g} s"
        return f"{where}; a scheduler ends it {when}, because {why}"
    return f"{where}; a scheduler takes it in {when}"
