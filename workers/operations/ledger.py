"""One entry in the ledger with its balance: the only way in which operations move tokens."""

from collections.abc import Mapping
from typing import Any, Literal

from models.connections import Connection

_BALANCE = """
INSERT INTO public.user_token_balances AS b (id, "userId", balance, "updatedAt")
VALUES (darkroom.new_id(), $1, $2, darkroom.utc_now())
ON CONFLICT ("userId") DO UPDATE SET balance = b.balance + excluded.balance, "updatedAt" = excluded."updatedAt"
RETURNING b.balance
"""
_LEDGER = """
INSERT INTO public.token_transactions
    (id, "userId", amount, type, source, "sourceId", "balanceAfter", metadata, "createdAt")
VALUES (darkroom.new_id(), $1, $2, $3::text::public."TokenTransactionType", $4, NULL, $5, $6, darkroom.utc_now())
RETURNING *
"""


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
    """
    await connection.execute("SELECT FROM public.users u WHERE u.id = $1 FOR KEY SHARE", user_id)
    balance_after = await connection.fetchval(_BALANCE, user_id, amount)
    row = await connection.fetchrow(_LEDGER, user_id, amount, kind, source, balance_after, metadata)
    assert row is not None  # noqa: S101 - an INSERT without a conflict clause returns its row
    return dict(row)
