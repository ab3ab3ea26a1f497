"""The command jobs retry."""

from typing import Annotated

import typer

from models.queue.job_filter import JobFilter
from models.queue.job_names import JobKey
from pipelines.job_types import stage_names
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import ErrorText, JobType, Json, Limit, OfUser, Reason, Since, Statuses, require_known
from workers.cli.tables import column, print_table
from workers.operations.actions import os_user
from workers.operations.ids import whole_id
from workers.operations.job_lists import list_jobs
from workers.operations.jobs import get_jobs_at
from workers.operations.retrying import Retry, RetryTerms, rehearse_retries, retry_jobs
from workers.operations.users import user_of_jobs
from workers.process.runtime import Runtime


def retry(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB_ID", help="The ids of jobs, or their beginnings. Without ids, give --status or another filter."
        ),
    ] = None,
    status: Statuses = None,
    user: OfUser = None,
    job_type: JobType = None,
    since: Since = None,
    error: ErrorText = None,
    limit: Limit = 50,
    stage: Annotated[
        str | None,
        typer.Option(
            "--from-stage",
            metavar="STAGE",
            help="Begin at this stage, with the outputs that the old job has of the stages before.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="The model that makes the new jobs' pictures.")
    ] = None,
    reason: Reason = None,
    *,
    redo: Annotated[bool, typer.Option("--redo", help="Retry COMPLETED jobs, too.")] = False,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it would cost, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Submit finished jobs once more, as new ones.

    Jobs that are FAILED, REFUNDED or CANCELLED can be retried, and with --redo also COMPLETED ones. Each new job is
    charged. Filters select only jobs that are FAILED or REFUNDED, or that have the statuses of --status, and that no
    operator has retried before.
    """
    is_filter = any(one is not None for one in (status, user, job_type, since, error))
    if bool(job_ids) == is_filter:
        raise CommandUsageError(
            "name jobs by their ids, or choose them by --status, --user, --type, --since and --error: one of the two"
        )
    require_known(status, job_type)

    terms = RetryTerms(
        None if stage is None else _stage_named(stage), model, redoes_completed=redo, only_once=is_filter
    )

    async def work(runtime: Runtime) -> int:
        names = list(dict.fromkeys([await whole_id(runtime, "job", one) for one in job_ids or []]))
        if is_filter:
            of_user = None if user is None else await user_of_jobs(runtime, user)
            statuses = [one.upper() for one in status or ["FAILED", "REFUNDED"]]
            wanted = JobFilter(statuses, of_user, job_type, since, error, leaves_out_retried=True)
            names = [job.name for job in reversed(await list_jobs(runtime, wanted, limit=limit))]  # in their old order
            if not names and not as_json:
                note("there are no such jobs")
        if is_dry:
            rehearsed = await rehearse_retries(runtime, names, terms)
            _print_rehearsal(rehearsed, runtime.settings.cost_column, as_json=as_json)
            return FAILED if any(one.refusal for one in rehearsed) else DONE
        code, new = DONE, []
        async for one in retry_jobs(runtime, names, terms, actor=os_user(), reason=reason):
            if one.new_id is None or one.old is None:
                note(f"darkroom: {one.refusal}")
                code = FAILED
                continue
            new.append(JobKey(one.old.key.table, one.new_id))
            if not as_json:
                typer.echo(f"job {one.name} is tried again as {one.new_id}")
        if as_json:
            print_json([job.columns for job in await get_jobs_at(runtime, new)])
        return code

    return run_with_runtime(work, submits=True)


def _stage_named(text: str) -> str:
    """Return the name of a stage as rows have it; `text` may be in lower case.

    Raises:
        CommandUsageError: no job type has such a stage.
    """
    if text.upper() not in stage_names():
        known = ", ".join(name.lower() for name in stage_names())
        raise CommandUsageError(f"--from-stage: {text!r} is no stage; known are {known}")
    return text.upper()


def _print_rehearsal(rehearsed: list[Retry], cost_column: str, *, as_json: bool) -> None:

    rows: list[dict[str, object]] = [
        {
            "id": one.name,
            "jobType": None if one.old is None else one.old.job_type,
            "tier": None if one.old is None else one.old.tier,
            "status": None if one.old is None else one.old.status,
            cost_column: None if one.old is None else one.old.tokens(cost_column),
            "refusal": None if one.refusal is None else str(one.refusal),
        }
        for one in rehearsed
    ]
    if as_json:
        print_json(rows)
        return
    columns = [
        column("id", "job"),
        column("jobType", "type"),
        column("tier"),
        column("status"),
        column("refusal", "refused because", may_wrap=True),
    ]
    print_table(rows, columns, empty="")
    tokens = sum(one.old.tokens(cost_column) or 0 for one in rehearsed if one.old is not None and one.refusal is None)
    possible = sum(one.refusal is None for one in rehearsed)
    if rehearsed:
        typer.echo(f"{possible} of {len(rows)} would be tried again, for {tokens:,} tokens")
