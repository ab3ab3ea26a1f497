"""Ticks: one row for each time at which a periodic task is due. A scheduler locks a tick's row while it works on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models.connections import Connection

MOST_FAILURES: Final = 5
"""How many chunks of a tick may fail before the tick is given up, so that later ticks run."""

Cursor = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick whose row the caller's transaction has locked."""

    task: str
    at: datetime
    cursor: Cursor | None
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What is stored of a schedule.

    Attributes:
        read_at: when it was read, by the database's clock.
        planned_until: until when its ticks were inserted.
        changes: operators' changes.
        has_unfinished: whether a tick is due.
    """

    read_at: datetime
    planned_until: datetime | None
    changes: dict[str, Any]
    has_unfinished: bool


_STATES = """
SELECT n.name, now() AS read_at, s.planned_until, darkroom.setting('schedule:' || n.name) AS changes,
       EXISTS (SELECT FROM darkroom.ticks t WHERE t.task = n.name AND t.status IN ('pending', 'running')
               AND (t.retry_at IS NULL OR t.retry_at <= clock_timestamp())) AS has_unfinished
FROM unnest($1::text[]) n (name) LEFT JOIN darkroom.schedules s ON s.name = n.name
"""


async def schedule_states(connection: Connection, names: Sequence[str]) -> dict[str, ScheduleState]:
    """Return what is stored of schedules, by name."""
    return {
        row["name"]: ScheduleState(
            row["read_at"],
            row["planned_until"],
            row["changes"] if isinstance(row["changes"], dict) else {},
            row["has_unfinished"],
        )
        for row in await connection.fetch(_STATES, list(names))
    }


_LOCK_CHANGES: Final = "SELECT s.value -> 'paused' FROM darkroom.settings s WHERE s.key = $1 FOR UPDATE"
_CHANGE: Final = """
INSERT INTO darkroom.settings AS s (key, value) VALUES ($1, $2::jsonb)
ON CONFLICT (key) DO UPDATE SET value = s.value || excluded.value, updated_at = now()
"""


async def change_schedule(connection: Connection, name: str, *, is_paused: bool) -> bool:
    """Record that an operator pauses or resumes a schedule; return whether it was paused before.

    The caller's transaction holds a lock that keeps two operators from changing schedules at the same time.
    """
    key = f"schedule:{name}"
    was_paused = await connection.fetchval(_LOCK_CHANGES, key) is True
    await connection.execute(_CHANGE, key, {"paused": is_paused})
    return was_paused


async def begin_schedule(connection: Connection, name: str, now: datetime) -> None:
    """Record that a schedule exists from now on, so that no ticks are made for the time before."""
    await connection.execute("INSERT INTO darkroom.schedules VALUES ($1, $2) ON CONFLICT DO NOTHING", name, now)


async def lock_schedule(connection: Connection, name: str) -> datetime | None:
    """Lock a schedule and return until when its ticks were inserted; None if another scheduler has locked it."""
    value: datetime | None = await connection.fetchval(
        "SELECT planned_until FROM darkroom.schedules WHERE name = $1 FOR UPDATE SKIP LOCKED", name
    )
    return value


async def add_ticks(connection: Connection, name: str, times: Sequence[datetime], planned_until: datetime) -> int:
    """Insert ticks, each once, and record until when ticks were inserted; return how many are new.

    The caller has locked the schedule.
    """
    added = await connection.fetch(
        """INSERT INTO darkroom.ticks (task, tick_at) SELECT $1, at FROM unnest($2::timestamptz[]) at ORDER BY at
           ON CONFLICT DO NOTHING RETURNING 1""",
        name,
        list(times),
    )
    await connection.execute("UPDATE darkroom.schedules SET planned_until = $2 WHERE name = $1", name, planned_until)
    return len(added)


async def open_tick(connection: Connection, name: str, at: datetime) -> None:
    """Insert an extra tick at a time.

    If there is a tick of that time: one that has ended is run once more, and an unfinished one isn't changed.
    """
    await connection.execute(
        """INSERT INTO darkroom.ticks AS t (task, tick_at) VALUES ($1, $2)
           ON CONFLICT (task, tick_at) DO UPDATE
           SET status = 'pending', cursor = NULL, counts = '{}', error = NULL, failures = 0, retry_at = NULL,
               started_at = NULL, finished_at = NULL
           WHERE t.status IN ('finished', 'failed')""",
        name,
        at,
    )


# Selects a task's first unfinished tick, because ticks run in their order; no row while another scheduler has locked
# it.
_LOCK = """
SELECT t.tick_at, t.cursor, t.counts FROM darkroom.ticks t
WHERE t.task = $1 AND t.status IN ('pending', 'running')
  AND t.tick_at = coalesce($2, (SELECT min(f.tick_at) FROM darkroom.ticks f
                                WHERE f.task = $1 AND f.status IN ('pending', 'running')))
  AND ($2 IS NOT NULL OR t.retry_at IS NULL OR t.retry_at <= clock_timestamp())
FOR UPDATE SKIP LOCKED
"""


async def lock_tick(connection: Connection, name: str, at: datetime | None = None) -> Tick | None:
    """Lock a task's first unfinished tick, or the one at a given time, until the transaction ends.

    Returns:
        The tick; None if there is none, another scheduler works on it, or it waits for its next try.
    """
    row = await connection.fetchrow(_LOCK, name, at)
    return None if row is None else Tick(name, row["tick_at"], row["cursor"], row["counts"])


async def save_progress(connection: Connection, tick: Tick, cursor: Cursor | None, counts: Mapping[str, int]) -> None:
    """Record how far a tick has come, in the transaction of its chunk.

    `cursor` None means that the tick has finished.
    """
    await connection.execute(
        """UPDATE darkroom.ticks
           SET status = CASE WHEN $3::jsonb IS NULL THEN 'finished' ELSE 'running' END, cursor = $3, counts = $4,
               started_at = coalesce(started_at, transaction_timestamp()), error = NULL, retry_at = NULL,
               finished_at = CASE WHEN $3::jsonb IS NULL THEN clock_timestamp() END
           WHERE task = $1 AND tick_at = $2""",
        tick.task,
        tick.at,
        cursor,
        dict(counts),
    )


async def save_failure(connection: Connection, name: str, at: datetime, error: str) -> bool:
    """Record that a chunk of a tick failed; return whether the tick is given up."""
    return bool(
        await connection.fetchval(
            """UPDATE darkroom.ticks
               SET failures = failures + 1, error = $3, started_at = coalesce(started_at, now()),
                   status = CASE WHEN failures + 1 >= $4 THEN 'failed' ELSE status END,
                   finished_at = CASE WHEN failures + 1 >= $4 THEN clock_timestamp() END,
                   retry_at = clock_timestamp() + make_interval(secs => 15 * 2 ^ failures)
               WHERE task = $1 AND tick_at = $2 AND status IN ('pending', 'running') RETURNING status = 'failed'""",
            name,
            at,
            error,
            MOST_FAILURES,
        )
    )


@dataclass(frozen=True, slots=True)
class LastTick:
    """The last run of a periodic task.

    Attributes:
        last_run: when its last finished tick finished, with success or without; None if no tick has finished.
        last_counts: what that tick reported.
        last_duration_s: how long that tick took.
        last_error: the error of the tick that is being retried now; if no tick is, the error of the last finished tick.
    """

    last_run: datetime | None
    last_counts: Mapping[str, int] | None
    last_duration_s: float | None
    last_error: str | None


_LAST: Final = """
SELECT n.name, t.finished_at AS last_run, t.counts AS last_counts,
       round(extract(epoch FROM t.finished_at - t.started_at)::numeric, 3)::double precision AS last_duration_s,
       coalesce(u.error, t.error) AS last_error
FROM unnest($1::text[]) n (name)
LEFT JOIN LATERAL (SELECT * FROM darkroom.ticks t WHERE t.task = n.name AND t.finished_at IS NOT NULL
                   ORDER BY t.finished_at DESC LIMIT 1) t ON true
LEFT JOIN LATERAL (SELECT error FROM darkroom.ticks u
                   WHERE u.task = n.name AND u.status IN ('pending', 'running') AND u.error IS NOT NULL
                   ORDER BY u.tick_at LIMIT 1) u ON true
"""


async def last_ticks(connection: Connection, names: Sequence[str]) -> dict[str, LastTick]:
    """Return how each task last ran, by its name."""
    return {
        row["name"]: LastTick(row["last_run"], row["last_counts"], row["last_duration_s"], row["last_error"])
        for row in await connection.fetch(_LAST, list(names))
    }


_RECENT: Final = """
SELECT n.name AS task, t.tick_at AS at, t.status, t.counts, t.error, t.failures, t.started_at, t.finished_at
FROM unnest($1::text[]) n (name)
CROSS JOIN LATERAL (SELECT * FROM darkroom.ticks k WHERE k.task = n.name ORDER BY k.tick_at DESC LIMIT $2) t
ORDER BY t.tick_at DESC, n.name
"""


@dataclass(frozen=True, slots=True)
class RecentTick:
    """A tick of a periodic task: when it was due, and what came of it.

    `status` is `pending`, `running`, `finished` or `failed`.
    """

    task: str
    at: datetime
    status: str
    counts: Mapping[str, int]
    error: str | None
    failures: int
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def duration_s(self) -> float | None:
        """How long it took; None if it isn't over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


async def recent_ticks(connection: Connection, names: Sequence[str], *, each: int) -> list[RecentTick]:
    """Return the last ticks of tasks, at most `each` of one task, the newest first."""
    return [RecentTick(**row) for row in await connection.fetch(_RECENT, list(names), each)]


_FAILED: Final = """
SELECT t.task, count(*)::integer AS failed FROM darkroom.ticks t
WHERE t.task = ANY ($1::text[]) AND t.status = 'failed' AND t.finished_at > now() - interval '1 day' GROUP BY t.task
"""


async def failed_ticks(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return how many ticks of each task failed for good in the last day, by its name."""
    return dict.fromkeys(names, 0) | {
        row["task"]: row["failed"] for row in await connection.fetch(_FAILED, list(names))
    }


_END: Final = """
SELECT t.status IN ('finished', 'failed') AS is_over, t.counts FROM darkroom.ticks t
WHERE t.task = $1 AND t.tick_at = $2
"""


async def counts_at_end(connection: Connection, name: str, at: datetime) -> dict[str, int] | None:
    """Return what a tick counted; None as long as it is unfinished; empty if its row is deleted."""
    row = await connection.fetchrow(_END, name, at)
    if row is None:
        return {}
    return dict(row["counts"]) if row["is_over"] else None
