"""Whether the jobs of some queues are done, for workers that drain the queues and then end."""

import time
from collections.abc import Sequence
from typing import Final

from config.logger import EventLogger
from models.connections import DATABASE_ERRORS, Connection
from models.database import Database
from models.gate.costs import total_budget_reasons
from models.queue.left import Left, jobs_left
from pipelines.settings import Settings
from workers.operations.shut_providers import shut_providers

log = EventLogger(__name__)

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
        self._left: Sequence[Left] = ()

    async def is_done(self) -> bool:
        """Return whether no job runs or will run without an operator's action; False if that isn't known yet.

        Raises:
            DatabaseLostError: PostgreSQL has been unreachable for LONGEST_OUTAGE_S.
        """
        try:
            self._left = await self._look()
        except DATABASE_ERRORS:
            if time.monotonic() - self._seen_s > LONGEST_OUTAGE_S:
                raise
            return False
        self._seen_s = time.monotonic()
        return all(one.why is not None for one in self._left)

    def log_left(self) -> None:
        """Log which jobs wait for an operator, and why, as the last check has found."""
        for one in self._left:
            if one.why is not None:
                log.info("drain_left_jobs", reason=one.why, jobs=one.count, job_ids=list(one.job_ids))

    async def _look(self) -> Sequence[Left]:
        connection = await self._database.connect_direct()
        try:
            return await self._database.run_direct(connection, self._jobs_left)
        finally:
            connection.terminate()

    async def _jobs_left(self, connection: Connection) -> Sequence[Left]:
        shut = await shut_providers(connection, self._settings)
        is_stopped = len(shut) == len(self._settings.providers) and all(one.is_stopped for one in shut)
        stopped = "; ".join(f"{one.name}: {one.reason}" for one in shut) if is_stopped else None
        spent = await total_budget_reasons(connection, self._settings.budgets)
        return await jobs_left(connection, self._queues, stopped=stopped, spent=spent)
