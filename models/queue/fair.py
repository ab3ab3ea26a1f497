"""The fair order and the caps on users' running jobs, as claimers and operators use them; models/queue/fair.sql."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from config.fair_terms import HEAD_START_TOKENS, WEIGHTS
from models.connections import Connection
from models.database import Database

Term = Literal["user_caps", "weights", "priority_head_start"]
"""The terms of the fair order by the keys of their settings, which are also the names of the settings' fields."""

_UNRECORDED: Final[Mapping[Term, Any]] = {
    "user_caps": {},
    "weights": dict(WEIGHTS),
    "priority_head_start": HEAD_START_TOKENS,
}
"""What holds where nothing is recorded."""

ADMITTED_AT_ONCE: Final = 1_000
"""How many held jobs one statement settles; it holds their locks for some tens of milliseconds."""

ASKS: Final = """(
    EXISTS (SELECT FROM darkroom.job_queue a WHERE a.held_by = 'tag' AND a.status = 'pending')
    OR (SELECT f.id FROM darkroom.freed_slots f ORDER BY f.id LIMIT 1) IS NOT NULL)"""
"""SQL condition that jobs wait for their position or their slot, or that users may have free slots."""

UNCHECKED: Final = (
    """coalesce(darkroom.setting('user_caps'), '{}') <> coalesce(darkroom.setting('user_caps_checked'), '{}')"""
)
"""SQL condition that the caps have changed since the slots of all users were looked at."""


async def admit(connection: Connection) -> int:
    """Settle positions and slots of jobs that wait for them; return how many jobs became claimable.

    The connection must be in no transaction: users' slots stay locked until its end. Any number of processes may call
    this at once.
    """
    admitted: int = await connection.fetchval("SELECT darkroom.admit($1)", ADMITTED_AT_ONCE)
    return admitted


async def check_slots(connection: Connection) -> None:
    """Have the slots of all users looked at who may have too many jobs or too few that can be claimed.

    The next claims do that. Needed after the caps have changed, and from time to time, because a producer may commit
    jobs for which it has read earlier caps. Idempotent.
    """
    await connection.execute("SELECT darkroom.check_slots()")


async def settle_slots(database: Database) -> None:
    """Have the slots of those users looked at, and look at them at once, as far as no other process does."""
    await database.commit("check_slots", check_slots)
    passes = await database.fetchval(f"SELECT count(*) / {ADMITTED_AT_ONCE} + 1 FROM darkroom.freed_slots")
    for _ in range(passes):
        await database.commit("admit", admit)


async def settle_changed_caps(database: Database) -> None:
    """Settle users' slots if the caps have changed since that was done last. Any number of workers may call this."""
    if await database.fetchval(f"SELECT {UNCHECKED}"):
        await settle_slots(database)


_TERMS: Final = "SELECT jsonb_object_agg(s.key, s.value) FROM darkroom.settings s WHERE s.key = ANY ($1)"
_RECORD: Final = """
INSERT INTO darkroom.settings (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""


async def fair_terms(connection: Connection) -> dict[Term, Any]:
    """Return the terms of the fair order that hold: the recorded ones, and defaults for the others."""
    recorded = await connection.fetchval(_TERMS, list(_UNRECORDED))
    return {**_UNRECORDED, **(recorded or {})}


async def record_term(connection: Connection, key: Term, value: Any) -> None:
    """Record a term of the fair order, in the caller's transaction. Jobs that enter from then on get it.

    Other caps also hold for jobs that wait already, once `check_slots` and the next claims have looked at them.
    """
    await connection.execute(_RECORD, key, value)
    await connection.execute("SELECT darkroom.settle_virtual_time()")
