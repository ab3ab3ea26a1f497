"""Rows of operators' pauses, present and past, and the names of the queues that can be paused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models.connections import Connection
from models.queue.counts import JobGroup, is_waiting_for

_LOCK: Final = "SELECT FROM darkroom.settings s WHERE s.key = 'pauses' FOR UPDATE"
_STATE: Final = "SELECT darkroom.setting('pauses') -> $1"
# A pause keeps its beginning when another operator pauses the same thing again
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
SELECT p.name, p.paused_at, p.actor, p.reason FROM darkroom.pauses p
WHERE p.resumed_at IS NULL ORDER BY p.paused_at, p.name
"""
_OF_JOBS: Final = frozenset({"queue", "type", "tier"})
"""Kinds of pauses that keep jobs from being claimed."""

_NAMES: Final = "SELECT p.name FROM darkroom.pauses p WHERE p.resumed_at IS NULL ORDER BY p.name"
_BETWEEN: Final = """
SELECT p.name, p.paused_at, p.resumed_at, p.actor, p.reason FROM darkroom.pauses p
WHERE p.name = ANY ($1) AND p.paused_at < $3 AND coalesce(p.resumed_at, 'infinity') > $2 ORDER BY p.paused_at
"""
_QUEUES: Final = """
SELECT DISTINCT k.queue FROM (SELECT n AS queue FROM darkroom.queues() n
                              UNION ALL SELECT q.queue FROM darkroom.job_queue q
                              UNION ALL SELECT unnest(w.queues) FROM darkroom.workers w) k
"""
_SWITCH: Final = """
INSERT INTO darkroom.settings (key, value) VALUES ('buying', $1)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator's pause.

    `name` is such as `tier:TIER_4K`, or `buying` for the kill switch, which stops paid calls.
    """

    name: str
    paused_at: datetime
    resumed_at: datetime | None
    actor: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LastingPause:
    """A pause that is in force, and how many jobs wait for it.

    `jobs` is None if a provider is paused or the kill switch (`buying`) is on: whether a job needs the provider, or a
    paid call, is known only when it runs.
    """

    name: str
    paused_at: datetime
    actor: str | None
    reason: str | None
    jobs: int | None


@dataclass(frozen=True, slots=True)
class Buying:
    """The kill switch: whether paid calls are stopped, why, and by whom."""

    stopped: bool
    reason: str | None
    actor: str


async def lock_pauses(connection: Connection) -> None:
    """Lock the pauses, so that no other operator changes any until the caller's transaction ends."""
    await connection.execute(_LOCK)


async def pause_state(connection: Connection, name: str) -> dict[str, Any] | None:
    """Return what is stored of a present pause, for the record of operators' actions.

    The result is None if there is no such pause.
    """
    state: dict[str, Any] | None = await connection.fetchval(_STATE, name)
    return state


async def begin_pause(connection: Connection, name: str, actor: str, reason: str | None) -> dict[str, Any] | None:
    """Record a pause that begins now; return what is stored of it."""
    state: dict[str, Any] | None = await connection.fetchval(_PAUSE, name, actor, reason)
    return state


async def end_pause(connection: Connection, name: str) -> None:
    """End a pause, and keep a record of it."""
    await remember_pause(connection, name)
    await connection.execute(_RESUME, name)


async def remember_pause(connection: Connection, name: str) -> None:
    """Record that a pause ends now, before its row is deleted, so that its time isn't part of the maximum wait."""
    await connection.execute(_REMEMBER, name)


async def switch_buying(connection: Connection, state: Buying) -> None:
    """Set the kill switch. If that ends a stop of paid calls, record the stop as a past pause."""
    await remember_pause(connection, "buying")
    await connection.execute(_SWITCH, {"stopped": state.stopped, "reason": state.reason, "actor": state.actor})


async def lasting_pauses(connection: Connection, groups: Sequence[JobGroup]) -> list[LastingPause]:
    """Return the present pauses, oldest first; which jobs wait for each is concluded from the jobs in the queues."""

    def jobs(name: str) -> int | None:
        is_of_jobs = name.partition(":")[0] in _OF_JOBS
        return sum(one.jobs for one in groups if is_waiting_for(one, name)) if is_of_jobs else None

    return [LastingPause(**row, jobs=jobs(row["name"])) for row in await connection.fetch(_LASTING)]


async def pause_names(connection: Connection) -> list[str]:
    """Return the names of the present pauses, without a look at the jobs that they keep."""
    return [row["name"] for row in await connection.fetch(_NAMES)]


async def pauses_between(connection: Connection, names: Sequence[str], begin: datetime, end: datetime) -> list[Pause]:
    """Return the pauses with the given names that lasted at any time between `begin` and `end`, oldest first."""
    return [Pause(**row) for row in await connection.fetch(_BETWEEN, names, begin, end)]


async def known_queues(connection: Connection) -> set[str]:
    """Return the names of all queues that jobs or live workers use, or that stages have."""
    return {row["queue"] for row in await connection.fetch(_QUEUES)}
