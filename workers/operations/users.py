"""Users by e-mail or id, and the local user of an embedded installation."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from models.applications.pictures.application import PICTURES
from models.applications.registry import applications, has_pictures
from models.connections import Connection
from models.history.actions import record_action
from models.money import users
from models.money.ledger import MOST_TOKENS, add_tokens, balance_of
from models.money.users import User, UserRecord, make_user
from models.queue.job_filter import UserOfJobs
from models.schema.server import server_time_in_milliseconds
from models.schema.settings import is_managed, money_mode
from workers.operations.errors import InvalidInputError, NotFoundError, OperationError, WrongModeError
from workers.operations.ids import whole_id
from workers.process.runtime import Runtime

_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f]{1,128}@[^@\s\x00-\x1f]{1,190}")

LOCAL_EMAIL: Final = "you@darkroom.local"
"""E-mail of the local user, to whom jobs on embedded data belong if no user is given."""

LOCAL_TOKENS: Final = 1000
"""Tokens of a new local user, enough for a hundred jobs of the most expensive tier."""


@dataclass(frozen=True, slots=True)
class Payer:
    """The user who pays for jobs that are about to be submitted.

    Attributes:
        name: the e-mail, or the id if there is none.
        mode: who keeps the balances, as TOKENS names it.
        balance: in tokens; None if Darkroom doesn't keep the balances.
        at: the database's time when the balance was read.
    """

    name: str
    mode: str
    balance: int | None
    at: datetime


async def find_user(runtime: Runtime, email_or_id: str) -> User:
    """Return a user by e-mail, id, or the beginning of an id; of other applications than `pictures` by the whole id.

    Raises:
        AmbiguousIdError: several ids begin with the text.
        NotFoundError: there is no such user.
    """
    user = await runtime.database.run(lambda connection: users.find_user(connection, email_or_id))
    if user is None and (user_id := await whole_id(runtime, "user", email_or_id)) != email_or_id:
        user = await runtime.database.run(lambda connection: users.find_user(connection, user_id))
    if user is None:
        user = await runtime.database.run(lambda connection: users.find_user_of_others(connection, email_or_id))
    if user is None:
        raise NotFoundError(f"user {email_or_id} not found; give the e-mail or the id of a row in users")
    return user


async def user_of_jobs(runtime: Runtime, given: str) -> UserOfJobs:
    """Return a user whose jobs are meant: by e-mail or id, or by APPLICATION/ID where several applications are drained.

    Users of `pictures` are found as by `find_user`. Only the rows of jobs say who the users of other applications are,
    so where such an application is drained, a text by which no user is found is taken for an id, or APPLICATION/ID.
    Without an application, users of all applications who have the id are meant.

    Raises:
        AmbiguousIdError: several ids of users of `pictures` begin with the text.
        NotFoundError: there is no such user, and only `pictures` is drained.
    """
    drained = [one.name for one in applications()]
    application, slash, user_id = given.partition("/")
    named = UserOfJobs(user_id, application) if slash and len(drained) > 1 and application in drained else None
    if not has_pictures():
        return named or UserOfJobs(given)
    try:
        return UserOfJobs((await find_user(runtime, given)).id)
    except NotFoundError:
        if named is not None and application == PICTURES.name:
            return UserOfJobs((await find_user(runtime, user_id)).id, application)
        if len(drained) > 1:
            return named or UserOfJobs(given)
        raise


async def list_users(runtime: Runtime, *, limit: int = 50) -> list[UserRecord]:
    """Return users, the newest first."""
    return await runtime.database.run(lambda connection: users.list_users(connection, limit))


async def count_users(runtime: Runtime) -> int:
    """Count all users."""
    return await runtime.database.run(users.count_users)


async def get_user(runtime: Runtime, email_or_id: str) -> tuple[UserRecord, dict[str, int]]:
    """Return a user, and the user's number of jobs by status.

    Raises:
        AmbiguousIdError: several ids begin with the text.
        NotFoundError: there is no such user.
    """
    user = await find_user(runtime, email_or_id)

    async def read(connection: Connection) -> tuple[UserRecord, dict[str, int]]:
        found = await users.list_users(connection, 1, user.id)
        if not found:
            raise NotFoundError(f"user {email_or_id} not found; it was deleted meanwhile")
        return found[0], await users.count_jobs_of(connection, user.id)

    return await runtime.database.run(read)


async def create_user(
    runtime: Runtime, email: str, *, name: str | None = None, tokens: int = 0, actor: str
) -> UserRecord:
    """Insert a user into the application's own table, with tokens if Darkroom keeps the balances; return the user.

    Raises:
        InvalidInputError: the e-mail has no @ or is taken, or the number of tokens is negative or too large.
        OperationError: the application's table requires columns for which Darkroom has no value.
        WrongModeError: the user is to have tokens, and the application keeps the balances.
    """
    if not _EMAIL.fullmatch(email):
        raise InvalidInputError(f"{email!r} is no e-mail address")
    if not 0 <= tokens <= MOST_TOKENS:
        raise InvalidInputError(f"tokens {tokens:,}: give a whole number from 0 to {MOST_TOKENS:,}")

    async def create(connection: Connection) -> str:
        async with connection.transaction():
            if tokens and (mode := await money_mode(connection)) != "managed":
                raise WrongModeError(mode)
            user_id = await make_user(connection, email, name)
            if user_id is None:
                raise InvalidInputError(f"there is a user {email} already; `darkroom users show {email}` shows it")
            if tokens:
                await add_tokens(connection, user_id, tokens, kind="EARN_BONUS", source="user_created")
            after = {"email": email, "tokens": tokens}
            await record_action(connection, actor=actor, action="user_create", target=user_id, after=after)
            return user_id

    try:
        user_id = await runtime.database.commit("create_user", create)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.SyntaxOrAccessError) as error:
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise
        raise OperationError(
            f"Darkroom can't make users of this application: PostgreSQL says {error}; let the application make them"
        ) from error
    return (await get_user(runtime, user_id))[0]


async def require_user(runtime: Runtime, email_or_id: str | None, *, tokens_needed: int = 0) -> User:
    """Return the user who submits jobs.

    On an embedded database the local user is created if missing, with enough tokens.

    Args:
        runtime: an open runtime.
        email_or_id: None means the local user, on an embedded database only.
        tokens_needed: the least balance that the local user gets. Other users' balances aren't changed.

    Raises:
        NotFoundError: there is no such user, and the database isn't embedded.
        OperationError: no user is given, and the database isn't embedded.
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


async def payer_of(runtime: Runtime, user: User) -> Payer:
    """Return a user's name and balance, before the user's jobs are submitted."""

    async def read(connection: Connection) -> Payer:
        mode = await money_mode(connection)
        balance = await balance_of(connection, user.id) if mode == "managed" else None
        return Payer(user.email or user.id, mode, balance, await server_time_in_milliseconds(connection))

    return await runtime.database.run(read)


async def _make(connection: Connection, email: str, needed: int) -> None:
    async with connection.transaction():
        user_id = await make_user(connection, email)
        if user_id is not None and await is_managed(connection):
            await _give(connection, user_id, needed)


async def _top_up(connection: Connection, user_id: str, needed: int) -> None:
    """Add LOCAL_TOKENS to the local user's balance if it is smaller than `needed`."""
    async with connection.transaction():
        if await is_managed(connection) and await balance_of(connection, user_id) < needed:
            await _give(connection, user_id, needed)


async def _give(connection: Connection, user_id: str, needed: int) -> None:
    await add_tokens(connection, user_id, max(LOCAL_TOKENS, needed), kind="EARN_BONUS", source="local_user")
