"""Operators' changes of provider calls: closing a breaker, acknowledging calls whose outcome will never be known."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from models.connections import Connection

UNKNOWN: Final = "unknown"
"""Outcome of an acknowledged call. It counts in full, as an open call does, because it may have been paid."""

_OPEN_AFTER: Final = "interval '15 minutes'"
"""How long a call may be in flight; darkroom.is_in_flight uses the same time."""

# A call whose attempt is still running may yet be closed by it, however long that takes.
LEFT_OPEN: Final = f"""
c.outcome = 'open' AND c.started_at < now() - {_OPEN_AFTER}
AND NOT EXISTS (SELECT FROM darkroom.job_queue q
                WHERE q.job_id = c.job_id AND q.job_type = c.job_type AND q.status = 'processing'
                  AND q.attempts = c.attempt AND q.started_at <= c.started_at)"""
"""SQL condition on a call `c`: it is open, and nothing will close it any more."""

_LIST: Final = f"""
SELECT c.id, c.started_at, c.provider, c.model, c.purpose, c.job_id, c.may_be_paid, c.quoted_usd
FROM darkroom.provider_calls c WHERE {LEFT_OPEN} ORDER BY c.id LIMIT $1
"""
_COUNT: Final = f"SELECT count(*) FROM darkroom.provider_calls c WHERE {LEFT_OPEN}"
_OPEN: Final = "SELECT count(*) FROM darkroom.provider_calls c WHERE c.outcome = 'open'"
_STATE: Final = f"""
SELECT c.job_type, c.job_id, c.outcome, {LEFT_OPEN} AS is_left_open FROM darkroom.provider_calls c WHERE c.id = $1
"""
# The quoted price stays counted. `neutral`: the call says nothing about its provider's health.
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
    """An open call whose worker died before the answer came. Its outcome is unknown.

    The call may have cost `quoted_usd`.
    """

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
    """A call's job and outcome.

    `is_left_open` says that the call is open, and that no process will close it any more.
    """

    job_type: str
    job_id: str
    outcome: str
    is_left_open: bool


async def calls_left_open(connection: Connection, most: int) -> list[LeftOpen]:
    """Return the open calls that no process will close any more, oldest first."""
    return [LeftOpen(**row) for row in await connection.fetch(_LIST, most)]


async def count_left_open(connection: Connection) -> int:
    """Count the calls that `calls_left_open` would return without a limit."""
    return int(await connection.fetchval(_COUNT))


async def count_open(connection: Connection) -> int:
    """Count the calls that were begun and aren't closed, whether their answer is still awaited or not."""
    return int(await connection.fetchval(_OPEN))


async def call_state(connection: Connection, call_id: int) -> CallState | None:
    """Return the state of a call; None if there is no such call."""
    row = await connection.fetchrow(_STATE, call_id)
    return None if row is None else CallState(**row)


async def acknowledge_call(connection: Connection, call_id: int, words: str) -> None:
    """Close an open call with outcome UNKNOWN. A call that was closed meanwhile isn't changed.

    It still counts against budgets, quotas and the paid calls of its job, as it did while it was open.
    """
    await connection.execute(_CLOSE, call_id, UNKNOWN, words)


async def close_breaker(connection: Connection, provider: str) -> dict[str, Any] | None:
    """Close a provider's breaker, in the caller's transaction.

    Return the breaker's state before, or None if it was already closed.

    If the provider itself asked not to be called for a time, that wait stays.
    """
    state = await connection.fetchval(_BREAKER, provider) or {}
    if "open_until" not in state:
        return None
    await connection.execute(_CLOSE_BREAKER, provider)
    return {name: state[name] for name in ("open_until", "open_reason") if name in state}
