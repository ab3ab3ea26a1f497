"""The command doctor: checks the whole installation."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from workers.cli.failures import DONE, FAILED
from workers.cli.lazy import later
from workers.cli.opening import open_settings, run_async
from workers.cli.output import print_json
from workers.cli.parameters import Json
from workers.cli.tables import Column, print_table
from workers.operations.checks.check import Check
from workers.services.errors import EmbeddedServiceError
from workers.services.services import embedded_services

examine = later("workers.operations.doctor:examine")
plan = later("workers.operations.doctor:plan")


def doctor(
    *,
    shows_all: Annotated[bool, typer.Option("--all", help="Show also the checks that found nothing wrong.")] = False,
    as_json: Json = False,
) -> int:
    """Check the whole installation, and say what to do about each finding.

    Checks services, schema, triggers, money, clocks, leases, stuck and quarantined jobs, provider calls, budgets and
    pauses, for 20 s at most. The exit code is 1 if a check fails, and 0 if there are only warnings.
    """
    settings = open_settings(is_service=False)
    try:
        with embedded_services(settings) as services:
            checks = run_async(examine(settings, services))
    except EmbeddedServiceError as error:
        checks = [Check("services", "fail", str(error))]
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "plan": plan(checks)})
    else:
        _print(checks, shows_all=shows_all)
    return FAILED if any(check.status == "fail" for check in checks) else DONE


def _print(checks: Sequence[Check], *, shows_all: bool) -> None:
    shown = [check for check in checks if shows_all or check.status != "ok"]
    columns = [
        Column("check", lambda check: check.name),
        Column("status", lambda check: check.status),
        Column("finding", lambda check: check.message, may_wrap=True),
    ]
    if shown:
        print_table(shown, columns, empty="")
    well = sum(check.status == "ok" for check in checks)
    if not shows_all:
        typer.echo(f"{well} of {len(checks)} checks are well; `darkroom doctor --all` shows them")
    steps = plan(checks)
    if steps:
        typer.secho("\nwhat to do, in order", bold=True)
        numbered = list(enumerate(steps, 1))
        places = [Column("", lambda row: f"{row[0]}."), Column("", lambda row: row[1], may_wrap=True)]
        print_table(numbered, places, empty="")
