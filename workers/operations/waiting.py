"""Why an unfinished job waits, as facts. The command line turns them into words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from models.connections import Connection
from models.job_state import TERMINAL
from models.queue.job_names import JobKey
from models.queue.job_rows import Job, jobs_at
from models.queue.pause_records import Pause, pauses_between
from models.queue.waiting import QueuedJob, UnlabelledEnd, is_row_held, queued_job, unlabelled_end, unqueued_job
from models.schema.server import IdleSession, idle_session
from workers.operations.shut_providers import ShutProvider, shut_providers
from workers.operations.taking_over import adoption_terms
from workers.process.runtime import Runtime

FOREVER: Final = datetime.max.replace(tzinfo=UTC)

Kind = Literal[
    "running",
    "lost",
    "paused",
    "gate",
    "passed_over",
    "refused",
    "producer",
    "scheduled",
    "max_wait",
    "held",
    "no_worker",
    "busy",
    "alone",
    "cap",
    "turn",
    "unqueued",
    "end_refused",
]


@dataclass(frozen=True, slots=True)
class Unqueued:
    """What happens to an unfinished job without a queue row.

    Attributes:
        is_processing: whether the job's row says PROCESSING.
        takes_over: whether schedulers adopt jobs that another worker left on these tables, without an operator's
            command.
        ends_because: why a scheduler will end the job; None if a scheduler will adopt it.
        max_wait_s: the maximum wait.
    """

    is_processing: bool
    takes_over: bool
    ends_because: Literal["refunded", "too old"] | None
    max_wait_s: float


By: TypeAlias = QueuedJob | Pause | tuple[ShutProvider, ...] | IdleSession | UnlabelledEnd | Unqueued | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """One reason why a job waits.

    Attributes:
        kind: the kind of the reason.
        until: when the wait ends by itself, as far as that is known.
        by: the facts of the cause; for most kinds the job's own place in the queue.
        now: the database's time when these were read, from which `until` is counted.
    """

    kind: Kind
    until: datetime | None
    by: By
    now: datetime


async def waits_of(
    runtime: Runtime, job: Job, queued: QueuedJob | None, pauses: Sequence[Pause] | None = None
) -> list[Waiting]:
    """Return why an unfinished job waits; the first one is the reason that has to end before the others matter.

    `pauses` are those since its creation that may concern it, if the caller has read them.
    """
    if queued is None:
        return [await _unqueued(runtime, job)]
    now = queued.now
    if queued.status == "processing":
        return [Waiting("running" if queued.is_alive else "lost", queued.deadline_at, queued, now)]
    found = [*reversed(await _pauses(runtime, queued, pauses)), *await _shut_providers(runtime, now)]
    found += _put_off(queued, runtime.settings.max_wait_s)
    if await runtime.database.run(lambda connection: is_row_held(connection, job.job_type, job.id)):
        found.append(Waiting("held", None, await runtime.database.run(idle_session), now))
    if not queued.lanes:
        found.append(Waiting("no_worker", None, queued, now))
    elif queued.is_full and queued.suspect_of is None:
        found.append(Waiting("busy", None, queued, now))
    if queued.suspect_of is not None:
        found.append(Waiting("alone", None, queued, now))
    if queued.held_by == "cap":
        found.append(Waiting("cap", None, queued, now))
    elif queued.status == "pending":
        found.append(Waiting("turn", None, queued, now))
    return found


async def first_waits(runtime: Runtime, keys: Sequence[JobKey]) -> dict[JobKey, Waiting]:
    """Return the first reason why each of some jobs waits; jobs that run or are over are left out."""

    async def read(connection: Connection) -> list[tuple[Job, QueuedJob | None]]:
        jobs = [job for job in await jobs_at(connection, keys) if job.status not in TERMINAL]
        return [(job, await queued_job(connection, job.id, job.key.table.job_types)) for job in jobs]

    found: dict[JobKey, Waiting] = {}
    for job, queued in await runtime.database.run(read):
        waits = [one for one in await waits_of(runtime, job, queued) if one.kind not in {"running", "passed_over"}]
        if waits:
            found[job.key] = waits[0]
    return found


async def _pauses(runtime: Runtime, queued: QueuedJob, pauses: Sequence[Pause] | None) -> list[Waiting]:
    names = [f"queue:{queued.queue}", f"type:{queued.job_type}", f"tier:{queued.tier}"]
    if pauses is None:
        pauses = await runtime.database.run(lambda connection: pauses_between(connection, names, queued.now, FOREVER))
    else:
        pauses = [one for one in pauses if one.name in names and (one.resumed_at or FOREVER) > queued.now]
    return [Waiting("paused", None, pause, queued.now) for pause in pauses]


def _put_off(queued: QueuedJob, max_wait_s: float) -> list[Waiting]:
    """Return until when a job is put off: by its retry, its producer, or because the database refuses to start it."""
    if queued.refused_since is not None:
        return [Waiting("refused", queued.scheduled_at, queued, queued.now)]
    if queued.waits_for_producer:
        return [Waiting("producer", None, queued, queued.now)]
    if queued.status != "retrying" or queued.scheduled_at <= queued.now:
        return []
    found = [Waiting("scheduled", queued.scheduled_at, queued, queued.now)]
    end = max(queued.created_at, queued.run_at or queued.created_at) + timedelta(seconds=max_wait_s)
    if queued.scheduled_at > end:
        found.append(Waiting("max_wait", end, queued, queued.now))
    return found


async def _shut_providers(runtime: Runtime, now: datetime) -> Sequence[Waiting]:
    """Return a reason to wait if no provider may be called; no reason if any provider may."""
    settings = runtime.settings
    shut = await runtime.database.run(lambda connection: shut_providers(connection, settings))
    if not shut:
        return []
    ends_s = [one.wait_s for one in shut if not one.is_stopped]
    until = now + timedelta(seconds=min(ends_s)) if ends_s else None
    return [Waiting("gate" if len(shut) == len(settings.providers) else "passed_over", until, shut, now)]


async def _unqueued(runtime: Runtime, job: Job) -> Waiting:
    """Return what happens to an unfinished job that has no queue row."""
    database = runtime.database
    end = await database.run(lambda connection: unlabelled_end(connection, job.job_type, job.id))
    if end is not None:
        return Waiting("end_refused", None, end, end.now)
    terms = adoption_terms(runtime.settings)
    found = await database.run(
        lambda connection: unqueued_job(
            *(connection, job.job_type, job.id),
            updated_at=job.updated_at,
            started_at=job.started_at,
            created_at=job.created_at,
        )
    )
    is_processing = job.status == "PROCESSING"
    wait_s = terms.silence_s - found.silent_s if is_processing and found.takes_over else 0
    ends_because: Literal["refunded", "too old"] | None = None
    if found.is_refunded or found.age_s >= terms.max_wait_s:
        ends_because = "refunded" if found.is_refunded else "too old"
    fact = Unqueued(is_processing, found.takes_over, ends_because, terms.max_wait_s)
    return Waiting("unqueued", found.now + timedelta(seconds=wait_s) if wait_s > 0 else None, fact, found.now)
