"""Is everything well? Each check says ok, warn or fail, and what to do."""

from collections.abc import Sequence

import asyncpg
from sqlalchemy.exc import DBAPIError

from config.postgres_url import parse_postgres_url
from models.connections import Connection, ContentionError, DatabaseLostError
from models.loss_words import loss_words
from models.schema.settings import recorded_setting
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
from workers.operations.checks.promises import check_links, check_passed_over, check_retention, check_unbuilt
from workers.operations.checks.rows import ROW_CHECKS, count_rows
from workers.operations.checks.spending import check_free_jobs, check_models
from workers.process.runtime import make_database
from workers.process.tools import make_pixels
from workers.services.services import Services

REFUSALS = (OSError, DatabaseLostError, ContentionError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError)
"""What a look at the database may end in: each is a finding."""


async def examine(settings: Settings, services: Services) -> list[Check]:
    """Look at everything, whatever is broken; never raises for what it finds."""
    async with make_pixels() as pixels:
        checks = [*await check_providers(settings, pixels), await check_networks(settings, pixels)]
    checks += [check_fetcher(settings), check_unbuilt(settings)]
    database = make_database(settings, services, most_connections=1)
    try:
        await database.open()
    except REFUSALS as error:
        place = parse_postgres_url(services.database_url).text(with_password=False)
        return [
            Check("postgresql", "fail", f"{place} {loss_words(error)}", "check DATABASE_URL and the server"),
            *checks,
            await check_broker(services, ""),
            await check_storage(settings, services, None),
        ]
    try:
        postgres = [await check_server(database), await check_clock(database), await check_snapshots(database)]
        postgres.append(await check_notify_queue(database))
        checks = [*postgres, *checks]
        migrations = await check_migrations(services)
        is_migrated = migrations[0].status != "fail"  # our tables may not be there
        installation = await database.run(_installation) if is_migrated else None
        checks.append(await check_broker(services, installation or ""))
        checks += [await check_storage(settings, services, database if is_migrated else None), *migrations]
        if not is_migrated:
            return checks
        checks.append(await check_listening(database))
        checks += [await check_mode(settings, services), await check_workers(database)]
        checks.append(await check_connections(database, settings))
        checks += [await count_rows(database, row_check) for row_check in ROW_CHECKS]
        checks += [await check_outside_the_queue(database)]
        checks += [await check_overdue(database, settings), await check_budgets(database, settings)]
        checks += [await check_free_jobs(database, settings), await check_models(database, settings)]
        checks.append(await check_terms(database, settings))
        checks += [await check_links(database, settings), await check_retention(database, settings)]
        checks += [await check_passed_over(database, settings), await check_orphans(database, settings)]
    except REFUSALS as error:
        checks.append(Check("postgresql", "fail", f"it refused to be looked at: {error}", "see the PostgreSQL log"))
    finally:
        await database.close()
    return checks


async def _installation(connection: Connection) -> str | None:
    name: str | None = await recorded_setting(connection, "installation")
    return name


def plan(checks: Sequence[Check]) -> list[str]:
    """Say what to do, in order: what fails comes first, and services before what rests on them. Each thing once."""
    wanted = [one for status in ("fail", "warn") for one in checks if one.status == status and one.advice]
    return list(dict.fromkeys(f"{one.name}: {one.advice}" for one in wanted))
