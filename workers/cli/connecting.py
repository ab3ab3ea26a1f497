"""The commands db url and db psql, which connect other programs to the database."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from config.postgres_url import parse_postgres_url
from pipelines.settings import Settings
from workers.cli.failures import DONE, SIGNALLED, CommandError
from workers.cli.opening import open_settings
from workers.services.errors import EmbeddedServiceError
from workers.services.instance import EmbeddedInstance
from workers.services.postgres import postgres_programs
from workers.services.services import EMBEDDED_FOLDER, embedded_services

CONNECT_S: Final = 5
"""How long psql waits for the server to let it in, where PGCONNECT_TIMEOUT or the URL doesn't say."""


def url() -> int:
    """Print the database's URL, with its password.

    psql and all drivers of PostgreSQL can read it.
    """
    settings = open_settings(is_service=False)
    place = settings.database_url
    if place is None:
        instance = EmbeddedInstance(settings.home / EMBEDDED_FOLDER)
        if not instance.is_running():
            raise CommandError(f"PostgreSQL of {settings.home} isn't running; `darkroom up` starts it")
        place = instance.database_url
    typer.echo(parse_postgres_url(place).text())
    return DONE


def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- ARGUMENTS", help="Passed on to psql, as in `darkroom db psql -- --csv -f report.sql`."
        ),
    ] = None,
) -> int:
    """Open the database in psql.

    An embedded PostgreSQL that doesn't run is started for psql, and stopped when psql ends.
    """
    settings = open_settings(is_service=False)
    program = _program(settings)
    with embedded_services(settings) as services:
        place = parse_postgres_url(services.database_direct_url)
        limit = {"PGCONNECT_TIMEOUT": str(CONNECT_S)}  # libpq itself waits for ever for a host that doesn't answer
        environment = limit | os.environ | ({} if place.password is None else {"PGPASSWORD": place.password})
        command = [program, replace(place, password=None).text(), *(arguments or [])]
        code = _run(command, environment)
    return code if code >= 0 else SIGNALLED - code


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run psql to its end; return its exit code, negative if a signal ended it.

    A Ctrl-C reaches psql too, which then cancels its statement and goes on, so the Ctrl-C must not end this process.
    This process handles the signal and doesn't ignore it (SIG_IGN), because psql would inherit that.
    """
    with subprocess.Popen(command, env=environment) as process:
        handlers = {
            signal.SIGINT: lambda _number, _frame: None,
            signal.SIGTERM: lambda number, _frame: process.send_signal(number),
            signal.SIGHUP: lambda number, _frame: process.send_signal(number),
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _program(settings: Settings) -> str:
    """Return the path of psql: the embedded PostgreSQL's own if it is used, else the machine's.

    Raises:
        CommandError: no psql was found.
    """
    found = shutil.which("psql")
    if settings.is_embedded or found is None:
        try:
            own = postgres_programs() / "psql"
        except EmbeddedServiceError:
            own = Path("psql")
        if own.exists():
            return str(own)
    if found is None:
        raise CommandError(
            "there is no psql on this machine; install PostgreSQL's client, or give `darkroom db url` to another"
        )
    return found
