"""Jobs as operators read and cancel them."""

from collections.abc import Iterable
from dataclasses import dataclass

from models.connections import Connection
from models.history.actions import record_job_action
from models.history.timeline import ProviderCall, StageRun, provider_calls, stage_runs
from models.job_state import TERMINAL, JobStatus
from models.money.job_money import MoneyMove, money_of_job, money_of_jobs
from models.queue import job_rows
from models.queue.job_names import JobKey, job_keys
from models.queue.job_rows import Job, QueueRow, jobs_at, queue_row, read_jobs
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


async def get_jobs(runtime: Runtime, names: Iterable[str]) -> list[Job]:
    """Return jobs in the order of their names, each an id or TABLE/ID; names of no job are left out.

    Raises:
        InvalidInputError: an id stands in several tables.
    """
    asked = list(names)
    with translated():
        return await runtime.database.run(lambda connection: read_jobs(connection, asked))


async def get_named(runtime: Runtime, names: Iterable[str]) -> dict[str, Job]:
    """Return jobs by the names, each an id or TABLE/ID, that were given; names of no job are left out.

    Raises:
        InvalidInputError: an id stands in several tables.
    """

    async def read(connection: Connection) -> dict[str, Job]:
        keys = await job_keys(connection, names)
        jobs = {job.key: job for job in await jobs_at(connection, keys.values())}
        return {name: jobs[key] for name, key in keys.items() if key in jobs}

    with translated():
        return await runtime.database.run(read)


async def get_jobs_at(runtime: Runtime, keys: Iterable[JobKey]) -> list[Job]:
    """Return jobs in the order of their keys; keys of no job are left out."""
    asked = list(keys)
    return await runtime.database.run(lambda connection: jobs_at(connection, asked))


async def get_job(runtime: Runtime, name: str) -> JobDetails:
    """Return a job, given by its id or TABLE/ID, its queue row and its history.

    Raises:
        InvalidInputError: the id stands in several tables.
        NotFoundError: there is no such job.
    """

    async def read(connection: Connection) -> JobDetails:
        jobs = await read_jobs(connection, [name])
        if not jobs:
            raise job_not_found(name)
        job = jobs[0]
        types = job.key.table.job_types
        return JobDetails(
            job=job,
            queue=await queue_row(connection, job),
            outlook=await outlook_of(connection, job),
            history=await stage_runs(connection, job.id, types),
            calls=await provider_calls(connection, job.id, types),
            money=await money_of_job(connection, job.id, types),
        )

    with translated():
        return await runtime.database.run(read)


async def outlook_of(connection: Connection, job: Job) -> Outlook | None:
    """Return an unfinished job's place and the estimate of its end; None for a job that is over."""
    return None if job.status in TERMINAL else (await outlooks(connection, [job.key])).get(job.key)


async def tokens_moved(runtime: Runtime, job_ids: Iterable[str]) -> tuple[int, int]:
    """Return how many tokens were charged for jobs, and how many of those tokens were refunded."""
    ids = list(job_ids)
    moves = await runtime.database.run(lambda connection: money_of_jobs(connection, ids))
    charged = sum(amount for (_, kind), amount in moves.items() if kind == "charge")
    return charged, sum(amount for (_, kind), amount in moves.items() if kind == "refund")


async def cancel_job(runtime: Runtime, name: str, *, actor: str, reason: str | None = None) -> str:
    """Cancel a job, given by its id or TABLE/ID, and return its status, CANCELLED.

    Cancelling a cancelled job changes nothing.

    Raises:
        InvalidInputError: the id stands in several tables.
        JobNotCancellableError: the job has ended in another way.
        NotFoundError: there is no such job.
    """

    async def cancel(connection: Connection) -> str:
        async with connection.transaction():
            status = await job_rows.cancel_job(connection, name)
            if status is None:
                raise job_not_found(name)
            if status.after != JobStatus.CANCELLED:
                raise JobNotCancellableError(name, status.after)
            if status.before != status.after:
                await record_job_action(
                    connection,
                    status.job_type,
                    status.job_id,
                    actor=actor,
                    action="job_cancel",
                    before={"status": status.before},
                    after={"status": status.after},
                    reason=reason,
                )
            return status.after

    with translated():
        return await runtime.database.commit("cancel", cancel)


def job_not_found(name: str) -> NotFoundError:
    """Return the error for an unknown job. Its message names the command that lists jobs."""
    return NotFoundError(f"job {name} not found; `darkroom jobs list` shows the newest")
