"""Lists of jobs, the newest change first, and all jobs that a filter selects."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from models.applications.registry import applications, has_pictures, job_types
from models.connections import Connection
from models.job_state import TERMINAL
from models.money.users import find_user
from models.queue.job_filter import JobFilter, UserOfJobs
from models.queue.job_list import Found, look
from models.queue.job_names import JobKey, job_names
from models.queue.job_rows import Job, jobs_at, queued_stages
from pipelines.job_types import is_job_type, job_type_of
from workers.operations.errors import InvalidInputError
from workers.process.runtime import Runtime

PAGE_JOBS: Final = 50
MOST_AT_ONCE: Final = 10_000
"""So many jobs are counted, retried or cancelled at once."""

MOST_LOOKED_AT_FOR_ALL: Final = 100_000
"""So many rows are looked at to find all jobs that a filter selects."""

_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class JobsPage:
    """A page of a list of jobs.

    Attributes:
        jobs: the newest change first.
        stages: the stages of those whose rows show none, by the job's key, as the queue has them.
        next: the cursor of the next page; None if this is the last one.
        looked_at: how many rows were looked at.
        back_to: the change, in UTC, up to which they were; None if there was none.
    """

    jobs: Sequence[Job]
    next: str | None
    looked_at: int
    back_to: datetime | None
    stages: dict[JobKey, str] = field(default_factory=dict)

    def changed(self, job: Job) -> datetime:
        """Return when a job was last changed, in UTC without a zone."""
        return last_change(job)

    def stage_of(self, job: Job) -> str | None:
        """Return the stage that a job's row shows, or else the one that it has in the queue."""
        return job.stage or self.stages.get(job.key)


def last_change(job: Job) -> datetime:
    """Return when a job's row was last written, in UTC without a zone, as far as its columns tell."""
    return max(one for one in (job.updated_at, job.started_at, job.completed_at) if one is not None)


@dataclass(frozen=True, slots=True)
class Selected:
    """All jobs that a filter selects, up to MOST_AT_ONCE.

    Attributes:
        names: of the jobs, the newest change first.
        is_complete: whether these are all.
        back_to: the change, in UTC, up to which rows were looked at; None if there was none.
    """

    names: Sequence[str]
    is_complete: bool
    back_to: datetime | None


async def jobs_page(
    runtime: Runtime, wanted: JobFilter, *, cursor: str | None = None, limit: int = PAGE_JOBS
) -> JobsPage:
    """Return up to so many jobs behind a cursor. A request looks at a limited number of rows, and may find none.

    Raises:
        InvalidInputError: the cursor is none of such a list.
    """

    async def read(connection: Connection) -> JobsPage:
        found = await _look(connection, wanted, most=limit, cursor=cursor)
        jobs = await jobs_at(connection, found.keys)
        if wanted.user is not None:  # rows of a user with many come in the order of their creation
            jobs.sort(key=last_change, reverse=True)
        bare = [job.key for job in jobs if job.stage is None and job.status not in TERMINAL]
        stages = await queued_stages(connection, bare)
        return JobsPage(jobs, found.cursor, found.looked_at, found.back_to, stages)

    return await runtime.database.run(read)


async def list_jobs(runtime: Runtime, wanted: JobFilter, *, limit: int = PAGE_JOBS) -> list[Job]:
    """Return up to so many jobs, the newest change first, however many rows have to be looked at."""

    async def read(connection: Connection) -> list[Job]:
        return await jobs_at(connection, await _keys(connection, wanted, limit))

    return await runtime.database.run(read)


async def count_jobs(runtime: Runtime, wanted: JobFilter) -> int | None:
    """Count the jobs that a filter selects; None if they are more than MOST_AT_ONCE."""
    keys = await runtime.database.run(partial(_keys, wanted=wanted, limit=MOST_AT_ONCE + 1))
    return len(keys) if len(keys) <= MOST_AT_ONCE else None


async def select_jobs(runtime: Runtime, wanted: JobFilter) -> Selected:
    """Return all jobs that a filter selects: up to MOST_AT_ONCE, looking at MOST_LOOKED_AT_FOR_ALL rows at most."""

    async def read(connection: Connection) -> Selected:
        keys: list[JobKey] = []
        cursor, looked_at, back_to = None, 0, None
        while True:
            most = min(_CHUNK, MOST_AT_ONCE - len(keys))
            found = await _look(connection, wanted, most=most, cursor=cursor, most_looked_at=_CHUNK)
            keys += found.keys
            cursor, looked_at, back_to = found.cursor, looked_at + found.looked_at, found.back_to or back_to
            if cursor is None or len(keys) >= MOST_AT_ONCE or looked_at >= MOST_LOOKED_AT_FOR_ALL:
                names = await job_names(connection, keys)
                return Selected([names[key] for key in dict.fromkeys(keys)], cursor is None, back_to)

    return await runtime.database.run(read)


async def user_of_list(runtime: Runtime, given: str) -> UserOfJobs:
    """Return the user with an e-mail or an id, or of APPLICATION/ID where several applications are drained.

    A text by which no user is found is taken for an id.
    """
    application, slash, user_id = given.partition("/")
    if slash and len(applications()) > 1 and application in {one.name for one in applications()}:
        return UserOfJobs(user_id, application)
    found = await runtime.database.run(lambda connection: find_user(connection, given)) if has_pictures() else None
    return UserOfJobs(given if found is None else found.id)


async def _keys(connection: Connection, wanted: JobFilter, limit: int) -> list[JobKey]:
    keys: list[JobKey] = []
    cursor = None
    while len(keys) < limit:
        most = min(_CHUNK, limit - len(keys))
        found = await _look(connection, wanted, most=most, cursor=cursor, most_looked_at=2 * _CHUNK)
        keys += found.keys
        if (cursor := found.cursor) is None:
            break
    return list(dict.fromkeys(keys))


async def _look(
    connection: Connection, wanted: JobFilter, *, most: int, cursor: str | None, most_looked_at: int | None = None
) -> Found:
    last = {job_type_of(one).stages[-1].name for one in job_types() if is_job_type(one)}
    try:
        return await look(
            connection, wanted, most=most, last_stages=sorted(last), cursor=cursor, most_looked_at=most_looked_at
        )
    except ValueError as error:
        raise InvalidInputError(f"{error}; begin with the first page") from error
