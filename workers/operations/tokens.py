"""Balances and ledger as operators see and change them."""

from typing import Final

import asyncpg

from models.connections import Connection
from models.history.actions import newest_grant, record_action, record_adjustment
from models.money import ledger
from models.money.ledger import MOST_TOKENS, Balance, LedgerRow, add_tokens, list_ledger
from models.schema.settings import money_mode
from workers.operations.errors import InvalidInputError, PaymentRefusedError, WrongModeError, translated
from workers.operations.users import find_user
from workers.process.runtime import Runtime

ANY_GRANT: Final = -1
"""Stands for whatever grant is the newest one."""


async def list_balances(runtime: Runtime, email_or_id: str | None = None, *, limit: int = 50) -> list[Balance]:
    """Return balances, ordered by e-mail; only of one user if a user is given. A user without a balance row has 0.

    Raises:
        NotFoundError: the user doesn't exist.
    """
    user_id = None if email_or_id is None else (await find_user(runtime, email_or_id)).id
    return await runtime.database.run(lambda connection: ledger.list_balances(connection, user_id, limit))


async def count_balances(runtime: Runtime, email_or_id: str | None = None) -> int:
    """Count the users that `list_balances` would return without a limit.

    Raises:
        NotFoundError: the user doesn't exist.
    """
    user_id = None if email_or_id is None else (await find_user(runtime, email_or_id)).id
    return await runtime.database.run(lambda connection: ledger.count_balances(connection, user_id))


async def count_transactions(runtime: Runtime, email_or_id: str) -> int:
    """Count the entries of a user's ledger.

    Raises:
        NotFoundError: there is no such user.
    """
    user = await find_user(runtime, email_or_id)
    return await runtime.database.run(lambda connection: ledger.count_ledger(connection, user.id))


async def list_transactions(runtime: Runtime, email_or_id: str, *, limit: int = 50) -> list[LedgerRow]:
    """Return a user's ledger, newest first.

    Raises:
        NotFoundError: there is no such user.
    """
    user = await find_user(runtime, email_or_id)
    return await runtime.database.run(lambda connection: list_ledger(connection, user.id, limit))


async def grant_tokens(
    runtime: Runtime,
    email_or_id: str,
    amount: int,
    *,
    actor: str,
    reason: str | None = None,
    known_grant: int | None = ANY_GRANT,
) -> LedgerRow:
    """Add to a balance, or take from it with a negative amount; return the ledger's row.

    Args:
        runtime: an open runtime.
        email_or_id: the user.
        amount: the tokens to add.
        actor: who does it.
        reason: why.
        known_grant: the newest grant to the user that the operator knew, None for none; another one since then refuses
            this one, so that a form that is sent twice grants once.

    Raises:
        InvalidInputError: the amount is 0, or the balance would exceed the largest one.
        NotFoundError: there is no such user.
        PaymentRefusedError: the balance would be negative.
        WrongModeError: the application keeps the balances.
    """
    if amount == 0 or abs(amount) > MOST_TOKENS:
        raise InvalidInputError(f"amount {amount:,}: give a whole number of tokens other than 0, up to {MOST_TOKENS:,}")
    user = await find_user(runtime, email_or_id)

    async def grant(connection: Connection) -> LedgerRow:
        async with connection.transaction():
            mode = await money_mode(connection)
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
            # the balance is locked by now, so no other grant can come between
            if known_grant != ANY_GRANT and known_grant != await newest_grant(connection, user.id):
                raise InvalidInputError(
                    f"tokens were granted to {email_or_id} since this form was shown; look at the ledger, and ask again"
                )
            balance = row.balance_after
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
            change = {"amount": amount, "balanceAfter": balance, "transactionId": row.id}
            await record_adjustment(connection, actor=actor, user_id=user.id, change=change, reason=reason)
            return row

    try:
        with translated():
            return await runtime.database.commit("grant", grant)
    except asyncpg.NumericValueOutOfRangeError as error:
        raise InvalidInputError(
            f"the balance of {email_or_id} would be more than {MOST_TOKENS:,}; grant less"
        ) from error
