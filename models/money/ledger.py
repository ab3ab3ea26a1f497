"""Users' balances and the ledger of their changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

from models.connections import Connection

_LOCK_USER: Final = "SELECT FROM public.users u WHERE u.id = $1 FOR KEY SHARE"
_LOCK_BALANCE: Final = 'SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = $1 FOR NO KEY UPDATE'
_BALANCE: Final = 'SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = $1'
_ADD: Final = """
UPDATE public.user_token_balances b SET balance = b.balance + $2, "updatedAt" = darkroom.utc_now() WHERE b."userId" = $1
"""
_OPEN: Final = "SELECT darkroom.open_balances(ARRAY[$1::text])"
_ENTER: Final = """
INSERT INTO public.token_transactions
    (id, "userId", amount, type, source, "sourceId", "balanceAfter", metadata, "createdAt")
VALUES (darkroom.new_id(), $1, $2, $3::text::public."TokenTransactionType", $4, NULL, $5, $6, darkroom.utc_now())
RETURNING *
"""
_REQUIRE_BALANCE: Final = "SELECT darkroom.require_balances(ARRAY[$1::text], ARRAY[$2::bigint])"
_REQUIRE_LEDGER: Final = "SELECT darkroom.require_booked('ledger rows', 1, $1)"
_BALANCES: Final = """
SELECT u.id AS user_id, u.email, coalesce(b.balance, 0) AS balance, coalesce(b.tier::text, 'FREE') AS tier,
       b."lastRegeneration" AS last_regeneration, b."updatedAt" AS updated_at
FROM public.users u LEFT JOIN public.user_token_balances b ON b."userId" = u.id
WHERE $1::text IS NULL OR u.id = $1
ORDER BY u.email, u.id LIMIT $2
"""
_BY_EMAIL: Final = """
SELECT u.email, coalesce(b.balance, 0) AS balance
FROM public.users u LEFT JOIN public.user_token_balances b ON b."userId" = u.id WHERE u.email = ANY ($1::text[])
"""
_HISTORY: Final = """
SELECT t.* FROM public.token_transactions t WHERE t."userId" = $1
ORDER BY t."createdAt" DESC, t.id DESC LIMIT $2
"""

MOST_TOKENS: Final = 2_147_483_647
"""PostgreSQL's INTEGER, the type of a balance."""


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's balance; 0 tokens of tier FREE for a user without a balance row."""

    user_id: str
    email: str | None
    balance: int
    tier: str
    last_regeneration: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """An entry in the ledger.

    Attributes:
        id: the row's id.
        amount: tokens added, negative where they were taken.
        balance_after: the user's balance after this entry.
        reason: the reason that an operator gave for it; None for other entries.
        columns: the whole row by its table's own column names, for printing.
    """

    id: str
    amount: int
    balance_after: int
    reason: str | None
    columns: Mapping[str, Any]


async def lock_balance(connection: Connection, user_id: str) -> int:
    """Lock a user's row and then the balance, in the lock order; return the balance, 0 if there is no balance row."""
    await connection.execute(_LOCK_USER, user_id)
    return int(await connection.fetchval(_LOCK_BALANCE, user_id) or 0)


async def require_balance(connection: Connection, user_id: str, balance: int) -> None:
    """Check that a balance was stored as it was written.

    Raises:
        asyncpg.TriggeredDataChangeViolationError: a trigger or rule of the application's kept the old balance or
            changed the new one.
    """
    await connection.execute(_REQUIRE_BALANCE, user_id, balance)


async def add_tokens(
    connection: Connection,
    user_id: str,
    amount: int,
    *,
    kind: Literal["EARN_ADMIN_ADJUSTMENT", "EARN_BONUS"],
    source: str,
    metadata: Mapping[str, Any] | None = None,
) -> LedgerRow:
    """Add to a balance and write the ledger's row, in the caller's transaction; return that row.

    The user's row is locked first and the balance after it, in the lock order. The caller has to refuse a change that
    would leave a balance below zero.

    Raises:
        asyncpg.TriggeredDataChangeViolationError: a trigger or rule of the application's kept the balance or the
            ledger's row from being stored as written.
    """
    await connection.execute(_LOCK_USER, user_id)
    await connection.execute(_OPEN, user_id)
    balance_after = int(await connection.fetchval(_LOCK_BALANCE, user_id) or 0) + amount
    await connection.execute(_ADD, user_id, amount)
    row = await connection.fetchrow(_ENTER, user_id, amount, kind, source, balance_after, metadata)
    is_entered = row is not None and (row["userId"], row["amount"]) == (user_id, amount)
    await connection.execute(_REQUIRE_LEDGER, int(is_entered))
    await require_balance(connection, user_id, balance_after)
    assert row is not None  # noqa: S101 - _REQUIRE_LEDGER has failed otherwise
    return _ledger_row({**row, "balanceAfter": balance_after})


async def balance_of(connection: Connection, user_id: str) -> int:
    """Return a user's balance, without a lock."""
    return int(await connection.fetchval(_BALANCE, user_id) or 0)


async def list_balances(connection: Connection, user_id: str | None, most: int) -> list[Balance]:
    """Return users' balances, ordered by e-mail; only the given user's if `user_id` isn't None."""
    return [Balance(**row) for row in await connection.fetch(_BALANCES, user_id, most)]


async def count_balances(connection: Connection, user_id: str | None) -> int:
    """Count the users that `list_balances` would return without a limit."""
    return int(await connection.fetchval(f"SELECT count(*) FROM ({_BALANCES}) b", user_id, None))


async def balances_by_email(connection: Connection, emails: list[str]) -> dict[str, int]:
    """Return the balances of the users with some e-mail addresses, by e-mail."""
    return {row["email"]: row["balance"] for row in await connection.fetch(_BY_EMAIL, emails)}


async def list_ledger(connection: Connection, user_id: str, most: int) -> list[LedgerRow]:
    """Return a user's ledger, newest first."""
    return [_ledger_row(row) for row in await connection.fetch(_HISTORY, user_id, most)]


async def count_ledger(connection: Connection, user_id: str) -> int:
    """Count the entries of a user's ledger."""
    return int(await connection.fetchval(f"SELECT count(*) FROM ({_HISTORY}) t", user_id, None))


def _ledger_row(row: asyncpg.Record | Mapping[str, Any]) -> LedgerRow:
    columns = dict(row)
    metadata = columns["metadata"]
    reason = metadata.get("reason") if isinstance(metadata, dict) else None
    return LedgerRow(columns["id"], columns["amount"], columns["balanceAfter"], reason, columns)
