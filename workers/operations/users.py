"""Whose jobs they are: users by e-mail or id, and the user of an embedded installation."""

from typing import Final

from models.connections import Connection
from models.money import users
from models.money.ledger import add_tokens, balance_of
from models.money.users import User, make_user
from models.schema.settings import is_managed
from workers.operations.errors import NotFoundError, OperationError
from workers.operations.ids import whole_id
from workers.process.runtime import Runtime

LOCAL_EMAIL: Final = "you@darkroom.local"
"""Whose pictures they are when nobody is named, on embedded data."""

LOCAL_TOKENS: Final = 1000
"""What a user gets that is made on embedded data: a hundred of the dearest jobs."""


async def find_user(runtime: Runtime, email_or_id: str) -> User:
    """Find a user by e-mail, id, or the beginning of an id.

    Raises:
        AmbiguousIdError: several ids begin so.
        NotFoundError: there is none.
    """
    user = await runtime.database.run(lambda connection: users.find_user(connection, email_or_id))
    if user is None and (user_id := await whole_id(runtime, "user", email_or_id)) != email_or_id:
        user = await runtime.database.run(lambda connection: users.find_user(connection, user_id))
    if user is None:
        raise NotFoundError(f"user {email_or_id} not found; give the e-mail or the id of a row in users")
    return user


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
        user_id = await make_user(connection, email)
        if user_id is not None and await is_managed(connection):
            await _give(connection, user_id, needed)


async def _top_up(connection: Connection, user_id: str, needed: int) -> None:
    """Give the local user tokens again once they don't last for what is wanted."""
    async with connection.transaction():
        if await is_managed(connection) and await balance_of(connection, user_id) < needed:
            await _give(connection, user_id, needed)


async def _give(connection: Connection, user_id: str, needed: int) -> None:
    await add_tokens(connection, user_id, max(LOCAL_TOKENS, needed), kind="EARN_BONUS", source="local_user")
