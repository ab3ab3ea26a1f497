"""The end of a dead worker's lease, by its supervisor, which sees the death at once."""

import asyncio
import time
from functools import partial
from uuid import UUID

from models.connections import DatabaseLostError
from models.database import Database
from models.queue.leases import sign_off

SIGN_OFF_RETRY_S = 0.5
"""Seconds until recording a worker's death is tried again, while its lease may still be valid."""


async def sign_off_dead(database: Database, worker_id: UUID, lease_s: float) -> None:
    """Delete a dead worker's row; if PostgreSQL is unreachable, try again until the lease must have expired.

    Raises:
        DatabaseLostError: PostgreSQL was unreachable all the time.
    """
    until_s = time.monotonic() + lease_s + SIGN_OFF_RETRY_S
    while True:
        try:
            async with asyncio.timeout(max(lease_s / 3, 1.0)):
                connection = await database.connect_direct()
                try:
                    await database.run_direct(connection, partial(sign_off, worker_id=worker_id))
                finally:
                    connection.terminate()
        except (DatabaseLostError, OSError):  # a timeout is an OSError, too
            if time.monotonic() > until_s:
                raise
            await asyncio.sleep(SIGN_OFF_RETRY_S)
        else:
            return
