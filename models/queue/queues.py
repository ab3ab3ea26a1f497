"""Queues by stage, as processes and operators use them; models/queue/queues.sql."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

EMPTIED_AT_ONCE: Final = 1_000
"""How many jobs of each old queue one statement moves; it holds their locks for some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class UnservedQueue:
    """A queue from which no live worker takes jobs, and how many jobs wait there, other than for a time."""

    queue: str
    waiting: int


async def all_queues(connection: Connection) -> list[str]:
    """Return the queues that jobs enter, as recorded: `default`, and those of stages."""
    return [row["queue"] for row in await connection.fetch("SELECT q AS queue FROM darkroom.queues() q ORDER BY 1")]


async def recorded_stage_queues(connection: Connection) -> dict[str, str]:
    """Return the queues of stages that are recorded, by the stages' names."""
    found: dict[str, str] | None = await connection.fetchval("SELECT darkroom.setting('stage_queues')")
    return found or {}


async def unserved_queues(connection: Connection) -> list[UnservedQueue]:
    """Return the queues from which no live worker takes jobs although jobs enter them or are there."""
    rows = await connection.fetch("SELECT u.queue, u.waiting FROM darkroom.unserved_queues() u")
    return [UnservedQueue(**row) for row in rows]


_MOVE: Final = """
SELECT coalesce(darkroom.move_to_queues(array_agg(w.id) FILTER (
           WHERE w.status <> 'processing' AND w.queue <> darkroom.queue_of(w.stage, s.stage_queues))), 0) AS moved,
       max(w.id) AS last_id
FROM (SELECT q.id, q.status, q.queue, q.stage FROM darkroom.job_queue q WHERE q.id > $1 ORDER BY q.id LIMIT 10000) w
CROSS JOIN (SELECT darkroom.setting('stage_queues') AS stage_queues) s
"""


@dataclass(frozen=True, slots=True)
class MovedPage:
    """How many jobs of a page were moved, and the id of its last row; None if there is no row left."""

    moved: int
    last_id: int | None


async def move_page(connection: Connection, after_id: int) -> MovedPage:
    """Move the waiting jobs among the next queue rows after an id into the queues of their stages."""
    row = await connection.fetchrow(_MOVE, after_id)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return MovedPage(**row)


async def empty_old_queues(connection: Connection) -> int:
    """Move jobs that could be claimed out of queues that no stage has any more; return how many were moved.

    Needed from time to time, because a producer or a worker that had read earlier queues may commit jobs there.
    """
    moved: int = await connection.fetchval("SELECT darkroom.empty_old_queues($1)", EMPTIED_AT_ONCE)
    return moved
