"""A session that made its plans on an empty queue does no more for thousands of jobs than their number asks for."""

import psutil
import pytest

from tests.support.builders import make_image, make_user

INSERT_PAID = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $3 || n, $1, $2, 'TIER_1K', 2, 'PENDING', now() FROM generate_series(1, $4) n
"""
CANCEL = "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id LIKE $1"


FEW, MANY = 750, 3_000
MOST_TIMES = 12
"""Four times the rows take four times the work, and sixteen times where each row is compared with each other one."""


async def work_of(session, sql, *values):
    """Return the CPU time that a statement costs its session in seconds: whatever else runs, it costs no more."""
    process = psutil.Process(await session.fetchval("SELECT pg_backend_pid()"))
    before = process.cpu_times()
    await session.execute(sql, *values)
    after = process.cpu_times()
    return after.user - before.user + after.system - before.system


@pytest.fixture
async def warmed(database, foreign):
    """A session that made its plans on empty tables, one job at a time, before thousands came; with user and image."""
    user = await make_user(database, balance=100_000)
    image = await make_image(database, user)
    await database.fetch("ANALYZE")
    for number in range(10):
        await foreign.execute(INSERT_PAID, image, user, f"w{number}x", 1)
        await foreign.execute(CANCEL, f"w{number}x%")
    for name, rows in (("few", FEW), ("many", MANY)):
        await database.fetch(INSERT_PAID, image, user, name, rows)
    return foreign, user, image


async def test_session_with_plans_from_an_empty_queue_ends_thousands_of_jobs_in_a_statement(database, warmed):
    session, _, _ = warmed

    few = await work_of(session, CANCEL, "few%")
    many = await work_of(session, CANCEL, "many%")

    assert many < MOST_TIMES * few
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_session_with_plans_from_an_empty_queue_inserts_thousands_of_jobs_in_a_statement(database, warmed):
    session, user, image = warmed

    few = await work_of(session, INSERT_PAID, image, user, "less", FEW)
    many = await work_of(session, INSERT_PAID, image, user, "more", MANY)

    assert many < MOST_TIMES * few
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 2 * (FEW + MANY)


async def test_session_with_plans_from_an_empty_queue_reads_no_table_as_a_whole_for_one_job(warmed):
    session, user, image = warmed

    async with session.transaction():
        await session.execute(INSERT_PAID, image, user, "one", 1)
        await session.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = 'one1'")
        rows = await session.fetch("SELECT relname FROM pg_stat_xact_user_tables WHERE seq_tup_read > 1000")

    assert [row["relname"] for row in rows] == []
