"""Whether the jobs of some queues are done, for workers that end then."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from models.connections import DATABASE_ERRORS, Connection
from models.database import Database
from models.gate.provider_calls import provider_wait
from models.queue.stats import count_left
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from workers.gate.rules import rules_of

PATIENCE_S: Final = 60.0
"""How long PostgreSQL may be away before it is no longer waited for."""


class Draining:
    """Looks at the queues from time to time."""

    def __init__(self, settings: Settings, database: Database, queues: Sequence[str]) -> None:
        """Prepare; nothing is opened, and each look has a connection of its own."""
        self._settings = settings
        self._database = database
        self._queues = queues
        self._seen_s = time.monotonic()

    async def is_done(self) -> bool:
        """Say whether no job runs or will run without an operator's action; False while that is unknown.

        Raises:
            DatabaseLostError: PostgreSQL has been away for PATIENCE_S.
        """
        try:
            left = await self._count()
        except DATABASE_ERRORS:
            if time.monotonic() - self._seen_s > PATIENCE_S:
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
        return await count_left(connection, self._queues, is_stopped=await self._is_stopped(connection))

    async def _is_stopped(self, connection: Connection) -> bool:
        """Say whether operators have stopped every provider, by a pause or by the kill switch."""
        for name in self._settings.providers:
            wait = partial(provider_wait, connection, name, rules_of(self._settings, name))
            refused = await wait(is_paid=PROVIDERS[name].is_paid)
            if refused is None or refused.kind != "stopped":
                return False
        return True
