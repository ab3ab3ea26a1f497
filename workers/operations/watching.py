"""Watching of jobs until they end: jobs are read at each notification, and once a second if none arrives."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from config.logger import EventLogger
from models.connections import Connection, DatabaseLostError
from models.queue.job_names import JobKey, job_keys
from models.queue.listening import listen
from models.queue.outlook import Outlook, outlooks
from models.queue.progress import JobProgress, job_progress
from workers.operations.errors import translated
from workers.operations.waiting import Waiting, first_waits
from workers.process.runtime import Runtime

log = EventLogger(__name__)

CHANNEL: Final = "darkroom_jobs"
POLL_S: Final = 1.0
GATHER_S: Final = 0.05
"""Seconds to wait for further notifications after one, before jobs are read: a batch of jobs ends in bursts."""

LONGEST_OUTAGE_S: Final = 60.0
"""How long, in seconds, PostgreSQL may be unreachable before the error is raised."""


EXPLAIN_S: Final = 2.0
"""Seconds between reads of why jobs wait, because each takes several statements."""

EXPLAINED_AFTER_S: Final = 1.0
"""Seconds for which a new job's reason to wait isn't read: usually a worker is about to claim the job."""

MOST_EXPLAINED: Final = 10


@dataclass(frozen=True, slots=True)
class Look:
    """The progress of jobs, in the order given, and by name why jobs wait and how long, for MOST_EXPLAINED at most."""

    jobs: Sequence[JobProgress]
    waits: Mapping[str, Waiting]
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)


async def watch_jobs(runtime: Runtime, names: Iterable[str]) -> AsyncIterator[Look]:
    """Yield the progress of all jobs: at once, at every change, and once a second, until all are over.

    A job is given by its id or TABLE/ID. Names are looked up once, so that a job added to another table later, with the
    same id, changes nothing. If PostgreSQL is unreachable, wait until it answers.

    Raises:
        InvalidInputError: an id stands in several tables.
        DatabaseLostError: it was unreachable for LONGEST_OUTAGE_S.
    """
    asked = list(names)
    jobs: dict[str, JobKey | None] = {}
    changed = asyncio.Event()
    seen_s = time.monotonic()
    why = _Reasons(runtime)

    async def look(connection: Connection) -> list[JobProgress]:
        if not jobs:
            keys = await job_keys(connection, asked)
            jobs.update({name: keys.get(name) for name in asked})
        return await job_progress(connection, jobs)

    async with _listening(runtime, jobs, changed):
        while True:
            changed.clear()
            try:
                with translated():
                    progress = await runtime.database.run(look)
                waits = await why.look(progress, jobs)
            except DatabaseLostError:
                if time.monotonic() - seen_s > LONGEST_OUTAGE_S:
                    raise
                await asyncio.sleep(POLL_S)
                continue
            seen_s = time.monotonic()
            yield Look(progress, waits, why.outlooks)
            if all(one.is_over for one in progress):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await changed.wait()
                await asyncio.sleep(GATHER_S)


class _Reasons:
    """Why jobs wait and how long, read again every EXPLAIN_S."""

    def __init__(self, runtime: Runtime) -> None:
        self.outlooks: Mapping[str, Outlook] = {}
        self._runtime = runtime
        self._looked_s: float | None = None
        self._found: Mapping[tuple[str, str | None], Waiting] = {}

    async def look(self, progress: Sequence[JobProgress], jobs: Mapping[str, JobKey | None]) -> dict[str, Waiting]:
        """Return why jobs wait, except for jobs whose status has changed since the reasons were read."""
        if self._looked_s is None or time.monotonic() - self._looked_s > EXPLAIN_S:
            asked = [one for one in progress if not one.is_over and one.elapsed_s > EXPLAINED_AFTER_S]
            asked = sorted(asked, key=lambda one: not one.is_waiting)[:MOST_EXPLAINED]
            keys = {one.job_id: key for one in asked if (key := jobs.get(one.job_id)) is not None}
            found = await first_waits(self._runtime, list(keys.values())) if keys else {}
            self._found = {
                (one.job_id, one.status): found[keys[one.job_id]] for one in asked if keys.get(one.job_id) in found
            }
            places = await self._runtime.database.run(partial(outlooks, keys=keys.values())) if keys else {}
            self.outlooks = {name: places[key] for name, key in keys.items() if key in places}
            self._looked_s = time.monotonic()
        seen = ((one.job_id, one.status) for one in progress)
        return {one[0]: self._found[one] for one in seen if one in self._found}


@contextlib.asynccontextmanager
async def _listening(
    runtime: Runtime, jobs: Mapping[str, JobKey | None], changed: asyncio.Event
) -> AsyncIterator[None]:
    """Set `changed` at every notification about one of the jobs, in the context; without a connection never set it."""
    task = asyncio.create_task(_listen(runtime, jobs, changed), name="listen")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listen(runtime: Runtime, jobs: Mapping[str, JobKey | None], changed: asyncio.Event) -> None:
    ids: set[str] = set()

    def heard(payload: str) -> None:
        if len(ids) < len(jobs):  # jobs are looked up after this began to listen
            ids.update(name if key is None else key.job_id for name, key in jobs.items())
        with contextlib.suppress(ValueError, TypeError, KeyError):  # any program may write to a channel
            if json.loads(payload)["id"] in ids:
                changed.set()

    while True:
        try:
            # jobs may have ended before the connection listened, so they are read once more
            await listen(runtime.database, CHANNEL, heard, begun=changed.set)
        except (DatabaseLostError, OSError) as error:
            log.debug("listen_failed", error=str(error))
        await asyncio.sleep(POLL_S)
