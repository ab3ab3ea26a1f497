"""Sessions of the dashboard, kept here so that they can be ended: by signing out, by time, and with their operator."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from models.connections import Connection

IDLE: Final = timedelta(hours=12)
"""A session that nobody uses for so long is over."""

LIFETIME: Final = timedelta(days=7)
"""A session is over after so long, however often it is used."""

TOKEN_BYTES: Final = 32
SEEN: Final = timedelta(minutes=1)
"""How exactly it is recorded when a session was used: each page writes only once in this time."""

MOST_FORGOTTEN: Final = 100

_IS_OPEN: Final = "s.expires_at > now() AND s.seen_at > now() - $1::interval"

_STANDING: Final = f"""
SELECT EXISTS (SELECT FROM darkroom.operators) AS has_operators, s.name, s.role, s.is_due,
       n.name AS named, n.role AS named_role
FROM (SELECT 1) one
LEFT JOIN LATERAL (
    SELECT o.name, o.role, s.seen_at <= now() - $2::interval AS is_due
    FROM darkroom.sessions s JOIN darkroom.operators o ON o.name = s.operator
    WHERE s.token_hash = $3 AND {_IS_OPEN}) s ON true
LEFT JOIN darkroom.operators n ON n.name = $4
"""
_STILL: Final = f"""
SELECT EXISTS (SELECT FROM darkroom.operators) AS has_operators,
       ARRAY(SELECT s.token_hash FROM darkroom.sessions s WHERE s.token_hash = ANY ($2) AND {_IS_OPEN}) AS open,
       ARRAY(SELECT o.name || '/' || o.role FROM darkroom.operators o WHERE o.name = ANY ($3)) AS operators
"""
_SEE: Final = "UPDATE darkroom.sessions s SET seen_at = now() WHERE s.token_hash = $1"
_KEEP: Final = "SELECT o.name FROM darkroom.operators o WHERE o.name = $1 AND o.password_hash = $2 FOR SHARE"
_RENEW: Final = """
UPDATE darkroom.operators o SET password_hash = $3 WHERE o.name = $1 AND o.password_hash = $2 RETURNING o.name
"""
_OPEN: Final = """
INSERT INTO darkroom.sessions (token_hash, operator, expires_at) VALUES ($1, $2, now() + $3::interval)
"""
_FORGET: Final = """
DELETE FROM darkroom.sessions s WHERE s.token_hash IN (
    SELECT f.token_hash FROM darkroom.sessions f WHERE f.expires_at <= now() OR f.seen_at <= now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_END: Final = "DELETE FROM darkroom.sessions s WHERE s.token_hash = $1 RETURNING s.operator"


@dataclass(frozen=True, slots=True)
class Standing:
    """Who a request comes from, as the database says.

    Attributes:
        has_operators: whether there are any operators.
        name: of the session's operator; None without an open session.
        role: that operator's.
        is_due: whether it has to be recorded that the session was used.
        named_role: the role of the operator whom a proxy named; None if there is no such operator.
    """

    has_operators: bool
    name: str | None
    role: Any
    is_due: bool
    named_role: Any


@dataclass(frozen=True, slots=True)
class Still:
    """Which of some sessions are open, and which of some operators are there (as `NAME/ROLE`), at one moment."""

    has_operators: bool
    open: frozenset[bytes]
    operators: frozenset[str]


def new_token() -> str:
    """Return a new session's token: ASCII letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(text: str) -> bytes:
    """Return the SHA-256 of a token or a name, of which only this hash is stored."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


async def read_standing(connection: Connection, token_hash: bytes | None, named: str | None) -> Standing:
    """Return who a request comes from, in one statement.

    Args:
        connection: may be read only.
        token_hash: of the token that the request brings; None if it brings none.
        named: the operator whom a proxy names; None if none may be named.
    """
    row = await connection.fetchrow(_STANDING, IDLE, SEEN, token_hash, named)
    assert row is not None  # noqa: S101 - the statement begins with one row
    return Standing(row["has_operators"], row["name"], row["role"], bool(row["is_due"]), row["named_role"])


async def read_still(connection: Connection, token_hashes: Collection[bytes], names: Collection[str]) -> Still:
    """Return which of some sessions are still open, and which of some operators are still there."""
    row = await connection.fetchrow(_STILL, IDLE, list(token_hashes), list(names))
    assert row is not None  # noqa: S101 - a statement without FROM has one row
    return Still(row["has_operators"], frozenset(row["open"]), frozenset(row["operators"]))


async def see_session(connection: Connection, token_hash: bytes) -> None:
    """Record that a session was used now."""
    await connection.execute(_SEE, token_hash)


async def open_session(
    connection: Connection, name: str, token_hash: bytes, *, password_hash: str, new_hash: str | None
) -> bool:
    """Open a session for an operator whose password was verified against a hash, and delete sessions that are over.

    The operator's row is locked until the caller's transaction ends, so that no session is opened by a password that is
    changed at this moment.

    Args:
        connection: in the caller's transaction.
        name: the operator's.
        token_hash: of the session's token.
        password_hash: the hash by which the password was verified.
        new_hash: replaces that hash; None if it is as it should be.

    Returns:
        False if the operator doesn't have that hash any more; then nothing is written.
    """
    if new_hash is None:
        kept = await connection.fetchval(_KEEP, name, password_hash)
    else:
        kept = await connection.fetchval(_RENEW, name, password_hash, new_hash)
    if kept is None:
        return False
    await connection.execute(_OPEN, token_hash, name, LIFETIME)
    await connection.execute(_FORGET, IDLE, MOST_FORGOTTEN)
    return True


async def end_session(connection: Connection, token_hash: bytes) -> str | None:
    """End a session; return its operator's name, None if it was over before."""
    name: str | None = await connection.fetchval(_END, token_hash)
    return name
