"""Commits with a notification wait for each other in the whole server: such a wait is never treated as a refusal."""

import asyncio
import contextlib

import asyncpg
import pytest

from models.queue.refusals import claim_jobs
from models.queue.rescue import end_overdue_jobs
from tests.support.builders import job_row, make_job, make_worker, queue_row

DEADLINES = {"ANALYZING": 60, "GENERATING": 60}
QUEUED_S = 0.4
"""As long as eighty commits of 5 ms take, one after the other."""


@pytest.fixture
async def crowded(database, connect):
    """Let commits with a message wait for QUEUED_S: one of them waits for a standby that isn't there.

    It keeps the lock that PostgreSQL takes for messages until it is cancelled.
    """
    admin, holder = await connect(), await connect()

    async def standby(names):
        await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        await admin.execute("SELECT pg_reload_conf()")
        while await admin.fetchval("SHOW synchronous_standby_names") != names:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def crowded():
        await holder.execute("SET synchronous_commit = on")
        pid = holder.get_server_pid()
        commit = asyncio.create_task(holder.execute("CREATE TABLE public.written (); NOTIFY somebody"))
        while not await admin.fetchval("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        end = asyncio.get_running_loop().call_later(QUEUED_S, lambda: freed.append(asyncio.create_task(free(pid))))
        yield
        end.cancel()
        await asyncio.gather(*freed)
        with contextlib.suppress(asyncpg.PostgresError):
            await commit

    async def free(pid):
        await admin.execute("SELECT pg_cancel_backend($1)", pid)

    freed = []
    await standby("nobody")
    yield crowded
    await standby("")


async def test_claim_waits_for_its_turn_to_commit(database, crowded):
    worker = await make_worker(database)
    job = await make_job(database)

    async with crowded():
        taken = await claim_jobs(database, worker, "default", 4, DEADLINES)

    assert [one.job_id for one in taken.claims] == [job]
    assert (await queue_row(database, job))["refusals"] == 0


async def test_end_by_the_scheduler_waits_for_its_turn_to_commit(database, crowded):
    job = await make_job(database)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '2 days'")

    async with crowded():
        assert await end_overdue_jobs(database, 86_400) == 1

    assert (await job_row(database, job))["status"] == "REFUNDED"
