"""The limit on failed sign-ins: exact for tries at the same moment, also at several dashboards of one database.

A try takes a place before the password is verified, and there are as many places as failures are allowed. It keeps the
place for a minute if it fails, and gives it back if it doesn't. A try that finds every place taken waits while one of
them may be given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import asyncpg

from models.connections import Connection

MOST_FAILURES: Final = 5
"""Failures in WINDOW after which every further try is refused, counted by name and by address."""

WINDOW: Final = timedelta(minutes=1)

ABANDONED: Final = timedelta(seconds=10)
"""A try that is under way for longer counts as failed: its dashboard was killed."""

MOST_FORGOTTEN: Final = 50

_LOCK: Final = """
SELECT pg_advisory_xact_lock(k.key) FROM (
    SELECT hashtextextended(concat_ws(' ', 'darkroom.sign_in_tries', n.name), 0) AS key
    FROM unnest($1::text[]) n (name) ORDER BY 1) k
"""
_FORGET: Final = """
DELETE FROM darkroom.sign_in_tries t WHERE t.id IN (
    SELECT f.id FROM darkroom.sign_in_tries f WHERE f.at <= clock_timestamp() - $1::interval
    ORDER BY f.at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_RECENT: Final = """
SELECT t.at, t.has_failed OR t.at <= c.now - $4::interval AS has_failed, t.name_hash = $1 AS is_of_name,
       t.address = $2 AS is_of_address, c.now
FROM (SELECT clock_timestamp() AS now) c
JOIN darkroom.sign_in_tries t ON t.at > c.now - $3::interval AND (t.name_hash = $1 OR t.address = $2)
ORDER BY t.at DESC
"""
_BEGIN: Final = "INSERT INTO darkroom.sign_in_tries (name_hash, address) VALUES ($1, $2) RETURNING id"
_FAIL: Final = "UPDATE darkroom.sign_in_tries t SET has_failed = true WHERE t.id = $1"
_TAKE_BACK: Final = "DELETE FROM darkroom.sign_in_tries t WHERE t.id = $1"


@dataclass(frozen=True, slots=True)
class Begun:
    """What came of the beginning of a try.

    Attributes:
        number: of the try, which holds a place; None if it was refused or has to wait.
        retry_after: until when a refused try is refused; None if the try isn't refused. Then, without a number, it has
            to wait for tries that are under way.
    """

    number: int | None = None
    retry_after: timedelta | None = None


async def begin_try(connection: Connection, name_hash: bytes, address: str) -> Begun:
    """Take a place for a try to sign in, or say why there is none. In a transaction of its own."""
    # read committed: the statements after the lock see what whoever held it before has written
    await connection.execute(_LOCK, [f"name {name_hash.hex()}", f"address {address}"])
    await connection.execute(_FORGET, WINDOW, MOST_FORGOTTEN)
    rows = await connection.fetch(_RECENT, name_hash, address, WINDOW, ABANDONED)
    alike = [[row for row in rows if row[kind]] for kind in ("is_of_name", "is_of_address")]
    waits = [wait for some in alike if (wait := _wait(some)) is not None]
    if waits:
        return Begun(retry_after=max(waits))
    if any(len(some) >= MOST_FAILURES for some in alike):
        return Begun()
    return Begun(await connection.fetchval(_BEGIN, name_hash, address))


def _wait(rows: Sequence[asyncpg.Record]) -> timedelta | None:
    """Return how long it takes until fewer than MOST_FAILURES are in the window; None if so few are in it now.

    `rows` are the tries of one name or address, the latest first.
    """
    failed = [row for row in rows if row["has_failed"]]
    if len(failed) < MOST_FAILURES:
        return None
    last = failed[MOST_FAILURES - 1]
    wait: timedelta = last["at"] + WINDOW - last["now"]
    return wait


async def fail_try(connection: Connection, number: int) -> None:
    """Record that a try has failed; its place stays taken for the rest of the minute."""
    await connection.execute(_FAIL, number)


async def take_back_try(connection: Connection, number: int) -> None:
    """Give the place of a try back that has succeeded."""
    await connection.execute(_TAKE_BACK, number)
