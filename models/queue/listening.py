"""LISTEN: how PostgreSQL's notifications are received, and the check whether a connection can receive any.

Behind a pooler that lends sessions for a single transaction, no notification arrives.
"""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import asyncpg

from models.connections import session_losses_translated
from models.database import Database

WAKE_UP_CHANNEL: Final = "darkroom_bells"
"""Channel on which our triggers notify a queue's name when a job has entered it while workers wait for one."""

HEARD_WITHIN_S: Final = 2.0


async def listen(
    database: Database, channel: str, heard: Callable[[str], None], *, begun: Callable[[], None] | None = None
) -> None:
    """Receive notifications on a channel, until the connection ends.

    Args:
        database: a connection outside its pool is opened for this.
        channel: name of the channel.
        heard: called with each payload.
        begun: called once, at the moment from which every notification is received.

    Raises:
        DatabaseLostError: no connection can be opened, or it ended before it listened.
        OSError: this machine lacks what a connection needs.
    """
    connection = await database.connect_direct()
    try:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        async with session_losses_translated(connection):
            await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: heard(str(payload)))
        if begun is not None:
            begun()
        await ended.wait()
    finally:
        connection.terminate()


async def cannot_listen(database: Database) -> bool:
    """Return whether connections outside the pool receive no notifications.

    If the URL names a pooler, none arrive. A pooler that was only detected may lend a connection for a whole
    session; so this function sends a notification and looks whether it arrives.

    Raises:
        DatabaseLostError: no connection can be opened.
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
    await database.fetch("SELECT pg_notify($1, '')", channel)  # sent from another session, as producers send theirs
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            await heard.wait()
    except TimeoutError:
        return False
    return True
