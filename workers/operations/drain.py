"""Whether the jobs of some queues are done, for workers that drain the queues and then end."""

import time
from collections.abc import Sequence
from typing import Final

from models.connections import DATABASE_ERRORS, Connection
from models.database import Database
from models.queue.stats import count_left
from pipelines.settings import Settings
from workers.operations.shut_providers import shut_providers

LONGEST_OUTAGE_S: Final = 60.0
"""How long, in seconds, PostgreSQL may be unreachable before the error is raised."""


class Drain:
    """Checks from time to time whether the jobs of some queues are done."""

    def __init__(self, settings: Settings, database: Database, queues: Sequence[str]) -> None:
        """Store what the checks need. Each check opens a connection of its own."""
        self._settings = settings
        self._database = database
        self._queues = queues
        self._seen_s = time.monotonic()

    async def is_done(self) -> bool:
        """Return whether no job runs or will run without an operator's action; False while that is unknown.

        Raises:
            DatabaseLostError: PostgreSQL has been unreachable for LONGEST_OUTAGE_S.
        """
        try:
            left = await self._count()
        except DATABASE_ERRORS:
            if time.monotonic() - self._seen_s > LONGEST_OUTAGE_S:
                raise
            return False
        self._seen_s = time.monotonic()
        return not left

    async def _count(self) -> int:
        connection = await self._database.connect_direct()
        try:
            return await self._database.run_direct(connection, self._left)
        finally:
            connection.terminate()

    async def _left(self, connection: Connection) -> int:
        shut = await shut_providers(connection, self._settings)
        is_stopped = len(shut) == len(self._settings.providers) and all(one.is_stopped for one in shut)
        return await count_left(connection, self._queues, is_stopped=is_stopped)
