"""Users: whose jobs and tokens they are."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

_FIND: Final = """
SELECT u.id, u.email FROM public.users u WHERE u.email = $1 OR u.id = $1 ORDER BY u.id = $1 LIMIT 1
"""
_MAKE: Final = """
INSERT INTO public.users (id, email, name, "updatedAt")
VALUES (darkroom.new_id(), $1, split_part($1, '@', 1), darkroom.utc_now())
ON CONFLICT (email) DO NOTHING RETURNING id
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user's id and e-mail, as far as there is one."""

    id: str
    email: str | None


async def find_user(connection: Connection, email_or_id: str) -> User | None:
    """Return a user by e-mail or id; None if there is none."""
    row = await connection.fetchrow(_FIND, email_or_id)
    return None if row is None else User(row["id"], row["email"])


async def make_user(connection: Connection, email: str) -> str | None:
    """Make a user and return the id; None if there is one of that e-mail."""
    user_id: str | None = await connection.fetchval(_MAKE, email)
    return user_id
