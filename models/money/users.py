"""Users, who submit jobs and pay for them with tokens."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.applications.registry import has_pictures, is_of_pictures, job_types
from models.connections import Connection
from models.schema.newest import newest_rows

_FIND: Final = """
SELECT u.id, u.email FROM public.users u WHERE u.email = $1 OR u.id = $1 ORDER BY u.id = $1 LIMIT 1
"""
_HAS_JOBS: Final = """
SELECT EXISTS (SELECT FROM darkroom.jobs j WHERE j."userId" = $1 AND j.type = ANY ($2::text[]))
"""
_MAKE: Final = """
INSERT INTO public.users (id, email, name, "updatedAt")
VALUES (darkroom.new_id(), $1, coalesce($2, split_part($1, '@', 1)), darkroom.utc_now())
ON CONFLICT (email) DO NOTHING RETURNING id
"""
# The row's other columns, such as a password's hash, are the application's own.
_RECORDS: Final = """
SELECT u.id, u.email, u.name, u."createdAt" AS created_at, coalesce(b.balance, 0) AS balance,
       coalesce(b.tier::text, 'FREE') AS tier
FROM public.users u LEFT JOIN public.user_token_balances b ON b."userId" = u.id
WHERE $1::text IS NULL OR u.id = $1
ORDER BY u."createdAt" DESC, u.id LIMIT $2
"""
_NEWEST: Final = """
SELECT r.id, r.email, r.name, r."createdAt" AS created_at,
       coalesce((SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = r.id), 0) AS balance,
       coalesce((SELECT b.tier::text FROM public.user_token_balances b WHERE b."userId" = r.id), 'FREE') AS tier
FROM {newest} r ORDER BY r."createdAt" DESC, r.id DESC
"""
_COLUMNS: Final = 'r.id, r.email, r.name, r."createdAt"'
_JOBS: Final = """
SELECT j.status, count(*) AS count FROM darkroom.jobs j WHERE j."userId" = $1 AND j.type = ANY ($2::text[])
GROUP BY j.status ORDER BY j.status
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user's id and e-mail address, if there is one."""

    id: str
    email: str | None


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user as operators see it. `created_at` is UTC without a zone. A user without a balance row has 0 tokens."""

    id: str
    email: str | None
    name: str | None
    created_at: datetime
    balance: int
    tier: str


async def find_user(connection: Connection, email_or_id: str) -> User | None:
    """Return the user with an e-mail address or id; None if there is no such user.

    Only `pictures` has a table of users that we know. Where this process doesn't drain it, the text is taken as an id.
    """
    if not has_pictures():
        return User(email_or_id, None)
    row = await connection.fetchrow(_FIND, email_or_id)
    return None if row is None else User(row["id"], row["email"])


async def find_user_of_others(connection: Connection, user_id: str) -> User | None:
    """Return the user of an application other than `pictures` who has jobs; None if there is no such job."""
    types = [one for one in job_types() if not is_of_pictures(one)]
    if not types or not await connection.fetchval(_HAS_JOBS, user_id, types):
        return None
    return User(user_id, None)


async def make_user(connection: Connection, email: str, name: str | None = None) -> str | None:
    """Insert a user and return the id; None if a user with that e-mail exists.

    The name defaults to the e-mail's first part.
    """
    user_id: str | None = await connection.fetchval(_MAKE, email, name)
    return user_id


async def list_users(connection: Connection, most: int, user_id: str | None = None) -> list[UserRecord]:
    """Return users, newest first; only the given user if `user_id` isn't None."""
    return [UserRecord(**row) for row in await connection.fetch(_RECORDS, user_id, most)]


async def newest_users(connection: Connection, most: int) -> list[UserRecord]:
    """Return users who were probably added last, the newest first, reading few rows however many users there are."""
    newest = await newest_rows(connection, "public.users", _COLUMNS, most)
    return [UserRecord(**row) for row in await connection.fetch(_NEWEST.format(newest=newest))]


async def count_users(connection: Connection) -> int:
    """Count all users."""
    return int(await connection.fetchval("SELECT count(*) FROM public.users"))


async def count_jobs_of(connection: Connection, user_id: str) -> dict[str, int]:
    """Count the jobs of a user of `pictures` by their status."""
    types = [one for one in job_types() if is_of_pictures(one)]
    return {row["status"]: row["count"] for row in await connection.fetch(_JOBS, user_id, types)}
