"""Diagnosis of an installation: each check reports ok, warn or fail, and what to do."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import asyncpg
from sqlalchemy.exc import DBAPIError

from config.postgres_url import parse_postgres_url
from models.applications.registry import has_pictures
from models.connections import Connection, ContentionError, DatabaseLostError
from models.database import Database
from models.database_message import database_message
from models.schema.settings import recorded_setting
from pipelines.imaging.pool import PixelPool
from pipelines.settings import Settings
from workers.operations.checks.broker import check_broker
from workers.operations.checks.check import Check
from workers.operations.checks.connections import check_connections, check_listening
from workers.operations.checks.database import (
    check_budgets,
    check_clock,
    check_migrations,
    check_mode,
    check_overdue,
    check_server,
    check_snapshots,
    check_terms,
    check_workers,
)
from workers.operations.checks.networks import check_networks
from workers.operations.checks.notifications import check_notify_queue
from workers.operations.checks.objects import check_orphans, check_storage
from workers.operations.checks.outside import check_fetcher, check_providers
from workers.operations.checks.outside_the_queue import check_outside_the_queue
from workers.operations.checks.promises import check_fair_terms, check_links, check_passed_over, check_retention
from workers.operations.checks.rows import ROW_CHECKS, count_rows
from workers.operations.checks.spending import check_free_jobs, check_models
from workers.process.runtime import make_database
from workers.process.tools import make_pixels
from workers.services.services import Services

REFUSALS = (OSError, DatabaseLostError, ContentionError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError)
"""Errors that reading the database may raise; each is reported as a failure."""

CHECK_S: Final = 5.0
"""How long each check may take."""

HOST_S: Final = 6.0
"""As CHECK_S, for checks that connect to a host: their client gives up by itself after 5 s, with a better message."""

NETWORKS_S: Final = 15.0
"""How long, in seconds, loading a network in a pixel child may take; no host is waited for."""

TOTAL_S: Final = 20.0
"""How long, in seconds, all checks together may take; the checks that are left by then are named."""

FIRST_S: Final = 1.0
"""How long, in seconds, connecting to PostgreSQL may take before broker and storage are checked without it."""

CANCEL_S: Final = 1.0
"""How long, in seconds, a check that took too long may take to end once it is cancelled."""

_LATE: Final = "look again when the database is less busy; a big or a locked table takes its time"
_MONEY_LATE: Final = "`darkroom tokens audit` looks to the end, however long it takes"

_WITHOUT_THESE: Final = frozenset({"migrations", "rights", "rows"})
"""Checks that must succeed before our tables can be read."""

Look: TypeAlias = Callable[[], Awaitable[Check | list[Check]]]


async def examine(settings: Settings, services: Services) -> list[Check]:
    """Run all checks, each of which may fail, within TOTAL_S; return what they found.

    Faults are returned, never raised.
    """
    doctor = _Doctor(settings, services)
    async with make_pixels() as pixels:
        here = asyncio.create_task(doctor.look_here(pixels))
        database = make_database(settings, services, most_connections=2)
        opening = asyncio.create_task(_open(database, services))
        await asyncio.wait({opening}, timeout=FIRST_S)
        hosts = None if opening.done() else asyncio.create_task(doctor.look_at_hosts("", None))
        try:
            refused = await opening
            if refused:
                hosts = hosts or asyncio.create_task(doctor.look_at_hosts("", None))
                return [*refused, *await here, *await hosts]
            return await doctor.look_at_database(database, here)
        finally:
            await database.close()


class _Doctor:
    """Runs checks, each within the time that is left of TOTAL_S."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._until_s = time.monotonic() + TOTAL_S
        self._left_out: list[str] = []

    async def within(self, name: str, look: Look, limit_s: float | None = None) -> list[Check]:
        """Run one check; return what it found, or that it took too long. If no time is left, only note its name.

        Args:
            name: of the check.
            look: the check.
            limit_s: how long it may take; None for CHECK_S.
        """
        limit_s = min(limit_s or CHECK_S, self._until_s - time.monotonic())
        if limit_s <= 0:
            self._left_out.append(name)
            return []
        task = asyncio.ensure_future(look())
        # otherwise asyncio would log the error of a task that isn't awaited
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait({task}, timeout=limit_s)
        if task.done():
            found = task.result()
            return found if isinstance(found, list) else [found]
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_S)  # cancelling may wait for a server that doesn't answer
        advice = _MONEY_LATE if name == "money" else _LATE
        return [Check(name, "warn", f"not looked at to the end: it took more than {limit_s:.0f} s", advice)]

    async def look_here(self, pixels: PixelPool) -> list[Check]:
        """Check what needs no service: providers, networks and settings."""
        settings = self._settings
        providers, networks = await asyncio.gather(
            self.within("provider", lambda: check_providers(settings, pixels), HOST_S),
            self.within("enlargement", lambda: check_networks(settings, pixels), NETWORKS_S),
        )
        return [*providers, *networks, check_fetcher(settings)]

    async def look_at_hosts(self, installation: str, database: Database | None) -> list[Check]:
        """Check the broker and the storage, at the same time."""
        broker, storage = await asyncio.gather(
            self.within("broker", lambda: check_broker(self._services, installation), HOST_S),
            self.within("storage", lambda: check_storage(self._settings, self._services, database), HOST_S),
        )
        return [*broker, *storage]

    async def look_at_database(self, database: Database, here: "asyncio.Task[list[Check]]") -> list[Check]:
        """Check the server, the schema and the tables, and at the same time the hosts outside."""
        settings, services = self._settings, self._services
        server: list[Check] = []
        ours: list[Check] = []
        hosts: asyncio.Task[list[Check]] | None = None
        try:
            server = await self._each(_of_the_server(database))
            ours = await self.within("migrations", lambda: check_migrations(services))
            is_migrated = not any(one.status == "fail" and one.name in _WITHOUT_THESE for one in ours)
            # If that took too long, reading the setting would take as long, and without a time limit
            is_quick = bool(ours) and not any(one.advice == _LATE for one in ours)
            installation = await database.run(_installation) if is_migrated and is_quick else None
            hosts = asyncio.create_task(self.look_at_hosts(installation or "", database if is_migrated else None))
            if is_migrated:
                ours += await self._each(_of_our_tables(database, settings, services))
        except REFUSALS as error:
            ours.append(Check("postgresql", "fail", f"it refused to be looked at: {error}", "see the PostgreSQL log"))
        checks = [*server, *await here, *(await (hosts or self.look_at_hosts("", None))), *ours]
        if self._left_out:
            names = ", ".join(self._left_out)
            checks.append(Check("time", "warn", f"{TOTAL_S:g} s were over before these: {names}", _LATE))
        return checks

    async def _each(self, looks: Mapping[str, Look]) -> list[Check]:
        return [check for name, look in looks.items() for check in await self.within(name, look)]


def _of_the_server(database: Database) -> dict[str, Look]:
    return {
        "postgresql": lambda: check_server(database),
        "clock": lambda: check_clock(database),
        "old snapshots": lambda: check_snapshots(database),
        "notifications": lambda: check_notify_queue(database),
    }


_FOR_PICTURES: Final = frozenset({"models of pipelines", "regeneration"})
"""Checks of tables and terms that only the application `pictures` has."""


def _of_our_tables(database: Database, settings: Settings, services: Services) -> dict[str, Look]:
    rows: dict[str, Look] = {one.name: partial(count_rows, database, one) for one in ROW_CHECKS}
    looks: dict[str, Look] = {
        "listening": lambda: check_listening(database),
        "money mode": lambda: check_mode(settings, services),
        "workers": lambda: check_workers(database),
        "connections": lambda: check_connections(database, settings),
        **{name: look for name, look in rows.items() if name != "money"},
        "jobs outside the queue": lambda: check_outside_the_queue(database),
        "overdue jobs": lambda: check_overdue(database, settings),
        "budgets": lambda: check_budgets(database, settings),
        "FREE jobs": lambda: check_free_jobs(database, settings),
        "models": lambda: check_models(database, settings),
        "regeneration": lambda: check_terms(database, settings),
        "fair order": lambda: check_fair_terms(database, settings),
        "shared pipelines": lambda: check_links(database, settings),
        "retention": lambda: check_retention(database, settings),
        "tables of tasks": lambda: check_passed_over(database, settings),
        "orphans": lambda: check_orphans(database, settings),
        "money": rows["money"],  # last, because it reads more than any other check
    }
    return {name: look for name, look in looks.items() if has_pictures() or name not in _FOR_PICTURES}


async def _open(database: Database, services: Services) -> list[Check]:
    """Open the database. Return no check if that succeeds, else what was found."""
    try:
        async with asyncio.timeout(HOST_S):
            await database.open()
    except REFUSALS as error:
        place = parse_postgres_url(services.database_url).text(with_password=False)
        return [Check("postgresql", "fail", f"{place} {database_message(error)}", "check DATABASE_URL and the server")]
    return []


async def _installation(connection: Connection) -> str | None:
    name: str | None = await recorded_setting(connection, "installation")
    return name


def plan(checks: Sequence[Check]) -> list[str]:
    """Return the advice of all checks, each once, in the order to follow.

    Failures come first, and services before what needs them.
    """
    wanted = [one for status in ("fail", "warn") for one in checks if one.status == status and one.advice]
    return list(dict.fromkeys(f"{one.name}: {one.advice}" for one in wanted))
