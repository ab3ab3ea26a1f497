"""What became of a job, in order, and why it waits now: in plain words, also of jobs that are gone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models.job_state import TERMINAL
from workers.gate.rules import stops_of
from workers.operations.jobs import get_jobs, job_not_found
from workers.operations.waiting import PAUSES, QUEUED, Row, named_pause, paused_words, span, waits_of
from workers.process.compose import Runtime

_RUNS: Final = """
SELECT r.at, r.event, r.stage, r.attempt, r.duration_ms, r.error, w.host, w.pid, left(r.worker_id::text, 8) AS worker
FROM darkroom.stage_runs r LEFT JOIN darkroom.workers w ON w.id = r.worker_id
WHERE r.job_id = $1 ORDER BY r.at, r.id
"""
_CALLS: Final = "SELECT c.* FROM darkroom.provider_calls c WHERE c.job_id = $1 ORDER BY c.id"
_MONEY: Final = """
SELECT m.kind, m.amount, m.at, (SELECT min(t."balanceAfter") FROM public.token_transactions t
    WHERE t."sourceId" = m.job_id AND (t.type = 'REFUND') = (m.kind = 'refund')) AS balance
FROM darkroom.job_money m WHERE m.job_id = $1
"""
_ACTIONS: Final = """
SELECT a.at, a.actor, a.action, a.target, a.after, a.reason FROM darkroom.operator_actions a
WHERE a.target = $1 OR (a.action = 'job_retry' AND a.after ->> 'jobId' = $1)
"""
_REFUSED: Final = """
SELECT r.refused_at AS at, r.label, r.reason, r.words, coalesce(o.owed, 0) AS owed FROM darkroom.refused_ends r
LEFT JOIN darkroom.refunds_owed o ON o.job_type = r.job_type AND o.job_id = r.job_id WHERE r.job_id = $1
"""
_OBJECTS: Final = "SELECT a.created_at, a.key, a.bytes, a.treatments FROM darkroom.artifacts a WHERE a.job_id = $1"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job's story.

    Attributes:
        job: its row as `get_jobs` has it; None when it is deleted.
        timeline: `at`, `event`, `stage`, `attempt` and `text`, oldest first.
        waits: `kind` and `text`, what stands in its way first; empty once it is over.
    """

    job: dict[str, Any] | None
    timeline: list[dict[str, Any]]
    waits: list[dict[str, str]]


async def explain_job(runtime: Runtime, job_id: str) -> Explanation:
    """Tell what became of a job and why it waits now.

    Raises:
        NotFoundError: nothing is known of such a job, not even that there was one.
    """
    database = runtime.database
    jobs = await get_jobs(runtime, [job_id])
    job = jobs[0] if jobs else None
    queued = await database.fetchrow(QUEUED, job_id)
    runs, calls, money, actions, objects, refused = [
        await database.fetch(sql, job_id) for sql in (_RUNS, _CALLS, _MONEY, _ACTIONS, _OBJECTS, _REFUSED)
    ]
    events = [
        *_ends(job, runs),
        *_claims(runs),
        *_calls(calls, runs),
        *(_event(row["at"], row["kind"], _money(row)) for row in money),
        *(_event(row["at"], "operator", _action(row, job_id)) for row in actions),
        *(_event(row["at"], "refused", text) for row in refused for text in _refused(row)),
        *(_event(row["created_at"], "stored", _stored(row)) for row in objects),
    ]
    if job is None and not events:
        raise job_not_found(job_id)
    if job is not None:
        events += await _pauses(runtime, job, queued)
    for event in events:
        event["at"] = _to_milliseconds(event["at"])
    events.sort(key=_place)
    waits = [] if job is None or job["status"] in TERMINAL else await waits_of(runtime, job, queued)
    return Explanation(job, events, waits)


def _place(event: dict[str, Any]) -> tuple[datetime, int]:
    """Order by time; what is one moment begins and ends well."""
    return event["at"], _PLACES.get(event["event"], 1)


def _to_milliseconds(at: datetime) -> datetime:
    """Round as PostgreSQL rounded the application's own columns, or a charge would stand before its job."""
    rounded = at + timedelta(microseconds=500)
    return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000)


_PLACES: Final = {"submitted": 0, "ended": 2}


def _event(at: datetime, event: str, text: str, stage: str | None = None, attempt: int | None = None) -> dict[str, Any]:
    """Build one; the application's times are UTC without a zone, ours have one."""
    return {
        "at": at.replace(tzinfo=UTC) if at.tzinfo is None else at,
        "event": event,
        "stage": stage,
        "attempt": attempt,
        "text": text,
    }


def _ends(job: Row | None, runs: list[Any]) -> list[dict[str, Any]]:
    """Its submission and its end: history is written in the transaction of the end, which began before."""
    if job is None:
        return []
    events = [_event(job["createdAt"], "submitted", f"submitted: {job['jobType']}, {job['tier']}")]
    if job["status"] in TERMINAL:
        text = "ended " + job["status"] + (f": {job['errorMessage']}" if job["errorMessage"] else "")
        ended = _event(job["processingCompletedAt"] or job["updatedAt"], "ended", text)
        ended["at"] = max([ended["at"], *(run["at"] for run in runs[-1:])])
        events.append(ended)
    return events


_SAYS: Final = {
    "claimed": "claimed by {who}",
    "started": "{stage} began",
    "finished": "{stage} finished in {took}",
    "failed": "{stage} failed for good: {error}",
    "released": "{who} let go of it in order; the attempt is given back",
    "rescued": "taken from {who}: {error}",
    "fenced": "a write of {who} came too late and changed nothing",
    "retried": "{stage} failed after {took}, to be tried again: {error}",
    "snoozed": "put off at {stage}, no attempt used: {error}",
}


def _claims(runs: list[Any]) -> list[dict[str, Any]]:
    events = []
    for run in runs:
        who = f"worker {run['host']} pid {run['pid']}" if run["host"] else f"worker {run['worker'] or 'unknown'}"
        took = "no time" if run["duration_ms"] is None else span(run["duration_ms"] / 1000)
        says = _SAYS.get(run["event"], run["event"] + " {stage}: {error}")
        text = says.format(who=who, took=took, stage=run["stage"] or "it", error=run["error"] or "no reason recorded")
        events.append(_event(run["at"], run["event"], text, run["stage"], run["attempt"]))
    return events


def _calls(calls: list[Any], runs: list[Any]) -> list[dict[str, Any]]:
    """Each call's intent and its end; an answer that came after its claim was taken away is said to be of no use."""
    taken = {run["attempt"]: run["at"] for run in runs if run["event"] == "rescued"}
    events = []
    for call in calls:
        whom = " ".join(dict.fromkeys(name for name in (call["provider"], call["model"]) if name))
        what = f"{call['purpose']} by {whom}"
        price = f", {call['quoted_usd']:.4f} USD by the table" if call["quoted_usd"] else ""
        events.append(
            _event(call["started_at"], "call_intended", f"call {call['id']}: {what}{price}", None, call["attempt"])
        )
        if call["outcome"] == "open" or call["finished_at"] is None:
            events[-1]["event"] = "call_open"
            events[-1]["text"] += "; never closed: in flight, or its worker died in it, and it may have been paid"
            continue
        cost = f", {call['cost_usd']:.4f} USD" if call["cost_usd"] else ""
        paid = "" if call["may_be_paid"] or not cost else " (not paid)"
        took = "" if call["latency_ms"] is None else f" in {span(call['latency_ms'] / 1000)}"
        late = taken.get(call["attempt"])
        fenced = "; too late: its claim had been taken away" if late and call["finished_at"] > late else ""
        problem = f"; {call['problem']}" if call["problem"] else ""
        text = f"call {call['id']}: {call['outcome']}{took}{cost}{paid}{fenced}{problem}"
        events.append(_event(call["finished_at"], "call_closed", text, None, call["attempt"]))
    return events


def _stored(row: Row) -> str:
    done = f"; {', '.join(row['treatments'])}" if row["treatments"] else ""
    return f"stored {row['key']} ({row['bytes']:,} bytes){done}"


def _money(row: Row) -> str:
    verb = "charged" if row["kind"] == "charge" else "refunded"
    balance = "" if row["balance"] is None else f"; balance {row['balance']:,}"
    return f"{verb} {row['amount']:,} tokens{balance}"


def _refused(row: Row) -> list[str]:
    """Say what of an end the database refused: the label, the refund, or both."""
    says = []
    if row["label"]:
        says.append(f"over, without its label {row['label']}: {row['reason']}; the database refuses it: {row['words']}")
    if row["owed"]:
        says.append(f"its refund of {row['owed']:,} tokens is owed, because the database refuses it: {row['words']}")
    return says


def _action(row: Row, job_id: str) -> str:
    after = row["after"] or {}
    match row["action"]:
        case "job_retry" if row["target"] == job_id:
            text = f"tried again by {row['actor']} as job {after.get('jobId')}"
        case "job_retry":
            terms = [f"{name} {after[key]}" for key, name in _TERMS if after.get(key)]
            text = f"made by {row['actor']} to try job {row['target']} again" + "".join(f", {term}" for term in terms)
        case "job_cancel":
            text = f"cancelled by {row['actor']}"
        case other:
            text = f"{other} by {row['actor']}"
    return text + (f": {row['reason']}" if row["reason"] else "")


_TERMS: Final = (("fromStage", "from stage"), ("model", "with model"))


async def _pauses(runtime: Runtime, job: Row, queued: Row | None) -> list[dict[str, Any]]:
    queue = queued["queue"] if queued else "default"
    names = [f"queue:{queue}", f"type:{job['jobType']}", f"tier:{job['tier']}"]
    names += [name for stops in stops_of(runtime.settings) for name in stops]
    begun = job["createdAt"].replace(tzinfo=UTC)
    ended = job["updatedAt"].replace(tzinfo=UTC) if job["status"] in TERMINAL else datetime.max.replace(tzinfo=UTC)
    events = []
    for pause in await runtime.database.fetch(PAUSES, names, begun, ended):
        events.append(_event(pause["paused_at"], "paused", paused_words(pause)))
        if pause["resumed_at"] is not None and pause["resumed_at"] < ended:
            events.append(_event(pause["resumed_at"], "resumed", f"{named_pause(pause['name'])} goes on"))
    return events
