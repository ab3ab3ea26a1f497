"""Pausing and resuming: by queue, job type, tier or provider, for the whole fleet."""

from collections.abc import Iterable
from typing import Any, Final, Literal

from config.tiers import Tier
from models.connections import Connection
from models.job_tables.registry import JOB_TABLES
from models.queue.pauses import hold_paused, let_go_on
from pipelines.providers.registry import PROVIDERS
from workers.operations.actions import record_action
from workers.operations.errors import NotFoundError
from workers.process.compose import Runtime

Kind = Literal["queue", "type", "tier", "provider"]

# a pause that lasts keeps its beginning, whoever pauses again
_PAUSE: Final = """
INSERT INTO darkroom.settings AS s (key, value)
VALUES ('pauses', jsonb_build_object($1::text, jsonb_build_object('actor', $2::text, 'reason', $3::text, 'at', now())))
ON CONFLICT (key) DO UPDATE SET value = s.value || excluded.value, updated_at = now() WHERE NOT s.value ? $1
RETURNING s.value -> $1
"""
_RESUME: Final = "UPDATE darkroom.settings SET value = value - $1::text, updated_at = now() WHERE key = 'pauses'"
_REMEMBER: Final = """
INSERT INTO darkroom.past_pauses (name, paused_at, resumed_at, actor, reason)
SELECT p.name, p.paused_at, now(), p.actor, p.reason FROM darkroom.pauses p
WHERE p.name = $1 AND p.resumed_at IS NULL ON CONFLICT DO NOTHING
"""
_LASTING: Final = """
SELECT p.name, p.paused_at, p.actor, p.reason,
       CASE WHEN p.name ~ '^(queue|type|tier):' THEN (
           SELECT count(*)::integer FROM darkroom.job_queue q WHERE q.status <> 'processing'
               AND p.name IN ('queue:' || q.queue, 'type:' || q.job_type, 'tier:' || q.tier)) END AS jobs
FROM darkroom.pauses p WHERE p.resumed_at IS NULL ORDER BY p.paused_at, p.name
"""
_QUEUES: Final = """
SELECT DISTINCT k.queue FROM (SELECT 'default' AS queue UNION ALL SELECT q.queue FROM darkroom.job_queue q
                              UNION ALL SELECT unnest(w.queues) FROM darkroom.workers w) k
"""


async def list_pauses(runtime: Runtime) -> list[dict[str, Any]]:
    """Return the pauses that last, oldest first: name, paused_at, actor, reason, and the jobs that wait for it.

    `jobs` is None for a provider and for `buying`, the kill switch: whether a job needs them shows when it runs.
    """
    return [dict(row) for row in await runtime.database.fetch(_LASTING)]


async def set_paused(
    runtime: Runtime,
    scopes: Iterable[tuple[Kind, str]],
    *,
    is_paused: bool,
    actor: str,
    reason: str | None = None,
) -> list[dict[str, Any]]:
    """Pause what is named, or let it go on; return the pauses that last. Twice is as good as once.

    Jobs that run go on to their end; those that wait keep their turn, and their maximum wait stands still.

    Raises:
        NotFoundError: there is no such queue, job type, tier or provider.
    """
    wanted = list(scopes)
    for kind, value in wanted:
        await _require(runtime, kind, value)

    async def change(connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("SELECT FROM darkroom.settings WHERE key = 'pauses' FOR UPDATE")
            for kind, value in wanted:
                name = f"{kind}:{value}"
                before = await connection.fetchval("SELECT darkroom.setting('pauses') -> $1", name)
                if (before is not None) == is_paused:
                    continue
                if is_paused:
                    after = await connection.fetchval(_PAUSE, name, actor, reason)
                else:
                    await remember_pause(connection, name)
                    await connection.execute(_RESUME, name)
                    after = None
                await record_action(
                    connection,
                    actor=actor,
                    action="queue_pause" if is_paused else "queue_resume",
                    target=name,
                    before=before,
                    after=after,
                    reason=reason,
                )

    await runtime.database.commit("change_pauses", change)
    await _move_rows(runtime)
    return await list_pauses(runtime)


async def remember_pause(connection: Connection, name: str) -> None:
    """Write down that a pause ends now, before it is taken back: the maximum wait doesn't count it."""
    await connection.execute(_REMEMBER, name)


async def _move_rows(runtime: Runtime) -> None:
    """Hold the rows that are paused, and let go those that aren't; what dies in between, workers do by themselves."""
    while queues := await runtime.database.commit("let_go_on", let_go_on):
        for queue in queues:
            await runtime.wake(queue)
    for row in await runtime.database.fetch(_QUEUES):
        after: int | None = -1
        while after is not None:
            held = await runtime.database.commit(
                "hold_paused",
                lambda connection, queue=row["queue"], after=after: hold_paused(connection, queue, after),  # type: ignore[misc]  # mypy can't infer a default
            )
            after = held.last


async def _require(runtime: Runtime, kind: Kind, value: str) -> None:
    match kind:
        case "queue":
            known = {*runtime.settings.queues, *(row["queue"] for row in await runtime.database.fetch(_QUEUES))}
        case "type":
            known = {job_type for table in JOB_TABLES for job_type in table.job_types}
        case "tier":
            known = {tier.value for tier in Tier}
        case "provider":
            known = set(PROVIDERS)
    if value not in known:
        raise NotFoundError(f"there is no {kind} {value!r}; known: {', '.join(sorted(known))}")
