"""Jobs as operators list, read and cancel them."""

from collections.abc import Iterable
from dataclasses import dataclass

from models.connections import Connection
from models.history.actions import record_action
from models.history.timeline import ProviderCall, StageRun, provider_calls, stage_runs
from models.job_state import TERMINAL, JobStatus
from models.money.job_money import MoneyMove, money_of_job, money_of_jobs
from models.queue import job_rows
from models.queue.job_rows import Job, JobFilter, QueueRow, find_jobs, queue_row, read_jobs
from models.queue.outlook import Outlook, outlooks
from workers.operations.errors import JobNotCancellableError, NotFoundError, translated
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job's row, its queue row and outlook while it is unfinished, and its history, oldest first."""

    job: Job
    queue: QueueRow | None
    outlook: Outlook | None
    history: list[StageRun]
    calls: list[ProviderCall]
    money: list[MoneyMove]


async def list_jobs(runtime: Runtime, wanted: JobFilter, *, limit: int = 50) -> list[Job]:
    """Return jobs, newest first."""
    return await runtime.database.run(lambda connection: find_jobs(connection, wanted, limit))


async def count_jobs(runtime: Runtime, wanted: JobFilter) -> int:
    """Count the jobs that a filter selects."""
    return await runtime.database.run(lambda connection: job_rows.count_jobs(connection, wanted))


async def get_jobs(runtime: Runtime, job_ids: Iterable[str]) -> list[Job]:
    """Return jobs in the order of their ids; unknown ids are left out."""
    ids = list(job_ids)
    return await runtime.database.run(lambda connection: read_jobs(connection, ids))


async def get_job(runtime: Runtime, job_id: str) -> JobDetails:
    """Return a job, its queue row and its history.

    Raises:
        NotFoundError: there is no such job.
    """

    async def read(connection: Connection) -> JobDetails:
        jobs = await read_jobs(connection, [job_id])
        if not jobs:
            raise job_not_found(job_id)
        job = jobs[0]
        return JobDetails(
            job=job,
            queue=await queue_row(connection, job),
            outlook=await outlook_of(connection, job),
            history=await stage_runs(connection, job.id, job.job_type),
            calls=await provider_calls(connection, job.id, job.job_type),
            money=await money_of_job(connection, job.id, job.job_type),
        )

    return await runtime.database.run(read)


async def outlook_of(connection: Connection, job: Job) -> Outlook | None:
    """Return an unfinished job's place and the estimate of its end; None for a job that is over."""
    return None if job.status in TERMINAL else (await outlooks(connection, [job.id])).get(job.id)


async def tokens_moved(runtime: Runtime, job_ids: Iterable[str]) -> tuple[int, int]:
    """Return how many tokens were charged for jobs, and how many of those tokens were refunded."""
    ids = list(job_ids)
    moves = await runtime.database.run(lambda connection: money_of_jobs(connection, ids))
    charged = sum(amount for (_, kind), amount in moves.items() if kind == "charge")
    return charged, sum(amount for (_, kind), amount in moves.items() if kind == "refund")


async def cancel_job(runtime: Runtime, job_id: str, *, actor: str, reason: str | None = None) -> str:
    """Cancel a job and return its status, CANCELLED. Cancelling a cancelled job changes nothing.

    Raises:
        JobNotCancellableError: the job has ended in another way.
        NotFoundError: there is no such job.
    """

    async def cancel(connection: Connection) -> str:
        async with connection.transaction():
            status = await job_rows.cancel_job(connection, job_id)
            if status is None:
                raise job_not_found(job_id)
            if status.after != JobStatus.CANCELLED:
                raise JobNotCancellableError(job_id, status.after)
            if status.before != status.after:
                await record_action(
                    connection,
                    actor=actor,
                    action="job_cancel",
                    target=job_id,
                    before={"status": status.before},
                    after={"status": status.after},
                    reason=reason,
                )
            return status.after

    with translated():
        return await runtime.database.commit("cancel", cancel)


def job_not_found(job_id: str) -> NotFoundError:
    """Return the error for an unknown job. Its message names the command that lists jobs."""
    return NotFoundError(f"job {job_id} not found; `darkroom jobs list` shows the newest")
