"""A process that is ended at a failpoint: it goes one path through Darkroom.

It is forked from a server that has imported everything, so that hundreds of runs
take seconds. Reads use a read-only transaction here, so that a write without a
name fails.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from typing_extensions import override

from config import failpoints
from config.log import configure_logging
from models import collector
from models.database import Database
from models.queue.rescue import end_overdue_jobs
from models.queue.submission import Enhancement
from pipelines.errors import PolicyRefusedError, ProviderUnavailableError, ThrottledError
from pipelines.settings import Settings, load_settings
from tests.support.patience import HANGS_AFTER_S
from tests.support.scripted_provider import ScriptedProvider, lasting, stand_in
from tests.support.slow_worker import note
from workers import submission
from workers.operations import jobs
from workers.process import compose, tools, worker
from workers.process.compose import open_runtime
from workers.process.runtime import Runtime
from workers.process.scheduler_loops import Scheduler
from workers.process.wake_up import Lanes
from workers.services.services import embedded_services

DIED = 99


class InlinePixels:
    """Pixel work without children, since starting one takes longer than all else in this process."""

    def __init__(self, **_options: object) -> None:
        pass

    def keep_warm(self, _count: int) -> None:
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_details: object) -> None:
        pass

    async def run(self, work, *arguments, **_limits):
        return work(*arguments)


def open_crashing(_settings, _pixels, _limits):
    """Open a provider that fails as CRASH_SCRIPT says, one word for each generate call; the last word stays."""

    def fail(_call):
        script = os.environ["CRASH_SCRIPT"].split()
        match script[min(calls_so_far(), len(script)) - 1]:  # this call is counted already
            case "unavailable":
                return ProviderUnavailableError("down")
            case "throttled":
                return ThrottledError("busy", retry_after=timedelta(seconds=0.1))
            case "refused":
                return PolicyRefusedError("refused", category="SAFETY")
        return lasting(float(os.environ["SLOW_S"]))

    return ScriptedProvider(fail, note=note)


def calls_so_far() -> int:
    """Return how many pictures the provider was asked for."""
    return Path(os.environ["SLOW_CALLS"]).read_text().split().count("generate")


async def work(settings: Settings, _job_id: str) -> None:
    """Run jobs as a worker does until nothing is queued."""
    process = worker.WorkerProcess(settings, Lanes(), end=lambda: None)
    await process.start()
    looking = await asyncpg.connect(os.environ["DATABASE_URL"])
    async with asyncio.timeout(HANGS_AFTER_S):
        while await looking.fetchval("SELECT count(*) FROM darkroom.job_queue"):  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.02)
    await looking.close()
    await process.stop()


async def work_together(settings: Settings, job_id: str) -> None:
    """Run jobs whose writes are committed together more often than time alone would have it."""
    collector.TURNS = 2_000  # type: ignore[misc]
    await work(settings, job_id)


async def work_and_be_told_to_stop(settings: Settings, _job_id: str) -> None:
    """Run jobs as a worker that gets SIGTERM during a call."""
    process = worker.WorkerProcess(settings.model_copy(update={"shutdown_grace_s": 0}), Lanes(), end=lambda: None)
    await process.start()
    async with asyncio.timeout(HANGS_AFTER_S):
        while not calls_so_far():  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.02)
    await process.stop()


class BusyPixels(InlinePixels):
    """Pixel work as above, but no child ever becomes free to finish a picture."""

    @override
    async def run(self, work, *arguments, **_limits):
        if work.__qualname__ == "finish":
            await asyncio.Event().wait()
        return work(*arguments)


async def work_and_keep_an_answer(settings: Settings, job_id: str) -> None:
    """Run jobs as a worker that gets SIGTERM while a picture waits for a pixel child."""
    tools.PixelPool = BusyPixels  # type: ignore[misc]
    process = worker.WorkerProcess(settings.model_copy(update={"shutdown_grace_s": 0}), Lanes(), end=lambda: None)
    await process.start()
    async with _open(settings) as runtime, asyncio.timeout(HANGS_AFTER_S):
        answered = "SELECT FROM darkroom.provider_calls c WHERE c.job_id = $1 AND c.purpose = 'generate' AND NOT"
        while not await runtime.database.fetch(f"{answered} c.outcome = 'open'", job_id):  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.02)
    await process.stop()


async def submit(settings: Settings, job_id: str) -> None:
    """Store a picture and submit a job for it, as the command line does; `job_id` is the user and the key."""
    async with _open(settings) as runtime:
        data = await asyncio.to_thread(Path(os.environ["CRASH_PICTURE"]).read_bytes)
        picture = submission.check_picture("p.jpg", data, settings)
        stored = 'SELECT i.id FROM public.enhanced_images i WHERE i."userId" = $1'
        # who asks again with the same key means the same picture: another would be refused
        image_id = await runtime.database.fetchval(stored, job_id)
        image_id = image_id or await submission.store_picture(runtime, job_id, picture)
        job = Enhancement(job_id, image_id, "TIER_1K", idempotency_key=job_id)
        await submission.submit_enhancement(runtime, job)


async def cancel(settings: Settings, job_id: str) -> None:
    """Cancel a job, as the command line does."""
    async with _open(settings) as runtime:
        await jobs.cancel_job(runtime, job_id, actor="victim")


async def end_overdue(settings: Settings, _job_id: str) -> None:
    """End jobs past their maximum wait, as schedulers do."""
    async with _open(settings) as runtime:
        await end_overdue_jobs(runtime.database, 0.001)


async def finish_batches(settings: Settings, _job_id: str) -> None:
    """Record and notify the ends of batches, as schedulers do."""
    async with _open(settings) as runtime:
        await Scheduler(runtime).finish_batches()


PATHS: dict[str, Callable[[Settings, str], Awaitable[None]]] = {
    function.__name__: function
    for function in (
        *(work, work_together, work_and_be_told_to_stop, work_and_keep_an_answer),
        *(submit, cancel, end_overdue, finish_batches),
    )
}


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Runtime]:
    """Open a runtime as commands do."""
    with embedded_services(settings) as services:
        async with open_runtime(settings, services, wait_for_migration=False) as runtime:
            yield runtime


def live(path: str, job_id: str, environment: dict[str, str], *, die_at: tuple[str, int] | None, passed: str) -> None:
    """Go a path, and end the process when a failpoint is passed for the n-th time; without one, record all of them."""
    os.environ.update(environment)
    stand_in("tests.support.victim:open_crashing")
    tools.PixelPool = InlinePixels
    compose.wait_until_ready = _found_ready
    seen: list[str] = []

    def on_pass(name: str) -> None:
        seen.append(name)
        if die_at is not None and (name, seen.count(name)) == die_at:
            os._exit(DIED)

    _read_only_reads()
    failpoints.on_pass = on_pass
    settings = load_settings()
    configure_logging(settings)
    asyncio.run(PATHS[path](settings, job_id))
    Path(passed).write_text(json.dumps(seen))
    os._exit(0)  # without a look at what multiprocessing would tidy up


async def _found_ready(_engine: Any, **_options: Any) -> None:
    """Accept the database as migrated, since comparing it with this release takes half of this process's time."""


def _read_only_reads() -> None:
    run = Database.run

    async def read(self: Database, reading: Callable[[Any], Awaitable[Any]]) -> Any:
        async def guarded(connection: Any) -> Any:
            async with connection.transaction(readonly=True):
                return await reading(connection)

        return await run(self, guarded)

    Database.run = read  # type: ignore[method-assign]
