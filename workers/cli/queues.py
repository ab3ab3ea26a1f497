"""Commands about the queue: queue stats, pause, resume, caps, weights."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

import typer

from config.process_settings import ProcessSettings
from config.settings import SettingsError, read_settings
from models.queue.fair import Term
from models.queue.pause_records import LastingPause
from pipelines.settings import variable_name
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import print_json
from workers.cli.parameters import Json, Reason, TierName
from workers.cli.tables import Column, column, print_table
from workers.operations.actions import os_user
from workers.operations.fair_order import change_terms
from workers.operations.pauses import Kind, set_paused
from workers.operations.queues import QueueNow, queue_stats
from workers.operations.shut_providers import shut_providers
from workers.presentation.steering import pause_words
from workers.presentation.values import duration, local_time
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

SHOWN_AGE_S: Final = 5.0
"""From which age on the time of a count is shown."""


def stats(*, as_json: Json = False) -> int:
    """Count jobs by queue and status.

    Also shows in how many seconds the waiting jobs are done at the present rate, the live workers, how many seconds of
    its lease each has left, and what is paused. Where a queue is long, its jobs were counted a while ago.
    """

    async def work(runtime: Runtime) -> int:
        found = await queue_stats(runtime)
        if as_json:
            print_json(found)
            return DONE
        print_table(
            found.queues,
            [
                column("queue"),
                column("waiting", is_number=True),
                column("running", is_number=True),
                column("retrying", is_number=True),
                column("scheduled", is_number=True),
                Column("oldest wait", lambda row: duration(row.oldest_wait_s), is_number=True),
                Column("to drain", lambda row: duration(row.drain_s), is_number=True),
                column("lanes", is_number=True),
                Column("kept back", _kept_back, is_wide=True),
                column("next_due_at", "next due", is_wide=True),
            ],
            empty="the queue is empty",
        )
        _note_age(found.queues)
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


def _kept_back(row: QueueNow) -> str:
    """Return how many of a queue's jobs are kept from being claimed, and by what."""
    kept = {"paused": row.paused, "under a cap": row.held, "refused": row.refused, "suspect": row.suspect}
    return ", ".join(f"{number:,} {name}" for name, number in kept.items() if number)


def _note_age(queues: Sequence[QueueNow]) -> None:
    """Say when the jobs were counted, if that was a while ago, as with long queues."""
    as_of = min((row.as_of for row in queues), default=None)
    if as_of is not None and (age_s := (datetime.now(UTC) - as_of).total_seconds()) > SHOWN_AGE_S:
        typer.echo(f"counted {duration(age_s)} ago, at {local_time(as_of)}: long queues are counted seldom")


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


_TermsText = Annotated[
    str | None, typer.Argument(metavar="[TIER=N,...]", help="By the tier of the user's balance. Without it, show them.")
]


def caps(terms: _TermsText = None, reason: Reason = None, *, as_json: Json = False) -> int:
    """Set or show how many jobs of a user may run at once.

    `none` lifts all caps. Tiers that aren't named have no cap. Running jobs go on. Waiting jobs obey it within five
    seconds.
    """
    changes: dict[Term, Any] = {}
    if terms is not None:
        changes["user_caps"] = _parsed("user_caps", terms)
    return _change_terms("user_caps", changes, reason, as_json=as_json)


def weights(
    terms: _TermsText = None,
    head_start: Annotated[
        str | None,
        typer.Option("--head-start", metavar="TOKENS", help="Work of users with priority that may go first."),
    ] = None,
    reason: Reason = None,
    *,
    as_json: Json = False,
) -> int:
    """Set or show the shares of users who wait at the same time.

    Tiers that aren't named get their default. Shares hold for jobs that are submitted from then on.
    """
    changes: dict[Term, Any] = {}
    if terms is not None:
        changes["weights"] = _parsed("weights", terms)
    if head_start is not None:
        changes["priority_head_start"] = _parsed("priority_head_start", head_start)
    return _change_terms("weights", changes, reason, as_json=as_json)


def _parsed(key: Term, text: str) -> Any:
    """Read a term as the environment variable of the same name is read.

    Raises:
        CommandUsageError: it can't be read.
    """
    if not text.strip():
        raise CommandUsageError("what is given is empty; leave it out to see what holds")
    try:
        return read_settings(ProcessSettings, {variable_name(key): text}).fair_terms()[key]
    except SettingsError as error:
        raise CommandUsageError(str(error)) from None


def _change_terms(shown: Term, changes: Mapping[Term, Any], reason: str | None, *, as_json: bool) -> int:
    async def work(runtime: Runtime) -> int:
        terms = await change_terms(runtime, changes, actor=os_user(), reason=reason)
        if as_json:
            print_json(terms)
            return DONE
        by_tier = terms[shown]
        for tier, number in by_tier.items():
            typer.echo(f"{tier}: {number}")
        if not by_tier:
            typer.echo("no caps")
        if shown == "weights":
            typer.echo(f"head start of plans with priority: {terms['priority_head_start']:g} tokens")
        return DONE

    return run_with_runtime(work)


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
            typer.echo(pause_words(kind, value, is_paused=is_paused, shut=shut))
        return DONE

    return run_with_runtime(work)


def _print_pauses(pauses: Sequence[LastingPause]) -> None:

    columns = [
        column("name", "paused"),
        column("jobs", is_number=True),
        column("paused_at", "since"),
        column("actor", "by"),
        column("reason", may_wrap=True),
    ]
    print_table(pauses, columns, empty="")
