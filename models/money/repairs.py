"""Repairs of broken money promises, which take no token from any user, and payment of owed refunds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.connections import Connection
from models.money.job_money import refunded
from models.money.ledger import lock_balance, require_balance
from models.queue.refusal import settle_refused_end

_OWED: Final = """
SELECT o.user_id, o.job_type, o.job_id, o.owed, o.refused_at, o.words
FROM darkroom.refunds_owed o ORDER BY o.refused_at, o.job_id
"""
_LEDGER: Final = """
SELECT coalesce(sum(t.amount), 0)::bigint FROM public.token_transactions t WHERE t."userId" = $1
"""
_OPENING: Final = "SELECT o.balance FROM darkroom.opening_balances o WHERE o.user_id = $1"
_OPEN: Final = "INSERT INTO darkroom.opening_balances (user_id, balance) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_RAISE: Final = """
UPDATE public.user_token_balances SET balance = $2, "updatedAt" = darkroom.utc_now() WHERE "userId" = $1
"""
_SETTLE: Final = "SELECT s.balance, s.entries, s.settled FROM darkroom.settle_account($1, $2) s"
_REFUND: Final = """
SELECT darkroom.refund(ARRAY[ROW($1::text, $2::text, $3::text, j.status::text, NULL,
                                 'missing refund, paid by an operator')::darkroom.change])
FROM darkroom.jobs_of(ARRAY[$2::text]) j WHERE j.type = $1 AND j.status IN ('FAILED', 'REFUNDED', 'CANCELLED')
"""


@dataclass(frozen=True, slots=True)
class OwedRefund:
    """A refund that the database refused to pay: user, job, amount, since when, and PostgreSQL's message."""

    user_id: str
    job_type: str
    job_id: str
    owed: int
    refused_at: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """A value before and after its repair."""

    name: Literal["opening", "refund", "balance", "entries"]
    before: int | None
    after: int


async def owed_refunds(connection: Connection) -> list[OwedRefund]:
    """Return the refunds that are owed, oldest first."""
    return [OwedRefund(**row) for row in await connection.fetch(_OWED)]


async def record_opening(connection: Connection, user_id: str) -> Repaired | None:
    """Record, in the caller's transaction, the opening balance that makes the balance and the sum of the ledger agree.

    It is computed under the lock of the balance.

    Returns:
        The opening balance before and after; None if one was recorded already.
    """
    balance = await lock_balance(connection, user_id)
    opening = balance - await connection.fetchval(_LEDGER, user_id)
    if await connection.execute(_OPEN, user_id, opening) != "INSERT 0 1":
        return None
    return Repaired("opening", None, opening)


async def pay_refund(connection: Connection, job_type: str, job_id: str, user_id: str) -> Repaired | None:
    """Pay the refund that is missing after a job's end, in the caller's transaction.

    Return None if no refund is missing.
    """
    if await refunded(connection, job_type, job_id) is not None:
        return None
    await connection.execute(_REFUND, job_type, job_id, user_id)
    return await _refund(connection, job_type, job_id)


async def pay_owed(connection: Connection, job_type: str, job_id: str) -> Repaired | None:
    """Pay a refund that is owed, in the caller's transaction; return None if the database refuses it again."""
    await settle_refused_end(connection, job_type, job_id)
    return await _refund(connection, job_type, job_id)


async def raise_balance(connection: Connection, user_id: str) -> Repaired | None:
    """Raise a balance to the sum of its opening balance and its ledger, in the caller's transaction.

    Returns:
        The balance before and after; None if the balance isn't below that sum.
    """
    balance = await lock_balance(connection, user_id)
    opening = await connection.fetchval(_OPENING, user_id)
    if opening is None:
        return None
    owed = opening + await connection.fetchval(_LEDGER, user_id)
    if owed <= balance:
        return None
    await connection.execute(_RAISE, user_id, owed)
    await require_balance(connection, user_id, owed)
    return Repaired("balance", balance, owed)


async def settle_account(connection: Connection, user_id: str, finding: str) -> Repaired | None:
    """Settle, in the caller's transaction, an account whose entries don't explain its balance.

    A balance below the sum of its entries is raised to it; what a balance has beyond the sum is recorded as an entry.
    `finding` is what the audit says of it, which names the application.

    Returns:
        The balance before and after, if it was raised, else the sum of the entries; None if nothing was to be settled.
    """
    row = await connection.fetchrow(_SETTLE, user_id, finding)
    if row is None:
        return None
    name: Literal["balance", "entries"] = "balance" if row["balance"] < row["settled"] else "entries"
    return Repaired(name, row[name], row["settled"])


async def _refund(connection: Connection, job_type: str, job_id: str) -> Repaired | None:
    amount = await refunded(connection, job_type, job_id)
    return None if amount is None else Repaired("refund", None, amount)
