"""Whether a process is ready: its database answers and is migrated, its lease lasts, and it doesn't stop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from uuid import UUID

from models.connections import DATABASE_ERRORS, Connection
from models.database import Database
from models.queue.leases import lasting_leases
from models.schema.readiness import quick_look

READY_S: Final = 2.0
"""Seconds that all checks together may take, so that the answer comes within 3 s even while the database hangs."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What one check found, as `/readyz` returns it."""

    name: str
    status: Literal["ok", "fail"]
    message: str


LookAtHealth: TypeAlias = Callable[[], Awaitable[Sequence[HealthCheck]]]
"""A function that makes some checks. It is cancelled after READY_S."""

STARTING: Final = HealthCheck("starting", "fail", "the process hasn't opened its database yet")


class DatabaseHealth:
    """Checks of the database, on a connection of their own: that of the pool may be in use, or wait for a lock."""

    def __init__(self, database: Database, worker_ids: Callable[[], Sequence[UUID]] | None = None) -> None:
        """Store the database, whose pool isn't used.

        Args:
            database: the database.
            worker_ids: returns the ids of the worker processes that work now; None for a process without a lease.
        """
        self._database = database
        self._worker_ids = worker_ids

    async def look(self) -> Sequence[HealthCheck]:
        """Check that the database answers and is migrated, and that a worker's lease lasts."""
        try:
            connection = await self._database.connect_direct()
            try:
                return await self._database.run_direct(connection, self._checks)
            finally:
                connection.terminate()
        except DATABASE_ERRORS as error:
            return [HealthCheck("database", "fail", f"can't be used: {type(error).__name__}")]

    async def _checks(self, connection: Connection) -> Sequence[HealthCheck]:
        found = [HealthCheck("database", "ok", "it answers"), await _migrations(connection)]
        if self._worker_ids is not None:
            found.append(await _leases(connection, self._worker_ids()))
        return found


async def _migrations(connection: Connection) -> HealthCheck:
    try:
        installed = await quick_look(connection)
    except DATABASE_ERRORS:  # no such schema, or no right to read it
        installed = None
    if installed is None:
        return HealthCheck("migrations", "fail", "the schema isn't this release's; `darkroom db check` says why")
    return HealthCheck("migrations", "ok", "the schema is this release's")


async def _leases(connection: Connection, worker_ids: Sequence[UUID]) -> HealthCheck:
    lasting = await lasting_leases(connection, worker_ids) if worker_ids else 0
    words = f"leases that last: {lasting} of {len(worker_ids)} processes that work"
    return HealthCheck("lease", "ok" if lasting else "fail", words)


def stopping(is_stopping: Callable[[], bool]) -> LookAtHealth:
    """Return a check that the process doesn't stop."""

    async def look() -> Sequence[HealthCheck]:
        if is_stopping():
            return [HealthCheck("stopping", "fail", "the process stops")]
        return [HealthCheck("stopping", "ok", "the process doesn't stop")]

    return look


class Readiness:
    """All checks of a process. What several ask at a time is looked up once."""

    def __init__(self, parts: int) -> None:
        """Begin without checks: the process isn't ready until so many parts of it have added theirs."""
        self._parts_left = parts
        self._looks: tuple[LookAtHealth, ...] = ()
        self._asking: asyncio.Task[Sequence[HealthCheck]] | None = None

    def add(self, *looks: LookAtHealth) -> None:
        """Add the checks of a part of the process that works from now on; for any thread."""
        self._looks = (*self._looks, *looks)
        self._parts_left -= 1

    async def now(self) -> Sequence[HealthCheck]:
        """Return what all checks find, within READY_S."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._look())
        return await asyncio.shield(self._asking)

    async def _look(self) -> Sequence[HealthCheck]:
        found = [STARTING] if self._parts_left > 0 else []
        found += [one for some in await asyncio.gather(*map(_in_time, self._looks)) for one in some]
        by_name = {one.name: one for one in found}  # two parts may look at the same; one that fails is shown
        return list((by_name | {one.name: one for one in found if one.status == "fail"}).values())


async def _in_time(look: LookAtHealth) -> Sequence[HealthCheck]:
    try:
        async with asyncio.timeout(READY_S):
            return await look()
    except TimeoutError:
        return [HealthCheck("database", "fail", f"it hasn't answered within {READY_S:g} s")]
