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


async def check_slots(connection: Connection, *, whole: bool = True) -> None:
    """Have the slots of all users looked at who may have too many jobs or too few that can be claimed.

    The next claims do that. Needed after the caps have changed, and from time to time, because a producer may commit
    jobs for which it has read earlier caps. Idempotent. Without the whole, only users are looked for who may have too
    many, which takes much less time while many users have held jobs.
    """
    await connection.execute("SELECT darkroom.check_slots($1)", whole)


async def settle_slots(database: Database, *, whole: bool = True) -> None:
    """Have the slots of those users looked at, and look at them at once, as far as no other process does."""
    await database.commit("check_slots", lambda connection: check_slots(connection, whole=whole))
    passes = await database.fetchval(f"SELECT count(*) / {ADMITTED_AT_ONCE} + 1 FROM darkroom.freed_slots")
    for _ in range(passes):
        await database.commit("admit", admit)


async def settle_changed_caps(database: Database) -> None:
    """Settle users' slots if the caps have changed since that was done last. Any number of workers may call this."""
    if await database.fetchval(f"SELECT {UNCHECKED}"):
        await settle_slots(database)


async def watch_slots(database: Database, *, whole: bool) -> None:
    """Settle users' slots if there are caps; all of them if the whole is asked for or the caps have changed.

    Jobs that wait for their position get it, too: while all workers are of an earlier release, no claim gives it.
    Without caps and such jobs these are two small statements.
    """
    if await database.fetchval(f"SELECT {UNCHECKED}"):
        await settle_slots(database)
    elif await database.fetchval("SELECT darkroom.has_caps()"):
        await settle_slots(database, whole=whole)
    elif await database.fetchval(f"SELECT {ASKS}"):
        await database.commit("admit", admit)


MOST_COUNTED: Final = 1_000
"""So many running jobs of a user are counted."""

_RUNNING: Final = """
SELECT (SELECT count(*) FROM (SELECT FROM darkroom.job_queue q WHERE q.user_id = $1 AND q.status = 'processing'
                              LIMIT $2) r) AS running,
       (darkroom.setting('user_caps') ->> coalesce(darkroom.tiers_of(ARRAY[$1::text]) ->> $1, 'FREE'))::bigint AS cap
"""


async def running_of_cap(connection: Connection, user_id: str) -> tuple[int, int | None]:
    """Return how many jobs of a user run, up to MOST_COUNTED, and how many may; None if there is no cap."""
    row = await connection.fetchrow(_RUNNING, user_id, MOST_COUNTED)
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return row["running"], row["cap"]


Turn = tuple[str, str]
"""A row of darkroom.turns, by its queue and its user."""

FIRST_TURN: Final[Turn] = ("", "")

# A user enters at virtual time whose last finish tag is below it, as one without a turn does. What is below it by less
# than a head start is left, since two claimers that set virtual time at the same moment may set it back a little.
_FORGET: Final = """
WITH page AS MATERIALIZED (
        SELECT t.queue, t.user_id FROM darkroom.turns t WHERE (t.queue, t.user_id) > ($1, $2)
        ORDER BY t.queue, t.user_id LIMIT $3),
    last AS (SELECT p.queue, p.user_id FROM page p ORDER BY p.queue DESC, p.user_id DESC LIMIT 1),
    gone AS (
        DELETE FROM darkroom.turns d WHERE d.ctid = ANY (ARRAY(
            SELECT t.ctid FROM darkroom.turns t
            WHERE (t.queue, t.user_id) > ($1, $2) AND (t.queue, t.user_id) <= (SELECT l.queue, l.user_id FROM last l)
              AND t.finish < darkroom.virtual_time(t.queue) - (SELECT darkroom.head_start())
            ORDER BY t.queue, t.user_id FOR UPDATE SKIP LOCKED)))
SELECT l.queue, l.user_id FROM last l
"""
MOST_FORGOTTEN: Final = 1_000
"""How many turns one statement reads."""


async def forget_turns(connection: Connection, after: Turn) -> Turn:
    """Delete the turns that say nothing any more, among the next ones after a turn; return where to go on.

    After the last turn that is the first one again. A turn that a producer holds is left, so that none waits.
    """
    row = await connection.fetchrow(_FORGET, *after, MOST_FORGOTTEN)
    return FIRST_TURN if row is None else (row["queue"], row["user_id"])


_TERMS: Final = "SELECT jsonb_object_agg(s.key, s.value) FROM darkroom.settings s WHERE s.key = ANY ($1)"
_RECORD: Final = """
INSERT INTO darkroom.settings (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""


async def fair_terms(connection: Connection) -> dict[Term, Any]:
    """Return the terms of the fair order that hold: the recorded ones, and else defaults; lower tiers come first."""
    recorded = await connection.fetchval(_TERMS, list(_UNRECORDED))
    terms = {**_UNRECORDED, **(recorded or {})}
    for key in ("user_caps", "weights"):  # PostgreSQL keeps no order of an object's keys
        terms[key] = {tier: terms[key][tier] for tier in WEIGHTS if tier in terms[key]} | terms[key]
    return terms


async def record_term(connection: Connection, key: Term, value: Any) -> None:
    """Record a term of the fair order, in the caller's transaction. Jobs that enter from then on get it.

    Other caps also hold for jobs that wait already, once `check_slots` and the next claims have looked at them.
    """
    await connection.execute(_RECORD, key, value)
    await connection.execute("SELECT darkroom.settle_virtual_time()")
