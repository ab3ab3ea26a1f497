"""Is what is notified heard? Behind a pooler that lends sessions by the transaction nobody hears anything."""

import asyncio
from typing import Final
from uuid import uuid4

import asyncpg

from models.database import Database

HEARD_WITHIN_S: Final = 2.0


async def cannot_listen(database: Database) -> bool:
    """Say whether connections past the pool hear no NOTIFY.

    A pooler that the URL names is believed. One that was found may lend whole sessions, so it is tried.

    Raises:
        DatabaseLostError: no connection can be had.
    """
    connection = await database.connect_direct()
    try:
        if not database.is_direct_behind_pooler:
            return False
        return database.is_direct_pooler_declared or not await _hears(database, connection)
    finally:
        connection.terminate()


async def _hears(database: Database, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    channel, heard = f"darkroom_{uuid4().hex}", asyncio.Event()
    await connection.add_listener(channel, lambda *_notified: heard.set())
    await database.fetch("SELECT pg_notify($1, '')", channel)  # by another session, as producers do
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            await heard.wait()
    except TimeoutError:
        return False
    return True
