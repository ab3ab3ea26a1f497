"""Sentences about a job's history, and about why it waits."""

import json
from typing import Final

from config.queue_terms import worker_for
from models.history.actions import Action
from models.history.timeline import ProviderCall, StageRun, StoredObject
from models.job_state import JobStatus
from models.money.job_money import MoneyMove
from models.queue.checkpoints import LeftOutput
from models.queue.job_rows import Job
from models.queue.pause_records import Pause
from models.queue.waiting import QueuedJob, UnlabelledEnd
from models.schema.server import IdleSession
from workers.operations.explaining import CallEnd, Event, OpenCall, Refused
from workers.operations.shut_providers import ShutProvider
from workers.operations.spans import span
from workers.operations.waiting import Unqueued, Waiting
from workers.presentation.call_outcomes import outcome_words

MOST_LEFT_CHARS: Final = 500
"""How many characters of a stage's output are printed; all of it is in darkroom.checkpoints."""


def event_words(event: Event, job_id: str) -> str:
    """Return a sentence for an event in the history of the job `job_id`.

    The sentence for a retry names the other job: the old one or the new one.
    """
    match event.fact:
        case Job() as job:
            text = _end(job) if event.event == "ended" else f"submitted: {job.job_type}, {job.tier}"
        case StageRun() as run:
            text = _run(run)
        case ProviderCall() | OpenCall() as call:
            text = _call(call)
        case CallEnd() as end:
            text = _call_end(end)
        case MoneyMove() as move:
            text = _money(move)
        case Action() as action:
            text = _action(action, job_id)
        case Refused() as refused:
            text = _refused(refused)
        case StoredObject() | LeftOutput() as left:
            text = _left(left)
        case Pause() as pause:
            text = f"{_named(pause)} goes on" if event.event == "resumed" else _paused(pause)
    return text


def _left(left: StoredObject | LeftOutput) -> str:
    """Return words for an object that a job stored, or for a stage's output for which the job's row has no column."""
    if isinstance(left, StoredObject):
        done = f"; {', '.join(left.treatments)}" if left.treatments else ""
        return f"stored {left.key} ({left.bytes:,} bytes){done}"
    output = "nothing" if left.output is None else json.dumps(left.output, ensure_ascii=False)
    is_short = len(output) <= MOST_LEFT_CHARS
    return f"{left.stage} left {output if is_short else output[:MOST_LEFT_CHARS] + ' ...'}"


def _money(move: MoneyMove) -> str:
    verb = "charged" if move.kind == "charge" else "refunded"
    balance = "" if move.balance is None else f"; balance {move.balance:,}"
    return f"{verb} {move.amount:,} tokens{balance}"


def _end(job: Job) -> str:
    return "ended " + job.status + (f": {job.error}" if job.error else "")


def over_words(job: Job) -> str:
    """Return words for what an operator can do now about a job that is over."""
    if job.status == JobStatus.COMPLETED:
        return f"it is over; `darkroom jobs save {job.name} --out DIR` fetches its result"
    return f"it is over; once its cause is mended, `darkroom jobs retry {job.name}` submits it again as a new job"


_SAYS: Final = {
    "claimed": "claimed by {who}",
    "started": "{stage} began",
    "finished": "{stage} finished in {took}",
    "failed": "{stage} failed for good: {error}",
    "released": "{who} let go of it in order; the attempt is given back",
    "handed_over": "{who} handed it over at {stage} to queue {queue}; the attempt is given back",
    "rescued": "taken from {who}: {error}",
    "fenced": "a write of {who} came too late and changed nothing",
    "retried": "{stage} failed after {took}, to be tried again: {error}",
    "snoozed": "put off at {stage}, no attempt used: {error}",
}


def _run(run: StageRun) -> str:
    short_id = str(run.worker_id)[:8] if run.worker_id else "unknown"
    who = f"worker {run.host} pid {run.pid}" if run.host else f"worker {short_id}"
    took = "no time" if run.duration_ms is None else span(run.duration_ms / 1000)
    says = _SAYS.get(run.event, run.event + " {stage}: {error}")
    error = run.error or "no reason recorded"
    return says.format(who=who, took=took, stage=run.stage or "it", error=error, queue=run.queue)


def _call(fact: ProviderCall | OpenCall) -> str:
    """Return words for a call: its purpose and, if it is open, since when it is in flight or that its worker died."""
    call = fact.call if isinstance(fact, OpenCall) else fact
    whom = " ".join(dict.fromkeys(name for name in (call.provider, call.model) if name))
    price = f", {call.quoted_usd:.4f} USD by the table" if call.quoted_usd else ""
    text = f"call {call.id}: {call.purpose} by {whom}{price}"
    if not isinstance(fact, OpenCall):
        return text
    if fact.by is not None:
        for_s = (fact.by.now - call.started_at).total_seconds()
        return f"{text}; in flight for {span(for_s)}, by worker {fact.by.host} pid {fact.by.pid}"
    paid = ", and it may have been paid" if call.may_be_paid else ""
    return f"{text}; never closed: no worker waits for its answer any more{paid}"


def _call_end(end: CallEnd) -> str:
    call = end.call
    cost = f", {call.cost_usd:.4f} USD" if call.cost_usd else ""
    paid = "" if call.may_be_paid or not cost else " (not paid)"
    took = "" if call.latency_ms is None else f" in {span(call.latency_ms / 1000)}"
    late = "; too late: its claim had been taken away" if end.is_late else ""
    problem = f": {call.problem}" if call.problem else ""
    return f"call {call.id}: {outcome_words(call.outcome)}{took}{cost}{paid}{late}{problem}"


def _refused(refused: Refused) -> str:
    end = refused.end
    if refused.part == "label":
        return f"over, without its label {end.label}: {end.reason}; the database refuses it: {end.words}"
    return f"its refund of {end.owed:,} tokens is owed, because the database refuses it: {end.words}"


_TERMS: Final = (("fromStage", "from stage"), ("model", "with model"))


def _action(action: Action, job_id: str) -> str:
    after = action.after or {}
    match action.action:
        case "job_retry" if action.target == job_id:
            text = f"tried again by {action.actor} as job {after.get('jobId')}"
        case "job_retry":
            terms = "".join(f", {name} {after[key]}" for key, name in _TERMS if after.get(key))
            text = f"made by {action.actor} to try job {action.target} again{terms}"
        case "job_cancel":
            text = f"cancelled by {action.actor}"
        case "call_acknowledge":
            text = f"call {after.get('call')} looked at by {action.actor}"
        case "job_run_now":
            text = f"made due at once by {action.actor}"
        case "job_reschedule":
            text = f"made due at {after.get('scheduledAt')} by {action.actor}"
        case other:
            text = f"{other} by {action.actor}"
    return text + (f": {action.reason}" if action.reason else "")


def _named(pause: Pause) -> str:
    """Return the name of what is paused: `tier TIER_4K`, or `buying` for the kill switch."""
    kind, _, value = pause.name.partition(":")
    return f"{kind} {value}" if value else "buying"


def _paused(pause: Pause) -> str:
    """Return words for what was paused, by which operator and why."""
    return f"{_named(pause)} paused by {pause.actor or 'an operator'}" + (f": {pause.reason}" if pause.reason else "")


def waiting_words(waiting: Waiting, max_wait_s: float) -> str:
    """Return words for why a job waits, and for what ends the wait."""
    until_s = None if waiting.until is None else (waiting.until - waiting.now).total_seconds()
    match waiting.by:
        case QueuedJob() as queued:
            return _place_words(waiting, queued, until_s, max_wait_s)
        case Pause() as pause:
            return _still_paused(pause, (waiting.now - pause.paused_at).total_seconds())
        case UnlabelledEnd() as end:
            return _unlabelled(end)
        case Unqueued() as unqueued:
            return _unqueued(unqueued, until_s)
        case IdleSession() | None:
            return _held(waiting.by)
        case providers:
            return _providers(waiting, providers)


def _place_words(waiting: Waiting, queued: QueuedJob, until_s: float | None, max_wait_s: float) -> str:
    match waiting.kind:
        case "refused":
            times = f"{queued.refusals:,} times since {queued.refused_since:%Y-%m-%d %H:%M} UTC"
            text = f"refused {times}: {queued.last_error}; it is tried again in {span(until_s or 0)}"
        case "scheduled" | "producer":
            text = _put_off(queued, until_s)
        case "max_wait":
            text = (
                f"before that its maximum wait of {span(max_wait_s)} is over, and it ends, refunded; "
                "only operators' pauses prolong it"
            )
        case "no_worker":
            text = f"no live worker takes from queue {queued.queue}; start `{worker_for(queued.queue)}`"
        case "busy":
            text = f"all {queued.lanes} lanes of its queue's workers are busy"
        case "alone":
            text = (
                f"it waits to run alone in a process, because its worker died at {queued.stage}, and it isn't known "
                "which of that worker's jobs killed it"
            )
        case "cap":
            text = f"its user may run no more jobs at a time: {queued.users_slots} run or are about to"
        case "turn":
            number = "more than 10,000" if queued.before_it is None else f"{queued.before_it:,}"
            text = "it is next in turn" if queued.before_it == 0 else f"its turn: {number} before it"
        case _:
            text = _running(queued, until_s)
    return text


def _put_off(queued: QueuedJob, until_s: float | None) -> str:
    if queued.waits_for_producer:
        return "its producer hasn't let it go yet"
    if queued.run_at == queued.scheduled_at:
        at = f"{queued.scheduled_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"its producer wants it to begin at {at}, in {span(until_s or 0)}"
    why = f": {queued.last_error}" if queued.last_error else ""
    return f"it is put off for another {span(until_s or 0)}{why}"


def _running(queued: QueuedJob, left_s: float | None) -> str:
    held_s = 0.0 if queued.started_at is None else (queued.now - queued.started_at).total_seconds()
    text = f"{queued.stage} runs for {span(held_s)} since its claim"
    if not queued.is_alive:
        return f"{text}, but its worker is dead; any worker or scheduler that lives rescues it within seconds"
    late = ""
    if left_s is not None:
        late = f"; {span(left_s)} to its deadline" if left_s > 0 else f"; {span(-left_s)} past its deadline"
    return f"{text}, by worker {queued.host} pid {queued.pid}{late}"


def _still_paused(pause: Pause, for_s: float) -> str:
    kind, _, value = pause.name.partition(":")
    named = value.removeprefix("TIER_").lower() if kind == "tier" else value  # a queue's name keeps its case
    verb = f"`darkroom queue resume --{kind} {named}` lets it go on"
    return f"{_paused(pause)}, for {span(for_s)} now; {verb}"


def _providers(waiting: Waiting, providers: tuple[ShutProvider, ...]) -> str:
    named = "; ".join(
        f"{one.name}: {one.reason}" + ("" if one.is_stopped else f" (for another {span(one.wait_s)} at least)")
        for one in providers
    )
    if waiting.kind == "gate":
        return f"no provider takes a call now, so nothing is claimed: {named}"
    return f"passed over for the next provider: {named}"


def _held(idle: IdleSession | None) -> str:
    text = "another program holds its row in an open transaction"
    if idle is None:
        return f"{text}; it is claimed as soon as that ends"
    name = f" ({idle.program})" if idle.program else ""
    return f"{text}; the oldest idle one is PostgreSQL process {idle.pid}{name}, since {span(idle.for_s or 0)}"


def _unlabelled(end: UnlabelledEnd) -> str:
    refund = f"; {end.owed:,} tokens are owed" if end.owed else "; it is refunded" if end.is_refunded else ""
    tried_s = (end.now - end.tried_at).total_seconds()
    return (
        f"it is over{refund}, but the database refuses to write {end.label} to its row: {end.words}; "
        f"tried {span(tried_s)} ago, and again each hour"
    )


def _unqueued(unqueued: Unqueued, until_s: float | None) -> str:
    where = "it isn't in the queue"
    if unqueued.is_processing:
        where = "it isn't in the queue, though it is PROCESSING: another worker holds it, or left it, or a restore did"
    if not unqueued.takes_over:
        return f"{where}; these tables were made by another tool, and `darkroom db upgrade --take-over` takes it in"
    when = "within 10 s of starting" if until_s is None else f"in {until_s:.0f} s"
    if unqueued.ends_because is None:
        return f"{where}; a scheduler takes it in {when}"
    is_refunded = unqueued.ends_because == "refunded"
    why = "it is refunded already" if is_refunded else f"it is older than {unqueued.max_wait_s:g} s"
    return f"{where}; a scheduler ends it {when}, because {why}"
