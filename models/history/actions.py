"""Records of what operators change: in Darkroom's own table, and in the application's audit log where it has one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models.connections import Connection

_INSERT: Final = """
INSERT INTO darkroom.operator_actions (actor, action, target, before, after, reason) VALUES ($1, $2, $3, $4, $5, $6)
"""
# Where the application's audit log has a required column that we have no value for, we write no rows into it.
_HAS_AUDIT_LOGS: Final = """
SELECT count(*) FILTER (WHERE o.is_ours) = 6
       AND NOT bool_or(NOT o.is_ours AND a.attnotnull
                       AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '')
FROM pg_attribute a
CROSS JOIN LATERAL (SELECT a.attname IN ('id', 'userId', 'action', 'targetId', 'metadata', 'createdAt')) o (is_ours)
WHERE a.attrelid = to_regclass('public.audit_logs') AND a.attnum > 0 AND NOT a.attisdropped
"""
# The actor counts as a user if it is a user's e-mail or id. The name of an operating system account isn't in users.
_INSERT_ADJUSTMENT: Final = """
INSERT INTO public.audit_logs (id, "userId", action, "targetId", metadata, "createdAt")
VALUES (darkroom.new_id(),
        coalesce((SELECT u.id FROM public.users u WHERE u.id = $1 OR u.email = $1 ORDER BY u.id = $1 DESC LIMIT 1), $2),
        'TOKEN_ADJUSTMENT', $2, $3, darkroom.utc_now())
"""
ABOUT_JOB: Final = """
SELECT a.at, a.actor, a.action, a.target, a.after, a.reason FROM darkroom.operator_actions a
WHERE (a.target = $1 AND a.action = ANY ($3) OR a.action = 'job_retry' AND a.after ->> 'jobId' = $1)
  AND ($2::text[] IS NULL OR coalesce(a.after ->> 'jobType' = ANY ($2), true))
"""
_IS_RETRIED: Final = """
SELECT EXISTS (SELECT FROM darkroom.operator_actions a
               WHERE a.action = 'job_retry' AND a.target = $1 AND coalesce(a.after ->> 'jobType', $2) = $2)
"""
# By operator_actions_at_idx, from the newest on
_NEWEST: Final = """
SELECT a.id, a.at, a.actor, a.action, a.target, a.reason FROM darkroom.operator_actions a {behind}
ORDER BY a.at DESC, a.id DESC LIMIT $1
"""
_FIRST: Final = _NEWEST.format(behind="")
_BEHIND: Final = _NEWEST.format(behind="WHERE (a.at, a.id) < ($2, $3)")
_NEWEST_GRANT: Final = """
SELECT max(a.id) FROM darkroom.operator_actions a WHERE a.target = $1 AND a.action = 'tokens_grant'
"""
OF_JOBS: Final = ("job_cancel", "job_retry", "job_run_now", "job_reschedule", "call_acknowledge")
"""Actions whose target is a job's id. A user may have the same id."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an operator did. `after` describes the result, in fields that depend on `action`."""

    at: datetime
    actor: str
    action: str
    target: str
    after: Mapping[str, Any] | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ActionRow:
    """An action as a list shows it. `id` tells actions of the same time apart."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    reason: str | None


async def newest_actions(connection: Connection, most: int, behind: tuple[datetime, int] | None) -> list[ActionRow]:
    """Return actions, the newest first.

    Args:
        connection: any connection.
        most: how many at most.
        behind: time and id of the action behind which they begin; None for the newest.
    """
    rows = await (connection.fetch(_FIRST, most) if behind is None else connection.fetch(_BEHIND, most, *behind))
    return [ActionRow(**row) for row in rows]


async def newest_grant(connection: Connection, user_id: str) -> int | None:
    """Return the number of the newest grant of tokens to a user; None if there was none."""
    number: int | None = await connection.fetchval(_NEWEST_GRANT, user_id)
    return number


async def record_action(
    connection: Connection,
    *,
    actor: str,
    action: str,
    target: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Record one action of an operator, in the transaction that makes the change."""
    await connection.execute(_INSERT, actor, action, target, before, after, reason)


async def record_adjustment(
    connection: Connection, *, actor: str, user_id: str, change: Mapping[str, Any], reason: str | None
) -> None:
    """Record in the application's own audit log that an operator changed a user's tokens, in the change's transaction.

    The row's user is the actor if the actor is a user, else the user whose tokens were changed; `targetId` is always
    the latter. Tables that another tool made may have no such log; `operator_actions` records the change in any case.

    Args:
        connection: in the caller's transaction.
        actor: the operator who made the change.
        user_id: the user whose tokens were changed.
        change: what was changed, for the row's metadata.
        reason: the operator's reason.
    """
    if await connection.fetchval(_HAS_AUDIT_LOGS):
        metadata = {**change, "actor": actor, "reason": reason}
        await connection.execute(_INSERT_ADJUSTMENT, actor, user_id, metadata)


async def record_job_action(
    connection: Connection,
    job_type: str,
    job_id: str,
    *,
    actor: str,
    action: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any],
    reason: str | None = None,
) -> None:
    """Record one action about a job, in the transaction that makes the change; `after` also gets the job's type."""
    after = {**after, "jobType": job_type}
    await record_action(
        connection, actor=actor, action=action, target=job_id, before=before, after=after, reason=reason
    )


async def is_retried(connection: Connection, job_type: str, job_id: str) -> bool:
    """Return whether an operator has already retried this job, so that another job exists that was made from it."""
    return bool(await connection.fetchval(_IS_RETRIED, job_id, job_type))
