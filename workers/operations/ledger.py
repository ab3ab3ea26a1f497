"""One entry in the ledger with its balance: the only way in which operations move tokens."""

from collections.abc import Mapping
from typing import Any, Literal

from models.connections import Connection

_HELD = 'SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = $1 FOR NO KEY UPDATE'
_ADD = """
UPDATE public.user_token_balances b SET balance = b.balance + $2, "updatedAt" = darkroom.utc_now() WHERE b."userId" = $1
"""
_OPEN = "SELECT darkroom.open_balances(ARRAY[$1::text])"
_LEDGER = """
INSERT INTO public.token_transactions
    (id, "userId", amount, type, source, "sourceId", "balanceAfter", metadata, "createdAt")
VALUES (darkroom.new_id(), $1, $2, $3::text::public."TokenTransactionType", $4, NULL, $5, $6, darkroom.utc_now())
RETURNING *
"""
REQUIRE_BALANCE = "SELECT darkroom.require_balances(ARRAY[$1::text], ARRAY[$2::bigint])"
"""Refuses a balance that isn't what was just written: a trigger or rule of the application's kept or changed it."""

_REQUIRE_LEDGER = "SELECT darkroom.require_booked('ledger rows', 1, $1)"


async def add_tokens(
    connection: Connection,
    user_id: str,
    amount: int,
    *,
    kind: Literal["EARN_ADMIN_ADJUSTMENT", "EARN_BONUS"],
    source: str,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Add to a balance and write the ledger's row; return that row. Inside the caller's transaction.

    The user row is locked first and the balance after it, in everyone's order. A balance below zero is the caller's
    to refuse.

    Raises:
        asyncpg.TriggeredDataChangeViolationError: a trigger or rule of the application's kept or changed one of them.
    """
    await connection.execute("SELECT FROM public.users u WHERE u.id = $1 FOR KEY SHARE", user_id)
    await connection.execute(_OPEN, user_id)
    balance_after = (await connection.fetchval(_HELD, user_id) or 0) + amount
    await connection.execute(_ADD, user_id, amount)
    row = await connection.fetchrow(_LEDGER, user_id, amount, kind, source, balance_after, metadata)
    is_entered = row is not None and (row["userId"], row["amount"]) == (user_id, amount)
    await connection.execute(_REQUIRE_LEDGER, int(is_entered))
    await connection.execute(REQUIRE_BALANCE, user_id, balance_after)
    return dict(row or {}) | {"balanceAfter": balance_after}
