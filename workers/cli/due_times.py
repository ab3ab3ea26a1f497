"""The commands jobs run-now and jobs reschedule."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import typer

from models.queue.job_rows import Job
from workers.cli.jobs import change_jobs
from workers.cli.parameters import JobIds, Json, Reason, coming_time
from workers.operations import due_times
from workers.operations.actions import os_user
from workers.operations.ids import whole_id
from workers.presentation.values import local_time
from workers.process.runtime import Runtime


def run_now(job_ids: JobIds, reason: Reason = None, *, as_json: Json = False) -> int:
    """Make waiting jobs due at once.

    These are jobs that wait for the pause before a retry to end, or for a later time at which they become due. A
    wake-up is sent for them.
    """

    async def change(runtime: Runtime, job_id: str) -> datetime:
        return await due_times.run_now(runtime, job_id, actor=os_user(), reason=reason)

    return _changed(job_ids, change, "is due now", as_json=as_json)


def reschedule(
    job_ids: JobIds,
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="TIME", help="2026-03-01T09:00:00+01:00, or a time from now: +30s, +30m, +2h, +1d."
        ),
    ],
    reason: Reason = None,
    *,
    as_json: Json = False,
) -> int:
    """Make waiting jobs due at a time.

    Refused for jobs that run or have ended, and for a time that is later than the end of the job's maximum wait
    (DARKROOM_MAX_WAIT_S).
    """
    when = coming_time(at)

    async def change(runtime: Runtime, job_id: str) -> datetime:
        return await due_times.reschedule(runtime, job_id, when, actor=os_user(), reason=reason)

    return _changed(job_ids, change, "is due at {at}", as_json=as_json)


def _changed(
    job_ids: list[str], change: Callable[[Runtime, str], Awaitable[datetime]], words: str, *, as_json: bool
) -> int:
    due: dict[str, datetime] = {}

    async def verb(runtime: Runtime, given: str) -> str:
        name = await whole_id(runtime, "job", given)
        due[name] = await change(runtime, name)
        return name

    def sentence(name: str, _job: Job) -> str:
        return f"job {name} {words.format(at=local_time(due[name]))}"

    return change_jobs(job_ids, verb, sentence, as_json=as_json)
