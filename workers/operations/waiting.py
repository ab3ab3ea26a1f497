"""Why an unfinished job waits now, in plain words."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import asyncpg

from models.connections import Connection
from models.gate.provider_calls import provider_wait
from models.job_tables.registry import table_of
from workers.gate.rules import FREE, rules_of
from workers.operations.taking_over import unqueued_words
from workers.process.compose import Runtime

Row: TypeAlias = Mapping[str, Any] | asyncpg.Record

QUEUED: Final = """
SELECT q.*, now() AS now, extract(epoch FROM q.scheduled_at - now()) AS due_in_s,
       extract(epoch FROM now() - q.created_at) AS age_s,
       extract(epoch FROM now() - q.started_at) AS held_s, extract(epoch FROM q.deadline_at - now()) AS deadline_in_s,
       w.host, w.pid, w.lease_expires_at > now() AS is_alive,
       (SELECT count(*) FROM darkroom.job_queue o
        WHERE o.queue = q.queue AND o.ready AND o.status = 'pending' AND o.position < q.position) AS before_it,
       (SELECT count(*) FROM darkroom.job_queue o
        WHERE o.user_id = q.user_id AND o.status = 'processing') AS users_running,
       (SELECT coalesce(sum(l.lanes), 0) FROM darkroom.workers l
        WHERE l.lease_expires_at > now() AND q.queue = ANY (l.queues)) AS lanes,
       (SELECT count(*) FROM darkroom.job_queue o WHERE o.queue = q.queue AND o.status = 'processing') AS running
FROM darkroom.job_queue q LEFT JOIN darkroom.workers w ON w.id = q.worker_id WHERE q.job_id = $1
"""
PAUSES: Final = """
SELECT p.name, p.paused_at, p.resumed_at, p.actor, p.reason FROM darkroom.pauses p
WHERE p.name = ANY ($1) AND p.paused_at < $3 AND coalesce(p.resumed_at, 'infinity') > $2 ORDER BY p.paused_at
"""
_IDLE: Final = """
SELECT a.pid, a.application_name, extract(epoch FROM now() - a.xact_start) AS for_s FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%' ORDER BY a.xact_start LIMIT 1
"""


async def waits_of(runtime: Runtime, job: Row, queued: Row | None) -> list[dict[str, str]]:
    """Say what stands in the way of an unfinished job."""
    if queued is None:
        return [await _unqueued(runtime, job)]
    if queued["status"] == "processing":
        return [_wait("running" if queued["is_alive"] else "lost", _running(queued))]
    database = runtime.database
    found = await database.run(lambda connection: _shut_providers(connection, runtime))
    for pause in await runtime.database.fetch(
        PAUSES,
        [f"queue:{queued['queue']}", f"type:{queued['job_type']}", f"tier:{queued['tier']}"],
        queued["now"],
        datetime.max.replace(tzinfo=UTC),
    ):
        since = span((queued["now"] - pause["paused_at"]).total_seconds())
        kind, _, value = pause["name"].partition(":")
        named = value.removeprefix("TIER_").lower() if kind == "tier" else value  # a queue's name keeps its case
        verb = f"`darkroom queue resume --{kind} {named}` lets it go on"
        found.insert(0, _wait("paused", f"{paused_words(pause)}, for {since} now; {verb}"))
    found += _put_off(queued, runtime.settings.max_wait_s)
    if await database.run(lambda connection: _is_held(connection, job)):
        found.append(_wait("held", await _holder(runtime)))
    if not queued["lanes"]:
        text = f"no live worker takes from queue {queued['queue']}; start `darkroom worker`"
        found.append(_wait("no_worker", text))
    elif queued["running"] >= queued["lanes"]:
        found.append(_wait("busy", f"all {queued['lanes']} lanes of its queue's workers are busy"))
    if queued["status"] == "pending" and not queued["ready"] and queued["paused_by"] is None:
        text = f"its user may run no more jobs at a time: {queued['users_running']} are running"
        found.append(_wait("cap", text))
    if queued["status"] == "pending":
        text = f"its turn: {queued['before_it']:,} before it" if queued["before_it"] else "it is next in turn"
        found.append(_wait("turn", text))
    return found


def _wait(kind: str, text: str) -> dict[str, str]:
    return {"kind": kind, "text": text}


_REFUSED_END: Final = """
SELECT r.label, r.words, extract(epoch FROM now() - r.tried_at) AS tried_s, coalesce(o.owed, 0) AS owed,
       EXISTS (SELECT FROM darkroom.job_money m
               WHERE m.job_type = r.job_type AND m.job_id = r.job_id AND m.kind = 'refund') AS is_refunded
FROM darkroom.refused_ends r
LEFT JOIN darkroom.refunds_owed o ON o.job_type = r.job_type AND o.job_id = r.job_id
WHERE r.job_type = $1 AND r.job_id = $2 AND r.label IS NOT NULL
"""


async def _unqueued(runtime: Runtime, job: Row) -> dict[str, str]:
    """Say why an unfinished job has no queue row."""
    end = await runtime.database.fetchrow(_REFUSED_END, job["jobType"], job["id"])
    if end is None:
        return _wait("unqueued", await unqueued_words(runtime, job))
    refund = f"; {end['owed']:,} tokens are owed" if end["owed"] else "; it is refunded" if end["is_refunded"] else ""
    return _wait(
        "end_refused",
        f"it is over{refund}, but the database refuses to write {end['label']} to its row: {end['words']}; "
        f"tried {span(end['tried_s'])} ago, and again each hour",
    )


def _put_off(queued: Row, max_wait_s: float) -> list[dict[str, str]]:
    """Say until when a job is put off, by its own retry or because the database refuses to start it."""
    if queued["refused_since"] is not None:
        times = f"{queued['refusals']:,} times since {queued['refused_since']:%Y-%m-%d %H:%M} UTC"
        again = f"it is tried again in {span(queued['due_in_s'])}"
        return [_wait("refused", f"refused {times}: {queued['last_error']}; {again}")]
    if queued["status"] != "retrying" or queued["due_in_s"] <= 0:
        return []
    text = f"it is put off for another {span(queued['due_in_s'])}"
    found = [_wait("scheduled", text + (f": {queued['last_error']}" if queued["last_error"] else ""))]
    if queued["age_s"] + queued["due_in_s"] > max_wait_s:
        text = f"before that its maximum wait of {span(max_wait_s)} is over, and it ends, refunded"
        found.append(_wait("max_wait", text + "; only operators' pauses prolong it"))
    return found


def _running(queued: Row) -> str:
    text = f"{queued['stage']} runs for {span(queued['held_s'] or 0)} since its claim"
    if not queued["is_alive"]:
        return f"{text}, but its worker is dead; any worker or scheduler that lives rescues it within seconds"
    left = queued["deadline_in_s"]
    late = (
        "" if left is None else f"; {span(left)} to its deadline" if left > 0 else f"; {span(-left)} past its deadline"
    )
    return f"{text}, by worker {queued['host']} pid {queued['pid']}{late}"


async def _shut_providers(connection: Connection, runtime: Runtime) -> list[dict[str, str]]:
    """Say which providers take no call now, and that nobody else does if so."""
    settings = runtime.settings
    waits = {}
    for name in settings.providers:
        wait = await provider_wait(connection, name, rules_of(settings, name), is_paid=name not in FREE)
        if wait is not None:
            waits[name] = f"{name}: {wait.reason} (for another {span(wait.wait_s)} at least)"
    if not waits:
        return []
    if len(waits) == len(settings.providers):
        return [_wait("gate", f"no provider takes a call now, so nothing is claimed: {'; '.join(waits.values())}")]
    return [_wait("passed_over", f"passed over for the next provider: {'; '.join(waits.values())}")]


async def _is_held(connection: Connection, job: Row) -> bool:
    """Say whether another transaction holds the job's row: ours would take it, and lets go at once."""
    table = table_of(job["jobType"]).name
    async with connection.transaction():
        free = await connection.fetchval(
            f"SELECT true FROM {table} j WHERE j.id = $1 FOR NO KEY UPDATE SKIP LOCKED", job["id"]
        )
    return free is None


async def _holder(runtime: Runtime) -> str:
    idle = await runtime.database.fetchrow(_IDLE)
    text = "another program holds its row in an open transaction"
    if idle is None:
        return f"{text}; it is claimed as soon as that ends"
    name = f" ({idle['application_name']})" if idle["application_name"] else ""
    return f"{text}; the oldest idle one is PostgreSQL process {idle['pid']}{name}, since {span(idle['for_s'] or 0)}"


def named_pause(pause: str) -> str:
    """Name what a pause pauses: `tier TIER_4K`, or `buying` for the kill switch."""
    kind, _, value = pause.partition(":")
    return f"{kind} {value}" if value else "buying"


def paused_words(pause: Row) -> str:
    """Say what was paused, by whom and why."""
    return f"{named_pause(pause['name'])} paused by {pause['actor'] or 'an operator'}" + (
        f": {pause['reason']}" if pause["reason"] else ""
    )


_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_TENS_S: Final = 10


def span(seconds: float) -> str:
    """Write a duration in words: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(max(0.0, float(seconds)))
    if whole < _TENS_S:
        return f"{max(0.0, float(seconds)):.1f} s"
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
