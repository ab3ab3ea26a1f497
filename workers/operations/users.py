"""Whose jobs they are: users by e-mail or id, and the user of an embedded installation."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from workers.operations.errors import NotFoundError, OperationError
from workers.operations.ledger import add_tokens
from workers.process.compose import Runtime

LOCAL_EMAIL: Final = "you@darkroom.local"
"""Whose pictures they are when nobody is named, on embedded data."""

LOCAL_TOKENS: Final = 1000
"""What a user gets that is made on embedded data: a hundred of the dearest jobs."""

_FIND = """
SELECT u.id, u.email FROM public.users u WHERE u.email = $1 OR u.id = $1 ORDER BY u.id = $1 LIMIT 1
"""
_MAKE = """
INSERT INTO public.users (id, email, name, "updatedAt")
VALUES (darkroom.new_id(), $1, split_part($1, '@', 1), darkroom.utc_now())
ON CONFLICT (email) DO NOTHING RETURNING id, email
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user's id and e-mail, as far as there is one."""

    id: str
    email: str | None


async def find_user(runtime: Runtime, email_or_id: str) -> User:
    """Find a user.

    Raises:
        NotFoundError: there is none.
    """
    row = await runtime.database.fetchrow(_FIND, email_or_id)
    if row is None:
        raise NotFoundError(f"user {email_or_id} not found; give the e-mail or the id of a row in users")
    return User(row["id"], row["email"])


async def require_user(runtime: Runtime, email_or_id: str | None, *, tokens_needed: int = 0) -> User:
    """Find the user whose jobs these are to be; on embedded data make them, with tokens enough.

    Args:
        runtime: open.
        email_or_id: None means the local user, on embedded data only.
        tokens_needed: what the local user is given at least. Everyone else's balance stays what it is.

    Raises:
        NotFoundError: there is no such user, and the data isn't embedded.
        OperationError: nobody is named, and the data isn't embedded.
    """
    is_embedded = runtime.services.is_embedded
    if email_or_id is None and not is_embedded:
        raise OperationError("whose job is it? give --user EMAIL; only on embedded data it may be left out")
    if not is_embedded or (email_or_id is not None and "@" not in email_or_id):
        return await find_user(runtime, email_or_id or "")
    email = email_or_id or LOCAL_EMAIL
    await runtime.database.commit("make_user", lambda connection: _make(connection, email, tokens_needed))
    user = await find_user(runtime, email)
    if email_or_id is None:
        await runtime.database.commit("top_up", lambda connection: _top_up(connection, user.id, tokens_needed))
    return user


async def _make(connection: Connection, email: str, needed: int) -> None:
    async with connection.transaction():
        row = await connection.fetchrow(_MAKE, email)
        if row is not None and await is_managed(connection):
            await add_tokens(connection, row["id"], max(LOCAL_TOKENS, needed), kind="EARN_BONUS", source="local_user")


async def _top_up(connection: Connection, user_id: str, needed: int) -> None:
    """Keep the local user's own play money from ending the fun."""
    async with connection.transaction():
        if not await is_managed(connection):
            return
        balance = await connection.fetchval(
            'SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = $1', user_id
        )
        if (balance or 0) < needed:
            await add_tokens(connection, user_id, max(LOCAL_TOKENS, needed), kind="EARN_BONUS", source="local_user")


async def is_managed(connection: Connection) -> bool:
    """Say whether balances are ours to change."""
    return bool(await connection.fetchval("SELECT darkroom.money_mode() = 'managed'"))
