"""The command jobs watch."""

from typing import Annotated

import typer

from models.queue.job_rows import unfinished_jobs
from workers.cli.batches import Failed, note_failures
from workers.cli.failures import DONE, FAILED
from workers.cli.opening import run_with_runtime
from workers.cli.output import console, note, print_json
from workers.cli.parameters import Json
from workers.cli.progress import MANY, follow_jobs
from workers.operations.ids import whole_id
from workers.operations.jobs import get_jobs_at, get_named, job_not_found
from workers.process.runtime import Runtime


def watch(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB_ID", help="The ids of jobs, or their beginnings. Without ids, all unfinished jobs."
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> int:
    """Follow jobs until they end.

    Shows the status of each, and why it waits. The exit code is 1 unless all of them end COMPLETED.
    """

    async def work(runtime: Runtime) -> int:
        given = [await whole_id(runtime, "job", one) for one in job_ids or []]
        if given:
            found = await get_named(runtime, given)
            if missing := [name for name in given if name not in found]:
                raise job_not_found(missing[0])
            jobs = list({job.key: job for job in found.values()}.values())
        else:
            jobs = await get_jobs_at(runtime, await runtime.database.run(unfinished_jobs))
        known = {job.name: job for job in jobs}
        if not known and not as_json:
            note("no job is unfinished")
            return DONE
        labels = {name: f"{job.job_type} {job.tier}" for name, job in known.items()}
        screen = console(is_error=as_json)
        progress = await follow_jobs(runtime, labels, screen, keeps_table=True, label_title="type and tier")
        if as_json:
            print_json([job.columns for job in await get_jobs_at(runtime, [job.key for job in jobs])])
        elif len(progress) > MANY:
            note_failures(
                Failed(one.job_id, one.job_id, one.error or f"it ended {one.status or 'with its row deleted'}")
                for one in progress
                if one.status != "COMPLETED"
            )
        elif screen.is_terminal:  # without a terminal, the progress lines contain it
            for one in progress:
                if one.error is not None and one.status != "COMPLETED":
                    note(f"darkroom: job {one.job_id}: {one.error}")
        return DONE if all(one.status == "COMPLETED" for one in progress) else FAILED

    return run_with_runtime(work)
