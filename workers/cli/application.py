"""Commands about the applications that are drained: application show, check, sql."""

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.application_names import parse_entry
from workers.cli.database import sql as database_sql
from workers.cli.failures import DONE, USAGE, CommandUsageError
from workers.cli.lazy import later
from workers.cli.opening import open_settings, run_async
from workers.cli.output import print_json
from workers.cli.parameters import Json
from workers.services.services import embedded_services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

applications_of = later("models.applications.recorded:applications_of")
faults_of = later("models.schema.applications:faults_of")
faults_of_recorded = later("models.schema.applications:faults_of_recorded")
migration_engine = later("workers.process.compose:migration_engine")
recorded_applications = later("models.schema.applications:recorded_applications")
use_recorded = later("models.applications.recorded:use_recorded")

NOT_UPGRADED = "this database has no Darkroom schema: run darkroom db upgrade"


def show(*, as_json: Json = False) -> int:
    """Print the applications that are recorded.

    Every process drains these. A file is shown as `db upgrade` recorded it.
    """
    recorded = _asked(recorded_applications)
    if recorded is None:
        raise CommandUsageError(NOT_UPGRADED)
    if as_json:
        print_json([{key: one.get(key) for key in ("entry", "name", "schema", "file", "source")} for one in recorded])
        return DONE
    for one, application in zip(recorded, applications_of(recorded), strict=True):
        by = f", described by {one['file']}" if "file" in one else ""
        typer.echo(f"{one['name']} in schema {one['schema']}{by}")
        for table in application.tables:
            typer.echo(f"  {table.name}: {', '.join(table.job_types)}")
        if "source" in one:
            typer.echo(f"\n{one['source'].rstrip()}\n")
    return DONE


def check(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A .toml file, with @SCHEMA if its tables aren't in public.")
    ] = None,
) -> int:
    """Try a file that describes an application against the database.

    Prints every fault. Nothing is changed, and nothing of its SQL is run. Without a file, the recorded applications are
    tried. The exit code is 0 if all is well, else 2.
    """
    if file is None:
        found: dict[str, list[str]] = _asked(faults_of_recorded)
        if not found:
            raise CommandUsageError(NOT_UPGRADED)
    else:
        try:
            entry = parse_entry(file)
        except ValueError as error:
            raise CommandUsageError(str(error)) from None
        lines = _asked(lambda engine: faults_of(engine, file))
        found = {PurePath(entry.path).name or entry.name: lines}
    for name, faults in found.items():
        for line in faults or [f"{name}: well"]:
            typer.echo(line)
    return USAGE if any(found.values()) else DONE


def sql(
    table: Annotated[
        str | None, typer.Option("--table", metavar="NAME", help="Only the statements about this job table.")
    ] = None,
) -> int:
    """Print the SQL of what db upgrade makes for the recorded applications.

    The SQL is rendered for each of their job tables.
    """
    use_recorded(_asked(recorded_applications))
    return database_sql(table)


def _asked(question: "Callable[[AsyncEngine], Awaitable[Any]]") -> Any:
    settings = open_settings(is_service=False)
    with embedded_services(settings) as services:
        engine = migration_engine(services)

        async def ask() -> Any:
            try:
                return await question(engine)
            finally:
                await engine.dispose()

        return run_async(ask())
