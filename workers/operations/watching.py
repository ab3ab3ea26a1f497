"""Following jobs until they end: woken by notifications, and by a clock where none arrives."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

import structlog

from models.connections import DatabaseLostError
from models.queue.listening import listen
from models.queue.progress import JobProgress, job_progress
from workers.process.runtime import Runtime

log = structlog.get_logger(__name__)

CHANNEL: Final = "darkroom_jobs"
POLL_S: Final = 1.0
GATHER_S: Final = 0.05
"""After a notification, how long to wait for others before a look: a batch of jobs ends in bursts."""

PATIENCE_S: Final = 60.0
"""How long PostgreSQL may be away before watching is given up."""


async def watch_jobs(runtime: Runtime, job_ids: Iterable[str]) -> AsyncIterator[list[JobProgress]]:
    """Yield where all jobs are, at once and then at every change or second, until all are over.

    A database that goes away is waited for.

    Raises:
        DatabaseLostError: it stayed away for PATIENCE_S.
    """
    ids = list(job_ids)
    changed = asyncio.Event()
    seen_s = time.monotonic()
    async with _listening(runtime, frozenset(ids), changed):
        while True:
            changed.clear()
            try:
                progress = await runtime.database.run(lambda connection: job_progress(connection, ids))
            except DatabaseLostError:
                if time.monotonic() - seen_s > PATIENCE_S:
                    raise
                await asyncio.sleep(POLL_S)
                continue
            seen_s = time.monotonic()
            yield progress
            if all(one.is_over for one in progress):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await changed.wait()
                await asyncio.sleep(GATHER_S)


@contextlib.asynccontextmanager
async def _listening(runtime: Runtime, ids: frozenset[str], changed: asyncio.Event) -> AsyncIterator[None]:
    """Set `changed` for every notification about one of the jobs; without a connection the caller's clock serves."""
    task = asyncio.create_task(_listen(runtime, ids, changed), name="listen")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listen(runtime: Runtime, ids: frozenset[str], changed: asyncio.Event) -> None:
    def heard(payload: str) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):  # anyone may write to a channel
            if json.loads(payload)["id"] in ids:
                changed.set()

    while True:
        try:
            await listen(runtime.database, CHANNEL, heard, begun=changed.set)  # what ended before counts, too
        except (DatabaseLostError, OSError) as error:
            log.debug("listen_failed", error=str(error))
        await asyncio.sleep(POLL_S)
