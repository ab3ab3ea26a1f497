"""What users have, and what became of it."""

from typing import Any, Final

import asyncpg

from models.connections import Connection
from workers.operations.actions import record_action, record_adjustment
from workers.operations.errors import InvalidInputError, PaymentRefusedError, WrongModeError, translated
from workers.operations.ledger import add_tokens
from workers.operations.users import find_user
from workers.process.compose import Runtime

MOST_TOKENS: Final = 2_147_483_647
"""PostgreSQL's INTEGER, the type of a balance."""

_BALANCES = """
SELECT u.id AS "userId", u.email, coalesce(b.balance, 0) AS balance, coalesce(b.tier::text, 'FREE') AS tier,
       b."lastRegeneration", b."updatedAt"
FROM public.users u LEFT JOIN public.user_token_balances b ON b."userId" = u.id
WHERE $1::text IS NULL OR u.id = $1
ORDER BY u.email, u.id LIMIT $2
"""
_HISTORY = """
SELECT t.* FROM public.token_transactions t WHERE t."userId" = $1
ORDER BY t."createdAt" DESC, t.id DESC LIMIT $2
"""


async def list_balances(runtime: Runtime, email_or_id: str | None = None, *, limit: int = 50) -> list[dict[str, Any]]:
    """Return balances, by e-mail; of one user where one is named. Who has no balance row has 0.

    Raises:
        NotFoundError: the user named doesn't exist.
    """
    user_id = None if email_or_id is None else (await find_user(runtime, email_or_id)).id
    return [dict(row) for row in await runtime.database.fetch(_BALANCES, user_id, limit)]


async def list_transactions(runtime: Runtime, email_or_id: str, *, limit: int = 50) -> list[dict[str, Any]]:
    """Return a user's ledger, newest first.

    Raises:
        NotFoundError: there is no such user.
    """
    user = await find_user(runtime, email_or_id)
    return [dict(row) for row in await runtime.database.fetch(_HISTORY, user.id, limit)]


async def grant_tokens(
    runtime: Runtime, email_or_id: str, amount: int, *, actor: str, reason: str | None = None
) -> dict[str, Any]:
    """Add to a balance, or take from it with a negative amount; return the ledger's row.

    Raises:
        InvalidInputError: the amount is 0, or the balance would be more than a balance can hold.
        NotFoundError: there is no such user.
        PaymentRefusedError: more would be taken than there is.
        WrongModeError: the application keeps the balances.
    """
    if amount == 0 or abs(amount) > MOST_TOKENS:
        raise InvalidInputError(f"amount {amount:,}: give a whole number of tokens other than 0, up to {MOST_TOKENS:,}")
    user = await find_user(runtime, email_or_id)

    async def grant(connection: Connection) -> dict[str, Any]:
        async with connection.transaction():
            mode = await connection.fetchval("SELECT darkroom.money_mode()")
            if mode != "managed":
                raise WrongModeError(mode)
            row = await add_tokens(
                connection,
                user.id,
                amount,
                kind="EARN_ADMIN_ADJUSTMENT",
                source="operator_grant",
                metadata={"actor": actor, "reason": reason},
            )
            balance = row["balanceAfter"]
            if balance < 0:
                raise PaymentRefusedError(
                    f"user {email_or_id} has {balance - amount:,} tokens; taking {-amount:,} would leave {balance:,}"
                )
            await record_action(
                connection,
                actor=actor,
                action="tokens_grant",
                target=user.id,
                before={"balance": balance - amount},
                after={"balance": balance},
                reason=reason,
            )
            change = {"amount": amount, "balanceAfter": balance, "transactionId": row["id"]}
            await record_adjustment(connection, actor=actor, user_id=user.id, change=change, reason=reason)
            return row

    try:
        with translated():
            return await runtime.database.commit("grant", grant)
    except asyncpg.NumericValueOutOfRangeError as error:
        raise InvalidInputError(
            f"the balance of {email_or_id} would be more than {MOST_TOKENS:,}; grant less"
        ) from error
