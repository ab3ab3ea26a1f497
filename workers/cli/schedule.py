"""Commands about periodic tasks: schedule list, run, pause, resume."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from workers.cli.failures import DONE
from workers.cli.lazy import later
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import Json, Reason
from workers.cli.tables import Column, column, print_table
from workers.operations.actions import os_user
from workers.presentation.steering import counts_words
from workers.presentation.values import duration
from workers.process.runtime import Runtime

describe_orphans = later("workers.operations.schedule:describe_orphans")
list_schedules = later("workers.operations.schedule:list_schedules")
run_schedule = later("workers.operations.schedule:run_schedule")
set_paused = later("workers.operations.schedule:set_paused")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a periodic task, as `schedule list` shows it.")]


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time; give it as 2026-03-01T00:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def list_(*, as_json: Json = False) -> int:
    """Show when each periodic task runs, and what its last run did."""

    async def work(runtime: Runtime) -> int:
        rows = await list_schedules(runtime)
        if as_json:
            print_json(rows)
            return DONE
        print_table(
            rows,
            [
                column("name"),
                column("schedule"),
                column("time_zone", "zone", is_wide=True),
                column("missed", is_wide=True),
                column("paused"),
                column("last_run", "last run"),
                column("next_run", "next run"),
                Column("took", lambda row: duration(row.last_duration_s), is_number=True, is_wide=True),
                Column("counts", lambda row: counts_words(row.last_counts or {}), is_wide=True, may_wrap=True),
                column("last_error", "error", may_wrap=True),
            ],
            empty="there are no periodic tasks",
        )
        note(await describe_orphans(runtime))
        return DONE

    return run_with_runtime(work)


def run(
    name: Name,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="The time that the task takes for now, in ISO 8601; UTC without a zone."
        ),
    ] = None,
    *,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Run a periodic task now.

    The run is an extra tick beside those of the schedule. What earlier ticks have done isn't done again.
    """
    moment = _moment(at)

    async def work(runtime: Runtime) -> int:
        counts = await run_schedule(runtime, name, at=moment, is_dry=is_dry, actor=os_user())
        if as_json:
            print_json(counts)
        else:
            typer.echo(f"{name}{' would do' if is_dry else ''}: {counts_words(counts) or 'nothing'}")
        return DONE

    return run_with_runtime(work)


def pause(name: Name, reason: Reason = None, *, as_json: Json = False) -> int:
    """Stop running a periodic task until it is resumed."""
    return _set_paused(name, reason, is_paused=True, as_json=as_json)


def resume(name: Name, reason: Reason = None, *, as_json: Json = False) -> int:
    """Let a paused periodic task run again."""
    return _set_paused(name, reason, is_paused=False, as_json=as_json)


def _set_paused(name: str, reason: str | None, *, is_paused: bool, as_json: bool) -> int:

    async def work(runtime: Runtime) -> int:
        row = await set_paused(runtime, name, is_paused=is_paused, actor=os_user(), reason=reason)
        if as_json:
            print_json(row)
        else:
            typer.echo(f"{name}: {'paused' if is_paused else 'goes on'}")
        return DONE

    return run_with_runtime(work)
