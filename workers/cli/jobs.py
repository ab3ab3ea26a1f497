"""The commands jobs list, show and cancel; the other commands of group jobs have modules of their own."""

from collections.abc import Awaitable, Callable
from typing import Final

import typer

from models.queue.job_filter import JobFilter
from models.queue.job_rows import Job
from pipelines.job_types import stage_names
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import (
    ErrorText,
    JobId,
    JobIds,
    JobType,
    Json,
    Limit,
    OfStage,
    OfTier,
    OfUser,
    Reason,
    Since,
    Statuses,
    Until,
    require_known,
)
from workers.cli.tables import Column, column, note_count, print_fields, print_table
from workers.operations.actions import os_user
from workers.operations.errors import OperationError
from workers.operations.ids import whole_id
from workers.operations.job_lists import count_jobs, list_jobs
from workers.operations.jobs import JobDetails, cancel_job, get_job, get_jobs
from workers.operations.users import user_of_jobs
from workers.presentation.call_outcomes import outcome_words
from workers.presentation.outlooks import outlook_fields, outlook_words
from workers.presentation.values import chosen, duration, fields_of
from workers.process.runtime import Runtime


def list_(
    status: Statuses = None,
    user: OfUser = None,
    job_type: JobType = None,
    since: Since = None,
    error: ErrorText = None,
    limit: Limit = 50,
    tier: OfTier = None,
    stage: OfStage = None,
    until: Until = None,
    *,
    as_json: Json = False,
) -> int:
    """List jobs, the newest change first."""
    require_known(status, job_type)
    if stage is not None and stage.upper() not in stage_names():
        raise CommandUsageError(f"--stage {stage!r}: give {', '.join(stage_names())}")

    async def work(runtime: Runtime) -> int:
        of_user = None if user is None else await user_of_jobs(runtime, user)
        wanted = JobFilter(
            [one.upper() for one in status or []],
            of_user,
            job_type,
            since,
            error,
            tier=None if tier is None else tier.name,
            stage=None if stage is None else stage.upper(),
            until=until,
        )
        found = await list_jobs(runtime, wanted, limit=limit)
        if as_json:
            print_json([job.columns for job in found])
        else:
            _print_jobs(found, runtime.settings.cost_column)
            await note_count(len(found), limit, "jobs", lambda: count_jobs(runtime, wanted))
        return DONE

    return run_with_runtime(work)


def show(
    job_id: JobId,
    *,
    as_json: Json = False,
) -> int:
    """Show all that is known about a job.

    Prints its row, its queue row, its charges and refunds, its provider calls and its history.
    """

    async def work(runtime: Runtime) -> int:
        details = await get_job(runtime, await whole_id(runtime, "job", job_id))
        if as_json:
            print_json(
                {
                    **details.job.columns,
                    "queue": details.queue,
                    "progress": None if details.outlook is None else outlook_fields(details.outlook),
                    "stageRuns": [chosen(run, _RUN) for run in details.history],
                    "providerCalls": [chosen(call, _CALL) for call in details.calls],
                    "money": [chosen(move, _MONEY) for move in details.money],
                }
            )
        else:
            _print_details(details)
        return DONE

    return run_with_runtime(work)


_RUN: Final = ("at", "event", "stage", "attempt", "duration_ms", "worker_id", "error", "treatments", "queue")
_CALL: Final = (
    *("started_at", "provider", "model", "purpose", "attempt", "outcome", "may_be_paid", "latency_ms", "images"),
    *("cost_usd", "problem"),
)
_MONEY: Final = ("kind", "amount", "at")


def cancel(job_ids: JobIds, reason: Reason = None, *, as_json: Json = False) -> int:
    """Cancel jobs that haven't ended.

    A job that Darkroom has charged is refunded at once. A worker that runs a cancelled job stops running it within 2 s.
    """

    async def verb(runtime: Runtime, job_id: str) -> str:
        whole = await whole_id(runtime, "job", job_id)
        await cancel_job(runtime, whole, actor=os_user(), reason=reason)
        return whole

    return change_jobs(job_ids, verb, _cancelled, as_json=as_json)


def _cancelled(name: str, job: Job) -> str:
    """Return words for the result of a cancellation.

    The job's row keeps its old label if the database refuses the new one.
    """
    if job.status == "CANCELLED":
        return f"job {name} is CANCELLED"
    why = f"`darkroom jobs explain {name}` says why"
    return f"job {name} is over, but the database refused the label CANCELLED, so its row says {job.status}: {why}"


def change_jobs(
    job_ids: list[str],
    verb: Callable[[Runtime, str], Awaitable[str]],
    sentence: Callable[[str, Job], str],
    *,
    as_json: bool,
) -> int:
    """Run an operation on each job, and print its result. If a job's operation is refused, print why and continue.

    `verb` is given what was typed, an id, TABLE/ID, or a beginning of either, and returns the job's whole name.
    """

    async def work(runtime: Runtime) -> int:
        code = DONE
        changed: list[Job] = []
        for given in job_ids:
            try:
                name = await verb(runtime, given)
                found = await get_jobs(runtime, [name])
            except OperationError as error:
                note(f"darkroom: {error}")
                code = FAILED
                continue
            changed += found
            if not as_json:
                for job in found:
                    typer.echo(sentence(name, job))
        if as_json:
            print_json([job.columns for job in changed])
        return code

    return run_with_runtime(work)


def _print_jobs(jobs: list[Job], cost_column: str) -> None:

    print_table(
        jobs,
        [
            column("name", "job"),
            column("job_type", "type"),
            column("tier"),
            column("status"),
            column("stage"),
            Column("tokens", lambda job: job.tokens(cost_column), is_number=True, is_wide=True),
            column("created_at", "created", is_wide=True),
            column("error", may_wrap=True),
        ],
        empty="there are no such jobs",
    )


def _print_details(details: JobDetails) -> None:

    print_fields(details.job.columns)
    if details.queue is not None:
        typer.secho("\nqueue", bold=True)
        print_fields(fields_of(details.queue))
    if details.outlook is not None and (words := outlook_words(details.outlook)):
        typer.secho("\nprogress", bold=True)
        typer.echo(words)
    if details.money:
        typer.secho("\nmoney", bold=True)
        print_table(details.money, [column("at"), column("kind"), column("amount", is_number=True)], empty="")
    if details.calls:
        typer.secho("\nprovider calls", bold=True)
        columns = [
            column("started_at", "at"),
            column("provider"),
            column("purpose"),
            Column("outcome", lambda call: outcome_words(call.outcome)),
            column("model", is_wide=True),
            column("latency_ms", "ms", is_number=True),
            column("cost_usd", "USD", is_number=True, is_wide=True),
            column("problem", may_wrap=True),
        ]
        print_table(details.calls, columns, empty="")
    typer.secho("\nhistory", bold=True)
    columns = [
        column("at"),
        column("event"),
        column("stage"),
        column("attempt", is_number=True),
        Column("took", lambda run: duration(None if run.duration_ms is None else run.duration_ms / 1000)),
        column("error", may_wrap=True),
    ]
    print_table(details.history, columns, empty="no worker has touched it yet")
