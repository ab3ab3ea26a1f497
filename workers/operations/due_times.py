"""Changes of when a waiting job is due: now, or at a time that an operator names."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from models.connections import Connection
from models.history.actions import record_job_action
from models.queue.due_times import Place, lock_place, make_due_later, make_due_now
from models.queue.job_rows import Job, read_jobs
from workers.gate.rules import stops_of
from workers.operations.errors import JobNotWaitingError, OperationError, translated
from workers.operations.jobs import job_not_found
from workers.process.runtime import Runtime


async def run_now(runtime: Runtime, name: str, *, actor: str, reason: str | None = None) -> datetime:
    """Make a waiting job due at once and wake a worker; return since when the job is due. Idempotent.

    Raises:
        InvalidInputError: the name is an id that stands in several tables; TABLE/ID names one of them.
        JobNotWaitingError: the job runs or is over.
        NotFoundError: there is no such job.
        OperationError: the job waits for a pause to end, or for its producer.
    """

    async def change(connection: Connection, job: Job, place: Place) -> datetime:
        if place.paused_by is not None:
            raise OperationError(
                f"job {name} is due, and {place.paused_by} is paused; `darkroom queue resume` ends that"
            )
        if place.status == "pending":
            return place.scheduled_at
        due_at = await make_due_now(connection, place)
        await _record(connection, "job_run_now", job, place, due_at, actor=actor, reason=reason)
        return due_at

    return await _changed(runtime, name, change)


async def reschedule(
    runtime: Runtime, name: str, at: datetime | timedelta, *, actor: str, reason: str | None = None
) -> datetime:
    """Make a waiting job due at a time, or after a duration from the database's present time; return the time.

    Raises:
        InvalidInputError: the name is an id that stands in several tables; TABLE/ID names one of them.
        JobNotWaitingError: the job runs or is over.
        NotFoundError: there is no such job.
        OperationError: the time is past, or the maximum wait would end the job before; or it waits for its producer.
    """

    async def change(connection: Connection, job: Job, place: Place) -> datetime:
        wanted = place.at(at)
        if wanted <= place.now:
            raise OperationError(f"{wanted:%Y-%m-%d %H:%M:%S %Z} is past; `darkroom jobs run-now` makes a job due now")
        if wanted >= place.ends_at:
            raise OperationError(
                f"job {name} can't wait until {wanted:%Y-%m-%d %H:%M:%S %Z}: it ends and is refunded "
                f"at {place.ends_at:%Y-%m-%d %H:%M:%S %Z}, {runtime.settings.max_wait_s:g} s after its submission "
                "(DARKROOM_MAX_WAIT_S)"
            )
        due_at = await make_due_later(connection, place, wanted)
        await _record(connection, "job_reschedule", job, place, due_at, actor=actor, reason=reason)
        return due_at

    return await _changed(runtime, name, change)


async def _changed(
    runtime: Runtime, name: str, change: Callable[[Connection, Job, Place], Awaitable[datetime]]
) -> datetime:
    """Run `change` in a transaction that has locked the job's place in the queue, and wake a worker.

    Return the new time.
    """
    queue = ""

    async def locked(connection: Connection) -> datetime:
        nonlocal queue
        async with connection.transaction():
            job = await _require(connection, name)
            max_wait_s, stops = runtime.settings.max_wait_s, stops_of(runtime.settings)
            place = await lock_place(connection, job.job_type, job.id, max_wait_s=max_wait_s, stops=stops)
            if place is None or place.status == "processing":
                raise JobNotWaitingError(name, (await _require(connection, name)).status)
            if place.waits_for_producer:
                raise OperationError(f"job {name} waits for its producer, who alone can make it due")
            queue = place.queue
            return await change(connection, job, place)

    with translated():
        due_at = await runtime.database.commit("change_due_time", locked)
    await runtime.wake(queue)
    return due_at


async def _require(connection: Connection, name: str) -> Job:
    jobs = await read_jobs(connection, [name])
    if not jobs:
        raise job_not_found(name)
    return jobs[0]


async def _record(
    connection: Connection,
    action: str,
    job: Job,
    place: Place,
    due_at: datetime,
    *,
    actor: str,
    reason: str | None,
) -> None:
    before, after = ({"scheduledAt": at.isoformat()} for at in (place.scheduled_at, due_at))
    await record_job_action(
        connection, job.job_type, job.id, actor=actor, action=action, before=before, after=after, reason=reason
    )
