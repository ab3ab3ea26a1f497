"""Commands that say how things are: config, doctor."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, so that --help is there at once

import asyncio
from dataclasses import asdict

import typer

from workers.cli.failures import DONE, FAILED
from workers.cli.parameters import Json


def config(*, as_json: Json = False) -> int:
    """Show every setting, its value and meaning.

    Secrets are masked.
    """
    from config.settings_table import describe
    from workers.cli.opening import known_settings
    from workers.cli.output import WIDE_FROM, Column, console, print_json, print_table

    rows = describe(known_settings())
    if as_json:
        print_json([asdict(row) for row in rows])
        return DONE
    screen = console()
    if not screen.is_terminal or screen.width < WIDE_FROM:  # four columns would be a word wide each
        for row in rows:
            default = f"  (default {row.default})" if row.default != row.value and row.default else ""
            typer.secho(f"{row.name}={row.value}", bold=row.is_set, nl=False)
            typer.echo(default)
            _wrapped(row.meaning, min(screen.width, WIDE_FROM))
        return DONE
    columns = [
        Column("name", lambda row: row.name),
        Column("value", lambda row: row.value, may_wrap=True),
        Column("default", lambda row: "" if row.default == row.value else row.default, may_wrap=True),
        Column("meaning", lambda row: row.meaning, may_wrap=True),
    ]
    print_table(rows, columns, empty="")
    return DONE


def doctor(*, as_json: Json = False) -> int:
    """Look whether all is well, and say what to do.

    Looks at services, schema, triggers, money, clocks, leases, stuck and quarantined jobs, provider calls, budgets and
    pauses, and ends with a plan. Exits 1 if a check fails.
    """
    from config.embedded.errors import EmbeddedServiceError
    from config.embedded.services import embedded_services
    from workers.cli.opening import open_settings
    from workers.cli.output import Column, print_json, print_table
    from workers.operations.checks.check import Check
    from workers.operations.doctor import examine, plan

    settings = open_settings(is_service=False)
    try:
        with embedded_services(settings) as services:
            checks = asyncio.run(examine(settings, services))
    except EmbeddedServiceError as error:
        checks = [Check("services", "fail", str(error))]
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "plan": plan(checks)})
    else:
        columns = [
            Column("check", lambda check: check.name),
            Column("status", lambda check: check.status),
            Column("finding", lambda check: check.message, may_wrap=True),
        ]
        print_table(checks, columns, empty="")
        steps = plan(checks)
        if steps:
            typer.secho("\nwhat to do, in order", bold=True)
            numbered = list(enumerate(steps, 1))
            places = [Column("", lambda row: f"{row[0]}."), Column("", lambda row: row[1], may_wrap=True)]
            print_table(numbered, places, empty="")
    return FAILED if any(check.status == "fail" for check in checks) else DONE


def _wrapped(text: str, width: int) -> None:
    import textwrap

    typer.echo(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
