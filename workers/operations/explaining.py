"""A job's history in order, and why it waits, as facts; also for a job whose row is deleted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeAlias

from models.applications.registry import table_of
from models.connections import Connection
from models.gate.operating import UNKNOWN
from models.history.actions import Action
from models.history.timeline import ProviderCall, RefusedEnd, StageRun, StoredObject
from models.job_state import TERMINAL
from models.job_tables.rendering import NOW, last_write
from models.money.job_money import MoneyMove
from models.queue.checkpoints import LeftOutput
from models.queue.job_names import key_of
from models.queue.job_records import JobRecords, job_records
from models.queue.job_rows import Job, jobs_at
from models.queue.outlook import Outlook
from models.queue.pause_records import Pause, pauses_between
from models.queue.waiting import QueuedJob, queued_job
from workers.gate.rules import stops_of
from workers.operations.errors import translated
from workers.operations.jobs import job_not_found, outlook_of
from workers.operations.recorded import recorded_job
from workers.operations.waiting import FOREVER, Waiting, waits_of
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of a call that was closed. `is_late`: its job's claim had been lost before."""

    call: ProviderCall
    is_late: bool


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that isn't closed.

    Attributes:
        call: its record, written before it was made.
        by: the job's place in the queue while a live worker waits for the answer; None if that worker died.
    """

    call: ProviderCall
    by: QueuedJob | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of a job's end that the database refused."""

    part: Literal["label", "refund"]
    end: RefusedEnd


Fact: TypeAlias = (
    Job
    | StageRun
    | ProviderCall
    | OpenCall
    | CallEnd
    | MoneyMove
    | Action
    | Refused
    | StoredObject
    | LeftOutput
    | Pause
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Attributes:
        at: when, to the millisecond.
        event: what happened: for a stage the name in its history, otherwise such as `submitted` or `call_closed`.
        fact: the record of it.
        stage: the stage in which it happened, if any.
        attempt: the attempt in which it happened, if any.
    """

    at: datetime
    event: str
    fact: Fact
    stage: str | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job's history, and why it waits.

    Attributes:
        job_id: its id.
        job: its row; None when it is deleted.
        timeline: what happened, oldest first.
        waits: why it waits, the first reason first; empty once it is over.
        outlook: its place, and the estimate of its end; None once it is over.
    """

    job_id: str
    job: Job | None
    timeline: Sequence[Event]
    waits: Sequence[Waiting]
    outlook: Outlook | None


@dataclass(frozen=True, slots=True)
class _Records:
    """All records about a job."""

    job_id: str
    job: Job | None
    queued: QueuedJob | None
    of_job: JobRecords


async def explain_job(runtime: Runtime, name: str) -> Explanation:
    """Return what happened to a job, given by its id or TABLE/ID, and why it waits.

    Raises:
        InvalidInputError: the id stands in several tables.
        NotFoundError: there is no record of such a job.
    """
    with translated():
        records = await runtime.database.run(lambda connection: _read(connection, name))
    job, queued, known = records.job, records.queued, records.of_job
    events = [
        *(Event(run.at, run.event, run, run.stage, run.attempt) for run in known.runs),
        *_calls(known.calls, known.runs, queued),
        *(Event(move.at, move.kind, move) for move in known.money),
        *(Event(action.at, "operator", action) for action in known.actions),
        *(Event(one.end.refused_at, "refused", one) for end in known.refused for one in _refused(end)),
        *(Event(one.created_at, "stored", one) for one in known.objects),
        *(Event(one.at, "left", one, one.stage) for one in known.left),
    ]
    if job is None and not events:
        raise job_not_found(name)
    pauses: Sequence[Pause] = ()
    if job is not None:
        events += _ends(job, known.runs, [event.at for event in events])
        pauses = await _pauses(runtime, job, queued)
        events += _pause_events(job, pauses)
    events = [replace(event, at=_to_milliseconds(event.at)) for event in events]
    events.sort(key=_place)
    waits = [] if job is None or job.status in TERMINAL else await waits_of(runtime, job, queued, pauses)
    outlook = None if job is None else await runtime.database.run(partial(outlook_of, job=job))
    return Explanation(records.job_id, job, events, waits, outlook)


async def _read(connection: Connection, name: str) -> _Records:
    job_id, types = await recorded_job(connection, name)
    job = None if types is None else next(iter(await jobs_at(connection, [key_of(types[0], job_id)])), None)
    queued = await queued_job(connection, job_id, types)
    return _Records(job_id, job, queued, await job_records(connection, job_id, types))


def _place(event: Event) -> tuple[datetime, int]:
    """Return the sort key of an event: its time; within a millisecond, the submission comes first and the end last."""
    return event.at, _PLACES.get(event.event, 1)


def _to_milliseconds(at: datetime) -> datetime:
    """Return a time rounded as PostgreSQL rounds the application's columns.

    Otherwise a charge would precede its job.
    """
    rounded = at + timedelta(microseconds=500)
    return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000)


_PLACES: Final = {"submitted": 0, "ended": 2}


def _ends(job: Job, runs: Sequence[StageRun], others: Sequence[datetime]) -> list[Event]:
    """Return the events of a job's submission and of its end.

    The history row of the end has the time at which its transaction began, so the job's row decides. A row without
    such columns says the present time: then the first and the last of the other events decide.
    """
    table = table_of(job.job_type)
    submitted, ended = _aware(job.created_at), _aware(job.completed_at or job.updated_at)
    if NOW in table.created:
        submitted = min([submitted, *others])
    if job.completed_at is None and NOW in last_write(table):
        ended = max(others, default=ended)
    events = [Event(submitted, "submitted", job)]
    if job.status in TERMINAL:
        events.append(Event(max([ended, *(run.at for run in runs[-1:])]), "ended", job))
    return events


def _aware(at: datetime) -> datetime:
    """Return an application's time, which is UTC without a zone, with its zone."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _calls(calls: Sequence[ProviderCall], runs: Sequence[StageRun], queued: QueuedJob | None) -> list[Event]:
    """Return two events for each call: its intent and its end.

    An answer that came after its claim was lost is of no use.
    """
    taken = {run.attempt: run.at for run in runs if run.event == "rescued"}
    events = []
    for call in calls:
        if call.outcome == "open" or call.finished_at is None:
            fact = OpenCall(call, queued if _is_in_flight(call, queued) else None)
            events.append(Event(call.started_at, "call_open", fact, None, call.attempt))
            continue
        late = taken.get(call.attempt)
        end = CallEnd(call, is_late=late is not None and call.finished_at > late and call.outcome != UNKNOWN)
        events.append(Event(call.started_at, "call_intended", call, None, call.attempt))
        events.append(Event(call.finished_at, "call_closed", end, None, call.attempt))
    return events


def _is_in_flight(call: ProviderCall, queued: QueuedJob | None) -> bool:
    """Return whether the job's present worker began a call and is alive."""
    if queued is None or queued.started_at is None or not queued.is_alive:
        return False
    return call.outcome == "open" and call.started_at >= queued.started_at


def _refused(end: RefusedEnd) -> list[Refused]:
    """Return an event for each part of an end that the database refused: the label, the refund, or both."""
    label = [Refused("label", end)] if end.label else []
    return [*label, Refused("refund", end)] if end.owed else label


async def _pauses(runtime: Runtime, job: Job, queued: QueuedJob | None) -> list[Pause]:
    queue = queued.queue if queued else "default"
    names = [f"queue:{queue}", f"type:{job.job_type}", f"tier:{job.tier}"]
    names += [name for stops in stops_of(runtime.settings) for name in stops]
    begun, ended = _aware(job.created_at), _end(job)
    return await runtime.database.run(lambda connection: pauses_between(connection, names, begun, ended))


def _end(job: Job) -> datetime:
    return _aware(job.updated_at) if job.status in TERMINAL else FOREVER


def _pause_events(job: Job, pauses: Sequence[Pause]) -> list[Event]:
    ended = _end(job)
    events = []
    for pause in pauses:
        events.append(Event(pause.paused_at, "paused", pause))
        if pause.resumed_at is not None and pause.resumed_at < ended:
            events.append(Event(pause.resumed_at, "resumed", pause))
    return events
