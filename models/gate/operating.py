"""What operators do about provider calls: close a breaker, and note calls whose end nobody will ever know."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from models.connections import Connection

UNKNOWN: Final = "unknown"
"""Outcome of a call that an operator has looked at. Like an open one it counts in full: it may have been paid."""

_OPEN_AFTER: Final = "interval '15 minutes'"
"""For so long a call may be in flight, as darkroom.is_in_flight has it."""

# one whose own attempt still runs may be closed by it, however long it takes
LEFT_OPEN: Final = f"""
c.outcome = 'open' AND c.started_at < now() - {_OPEN_AFTER}
AND NOT EXISTS (SELECT FROM darkroom.job_queue q
                WHERE q.job_id = c.job_id AND q.job_type = c.job_type AND q.status = 'processing'
                  AND q.attempts = c.attempt AND q.started_at <= c.started_at)"""
"""Says in SQL, over `c`, that nobody will close a call any more."""

_LIST: Final = f"""
SELECT c.id, c.started_at, c.provider, c.model, c.purpose, c.job_id, c.may_be_paid, c.quoted_usd
FROM darkroom.provider_calls c WHERE {LEFT_OPEN} ORDER BY c.id LIMIT $1
"""
_COUNT: Final = f"SELECT count(*) FROM darkroom.provider_calls c WHERE {LEFT_OPEN}"
_STATE: Final = (
    f"SELECT c.job_id, c.outcome, {LEFT_OPEN} AS is_left_open FROM darkroom.provider_calls c WHERE c.id = $1"
)
# its price by the table stays counted, and of its provider it says nothing
_CLOSE: Final = """
SELECT darkroom.close_call(c.id, $2, c.may_be_paid, NULL, NULL, NULL, NULL, NULL, NULL, true, 'neutral', NULL, NULL,
                           '{}', $3)
FROM darkroom.provider_calls c WHERE c.id = $1
"""
_BREAKER: Final = "SELECT state FROM darkroom.cell('provider', $1, 'epoch')"
_CLOSE_BREAKER: Final = """
SELECT darkroom.change_cell(l, l.used, l.state - 'failures' - 'open_until' - 'open_s' - 'open_reason' - 'probe')
FROM darkroom.lock_cell('provider', $1, 'epoch') l
"""


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """A call whose worker died in it: nobody knows how it ended, and it may have been paid, by the price quoted."""

    id: int
    started_at: datetime
    provider: str
    model: str | None
    purpose: str
    job_id: str
    may_be_paid: bool
    quoted_usd: Decimal


@dataclass(frozen=True, slots=True)
class CallState:
    """A call's job and outcome; `is_left_open` says that nobody will close it any more."""

    job_id: str
    outcome: str
    is_left_open: bool


async def calls_left_open(connection: Connection, most: int) -> list[LeftOpen]:
    """Return calls that nobody will close any more, oldest first."""
    return [LeftOpen(**row) for row in await connection.fetch(_LIST, most)]


async def count_left_open(connection: Connection) -> int:
    """Count the calls that `calls_left_open` would return without a limit."""
    return int(await connection.fetchval(_COUNT))


async def call_state(connection: Connection, call_id: int) -> CallState | None:
    """Look at a call; None if there is none."""
    row = await connection.fetchrow(_STATE, call_id)
    return None if row is None else CallState(**row)


async def acknowledge_call(connection: Connection, call_id: int, words: str) -> None:
    """Close an open call as one whose end nobody knows; one that was closed meanwhile stays as it is.

    It counts as before: against budgets, quotas and the paid calls of its job.
    """
    await connection.execute(_CLOSE, call_id, UNKNOWN, words)


async def close_breaker(connection: Connection, provider: str) -> dict[str, Any] | None:
    """Let a provider be called again, in the caller's transaction; return what its breaker held, None if it was closed.

    What the provider asked for itself, to be left alone for a while, stays.
    """
    state = await connection.fetchval(_BREAKER, provider) or {}
    if "open_until" not in state:
        return None
    await connection.execute(_CLOSE_BREAKER, provider)
    return {name: state[name] for name in ("open_until", "open_reason") if name in state}
