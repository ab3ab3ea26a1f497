"""Rows of people who may sign in to the dashboard."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from models.connections import Connection
from models.operators.sessions import IDLE

Role = Literal["viewer", "operator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

_LIST: Final = """
SELECT o.name, o.role, o.created_at,
       count(*) FILTER (WHERE s.expires_at > now() AND s.seen_at > now() - $2::interval)::integer AS sessions,
       max(s.seen_at) AS seen_at
FROM darkroom.operators o LEFT JOIN darkroom.sessions s ON s.operator = o.name
WHERE $1::text IS NULL OR o.name = $1
GROUP BY o.name ORDER BY o.name
"""
_HASH: Final = "SELECT o.password_hash FROM darkroom.operators o WHERE o.name = $1"
_EXIST: Final = "SELECT EXISTS (SELECT FROM darkroom.operators)"
_INSERT: Final = """
INSERT INTO darkroom.operators (name, role, password_hash) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING
RETURNING name
"""
_LOCK: Final = "SELECT o.role FROM darkroom.operators o WHERE o.name = $1 FOR UPDATE"
_CHANGE: Final = "UPDATE darkroom.operators o SET role = $2, password_hash = $3 WHERE o.name = $1"
_END_SESSIONS: Final = "DELETE FROM darkroom.sessions s WHERE s.operator = $1"
_DELETE: Final = "DELETE FROM darkroom.operators o WHERE o.name = $1 RETURNING o.role"


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """A person who may sign in.

    Attributes:
        name: by which the person signs in.
        role: what the person may do.
        created_at: when the operator was added.
        sessions: how many sessions are open.
        seen_at: when one of them was used last, to the minute; None if there is none.
    """

    name: str
    role: Role
    created_at: datetime
    sessions: int
    seen_at: datetime | None


async def list_operators(connection: Connection, name: str | None = None) -> list[OperatorRecord]:
    """Return all operators by name, or the one of a name."""
    return [OperatorRecord(**row) for row in await connection.fetch(_LIST, name, IDLE)]


async def operators_exist(connection: Connection) -> bool:
    """Return whether anybody may sign in."""
    return bool(await connection.fetchval(_EXIST))


async def password_hash_of(connection: Connection, name: str) -> str | None:
    """Return the hash of an operator's password; None if there is no such operator."""
    found: str | None = await connection.fetchval(_HASH, name)
    return found


async def insert_operator(connection: Connection, name: str, role: Role, password_hash: str) -> bool:
    """Add an operator; return False if there is one of this name, who isn't changed."""
    return await connection.fetchval(_INSERT, name, role, password_hash) is not None


async def change_operator(connection: Connection, name: str, role: Role, password_hash: str) -> Role | None:
    """Give an operator a role and a password, and end the operator's sessions; return the role until now.

    The result is None if there is no such operator. The caller's transaction has nothing else before it: the row is
    locked first, so that a sign-in with the old password that is under way makes no session afterwards.
    """
    before: Role | None = await connection.fetchval(_LOCK, name)
    if before is not None:
        await connection.execute(_CHANGE, name, role, password_hash)
        await connection.execute(_END_SESSIONS, name)
    return before


async def delete_operator(connection: Connection, name: str) -> Role | None:
    """Remove an operator with all sessions; return the operator's role, None if there is no such operator."""
    role: Role | None = await connection.fetchval(_DELETE, name)
    return role
