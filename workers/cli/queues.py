"""Commands about the queue: queue stats, pause, resume."""

from functools import partial
from typing import Annotated

import typer

from models.queue.pause_records import LastingPause
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import duration, print_json
from workers.cli.parameters import Json, Reason, TierName
from workers.cli.tables import Column, column, print_table
from workers.operations.actions import os_user
from workers.operations.pauses import Kind, set_paused
from workers.operations.queues import queue_stats
from workers.operations.shut_providers import shut_providers
from workers.process.runtime import Runtime

Queues = Annotated[
    list[str] | None, typer.Option("--queue", metavar="NAME", help="Jobs of this queue. May be repeated.")
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", metavar="TYPE", help="Jobs of this type: enhance, blend, generate or modify. May be repeated."
    ),
]
Tiers = Annotated[
    list[TierName] | None, typer.Option("--tier", case_sensitive=False, help="Jobs of this tier. May be repeated.")
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider", metavar="NAME", help="Calls to this provider: gemini, local or openai. May be repeated."
    ),
]


def stats(*, as_json: Json = False) -> int:
    """Count jobs by queue and status.

    Also shows the live workers, how many seconds of its lease each has left, and what is paused.
    """

    async def work(runtime: Runtime) -> int:
        found = await queue_stats(runtime)
        if as_json:
            print_json({"queues": found.queues, "workers": found.workers, "pauses": found.pauses})
            return DONE
        print_table(
            found.queues,
            [
                column("queue"),
                column("status"),
                column("count", "jobs", is_number=True),
                Column("oldest wait", lambda row: duration(row.oldest_wait_s), is_number=True),
                column("next_due_at", "next due"),
            ],
            empty="the queue is empty",
        )
        typer.echo()
        print_table(
            found.workers,
            [
                column("host"),
                Column("pid", lambda row: str(row.pid), is_number=True),
                column("queues"),
                Column("lanes", lambda row: f"{row.running} of {row.lanes}", is_number=True),
                Column("lease", lambda row: duration(row.lease_left_s), is_number=True),
                column("started_at", "since", is_wide=True),
                column("id", is_wide=True),
            ],
            empty="no worker is running; start `darkroom worker`, or `darkroom up` for everything",
        )
        if found.pauses:
            typer.echo()
            _print_pauses(found.pauses)
        return DONE

    return run_with_runtime(work)


def pause(
    queues: Queues = None,
    types: Types = None,
    tiers: Tiers = None,
    providers: Providers = None,
    reason: Reason = None,
    *,
    as_json: Json = False,
) -> int:
    """Stop claiming jobs of a queue, type or tier, or calling a provider.

    All workers obey the pause within a second. Running jobs finish. Waiting jobs keep their positions, and the time of
    the pause doesn't count in their maximum wait. If PROVIDER names several providers, the next one is called instead
    of a paused one.
    """
    return _set_paused(_scopes(queues, types, tiers, providers), reason, is_paused=True, as_json=as_json)


def resume(
    queues: Queues = None,
    types: Types = None,
    tiers: Tiers = None,
    providers: Providers = None,
    reason: Reason = None,
    *,
    as_json: Json = False,
) -> int:
    """End pauses, so that jobs are claimed or providers called again.

    With --provider, the provider's breaker is closed too. A wait that the provider asked for, a spent quota and a spent
    budget still keep it from being called.
    """
    return _set_paused(_scopes(queues, types, tiers, providers), reason, is_paused=False, as_json=as_json)


def _scopes(
    queues: list[str] | None, types: list[str] | None, tiers: list[TierName] | None, providers: list[str] | None
) -> list[tuple[Kind, str]]:
    scopes: list[tuple[Kind, str]] = [
        *(("queue", one) for one in queues or []),
        *(("type", one) for one in types or []),
        *(("tier", one.name) for one in tiers or []),
        *(("provider", one) for one in providers or []),
    ]
    if not scopes:
        raise CommandUsageError("say what: give --queue, --type, --tier or --provider; each may be repeated")
    return scopes


def _set_paused(scopes: list[tuple[Kind, str]], reason: str | None, *, is_paused: bool, as_json: bool) -> int:

    async def work(runtime: Runtime) -> int:
        look = partial(shut_providers, settings=runtime.settings)
        pauses = await set_paused(runtime, scopes, is_paused=is_paused, actor=os_user(), reason=reason)
        if as_json:
            print_json(pauses)
            return DONE
        shut = {} if is_paused else {one.name: one.reason for one in await runtime.database.run(look)}
        for kind, value in scopes:
            goes_on = "goes on"
            if kind == "provider":
                still = f", but it isn't called yet: {shut[value]}" if value in shut else ""
                goes_on = f"goes on, its breaker is closed{still}"
            typer.echo(f"{kind} {value}: {'paused' if is_paused else goes_on}")
        return DONE

    return run_with_runtime(work)


def _print_pauses(pauses: list[LastingPause]) -> None:

    columns = [
        column("name", "paused"),
        column("jobs", is_number=True),
        column("paused_at", "since"),
        column("actor", "by"),
        column("reason", may_wrap=True),
    ]
    print_table(pauses, columns, empty="")
