"""Commands about the schema: db upgrade, db check, db sql."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.queue_terms import worker_for
from models.applications.registry import job_tables
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.lazy import later
from workers.cli.opening import open_settings, run_async
from workers.cli.output import print_json
from workers.cli.parameters import Json
from workers.cli.reporting import database_place
from workers.operations.actions import os_user
from workers.operations.stage_queues import SettledQueues, settle_stage_queues
from workers.operations.taking_over import take_over_jobs
from workers.presentation.values import count_of
from workers.services.services import embedded_services

if TYPE_CHECKING:
    from models.schema.migrations.problems import Problem
    from models.schema.migrations.result import UpgradeResult

file_differences = later("models.schema.applications:file_differences")
find_problems = later("models.schema.migrate:check")
granted_functions = later("workers.cli.migrating:granted_functions")
problem = later("models.schema.migrations.problems:Problem")
migration_engine = later("workers.process.compose:migration_engine")
rendered_files = later("models.schema.rendered:rendered_files")
statements_about = later("models.schema.rendered:statements_about")
upgrade_database = later("workers.cli.migrating:upgrade_database")


def upgrade(
    grant: Annotated[
        str | None,
        typer.Option(
            "--grant",
            metavar="ROLE",
            help="Let this role submit, cancel and poll jobs by the functions of schema darkroom.",
        ),
    ] = None,
    grant_read: Annotated[
        str | None,
        typer.Option(
            "--grant-read",
            metavar="ROLE",
            help="Let this role call darkroom.job_status to poll jobs, and nothing else.",
        ),
    ] = None,
    revoke: Annotated[
        str | None,
        typer.Option("--revoke", metavar="ROLE", help="Take from a role what --grant and --grant-read gave it."),
    ] = None,
    *,
    with_application: Annotated[
        bool,
        typer.Option(
            "--with-application",
            help="Make the application's tables even where schema public has relations of another program.",
        ),
    ] = False,
    takes_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Queue unfinished jobs that another worker left, and end those past the maximum wait.",
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Bring the database to this version.

    The first upgrade of a database whose tables another tool made needs TOKENS, which says who charges. Unfinished jobs
    that another worker left there are left alone until --take-over.
    """
    if revoke is not None and revoke == grant:
        raise CommandUsageError(f"--grant and --revoke name role {revoke}: give one of the two")
    settings = open_settings(is_service=False)
    with embedded_services(settings) as services:
        result = run_async(
            upgrade_database(settings, services, grant, grant_read, revoke, with_application=with_application)
        )
        settled = run_async(settle_stage_queues(services))
        taken = run_async(take_over_jobs(settings, services, actor=os_user())) if takes_over else None
    if as_json:
        print_json(
            {
                "applied": result.applied,
                "mode": result.mode,
                "is_adopted": result.is_adopted,
                "opening_balances": result.opening_balances,
                "granted": grant,
                "granted_read": grant_read,
                "revoked": revoke,
                "still_callable": result.still_callable,
                "producers": result.producers,
                "readers": result.readers,
                "sequences": result.sequences,
                "replaced": result.replaced,
                "moved": settled.moved,
                "unserved": settled.unserved,
                "taken_over": None if taken is None else asdict(taken),
            }
        )
        return DONE
    _print_upgrade(result)
    _print_rights(result, revoke)
    _print_queues(settled)
    if taken is not None:
        typer.echo(f"taken over: {taken.taken_in:,} jobs taken in, {taken.ended:,} ended")
        if taken.left:
            typer.echo(f"left for now: {taken.left:,} that another worker may still hold; a scheduler looks again")
    return DONE


def _print_upgrade(result: "UpgradeResult") -> None:
    nothing = "no revision" if result.replaced else "nothing, all was there"
    applied = ", ".join(result.applied) if result.applied else nothing
    typer.echo(f"applied: {applied}")
    if result.replaced:
        more = f" and {len(result.replaced) - 5} more" if len(result.replaced) > 5 else ""  # noqa: PLR2004 - one line
        typer.echo(f"made anew: {', '.join(result.replaced[:5])}{more}")
    typer.echo(f"tables: {'of another tool, left as they are' if result.is_adopted else 'our own'}")
    typer.echo(f"mode of money: {result.mode}")
    if result.opening_balances:
        typer.echo(f"opening balances recorded: {result.opening_balances:,}")
    if result.sequences:
        typer.echo(f"sequences set past their tables: {', '.join(result.sequences)}")


def _print_rights(result: "UpgradeResult", revoked: str | None) -> None:
    if revoked is not None:
        typer.echo(f"revoked from {revoked}: what was granted to it")
    if result.still_callable:
        typer.echo(
            f"{revoked} may still call {', '.join(result.still_callable)}: "
            "PUBLIC, a role that it belongs to or somebody else's grant gives it the right"
        )
    for role, functions in granted_functions(result):
        typer.echo(f"granted to {role}: {', '.join(functions)}")


def _print_queues(settled: SettledQueues) -> None:
    if settled.moved:
        typer.echo(f"moved into the queues of their stages: {count_of(settled.moved, 'waiting job')}")
    for one in settled.unserved:
        waiting = f" ({count_of(one.waiting, 'waiting job')})" if one.waiting else ""
        typer.echo(f"no live worker takes from queue {one.queue}{waiting}; start `{worker_for(one.queue)}`")


def check(*, as_json: Json = False) -> int:
    """Check the database, and print what is wrong with it.

    The exit code is 0 if the database is as this version needs it, else 1.
    """
    settings = open_settings(is_service=False)
    with embedded_services(settings) as services:
        engine = migration_engine(services)
        problems = run_async(_problems(engine))
    if as_json:
        print_json([{"kind": problem.kind, "message": problem.message} for problem in problems])
    elif not problems:
        typer.echo("the database is ready")
    else:
        for problem in problems:
            is_away = problem.kind == "unreachable"
            typer.echo(problem.message.replace("PostgreSQL", database_place(), 1) if is_away else problem.message)
    return FAILED if any(problem.kind != "ahead" for problem in problems) else DONE


async def _problems(engine: Any) -> "list[Problem]":
    found: list[Problem] = await find_problems(engine)
    if not any(one.kind in {"unreachable", "rights_missing", "not_installed"} for one in found):
        found += [problem("file_differs", line) for line in await file_differences(engine)]
    return found


def sql(
    table: Annotated[
        str | None, typer.Option("--table", metavar="NAME", help="Only the statements about this job table.")
    ] = None,
) -> int:
    """Print the SQL of the functions, views and triggers that db upgrade makes.

    The SQL is rendered for each job table. No database is needed.
    """
    chosen = {name: one for one in job_tables() for name in (one.name, one.relation, _plain(one.relation))}
    if table is not None and table not in chosen:
        raise CommandUsageError(f"--table {table!r}: give {', '.join(one.relation for one in job_tables())}")
    for name, text in rendered_files(open_settings(is_service=False).cost_column).items():
        found = text if table is None else "\n\n".join(statements_about(text, chosen[table]))
        if found:
            typer.echo(f"-- models/{name}\n{found.strip()}\n")
    return DONE


def _plain(name: str) -> str:
    """Return the name of a table as people say it, without the quotes of SQL."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
