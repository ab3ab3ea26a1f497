"""Jobs whose end the database refuses: they don't affect other jobs."""

from datetime import UTC, datetime, timedelta

from models.queue.claims import claim
from models.queue.leases import sign_off
from models.queue.rescue import end_overdue_jobs, rescue_lost_claims
from tests.support.builders import balance_of, job_row, make_job, make_user, make_worker

DEADLINES = {"ANALYZING": 60}
REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a rule of the application' USING ERRCODE = '23514';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON public.image_enhancement_jobs
FOR EACH ROW WHEN (OLD.id = '{job}') EXECUTE FUNCTION public.refuse();
"""


async def refuse_updates_of(database, job):
    async with database.connection() as connection:
        await connection.execute(REFUSE.format(job=job))


async def claimed_by_nobody_alive(database, count):
    user = await make_user(database, balance=100)
    jobs = [await make_job(database, user_id=user) for _ in range(count)]
    async with database.connection() as connection:
        worker = await make_worker(database)
        await claim(connection, worker, "default", count, DEADLINES)
        await sign_off(connection, worker)
    return jobs


async def test_rescue_of_a_row_that_refuses_goes_on_with_the_others(database):
    poisoned, innocent = await claimed_by_nobody_alive(database, 2)
    await refuse_updates_of(database, poisoned)

    rescued = await rescue_lost_claims(database, None)

    assert rescued.requeued == 1
    assert (await job_row(database, innocent))["status"] == "PENDING"
    assert (await job_row(database, poisoned))["status"] == "PROCESSING"


async def test_maximum_wait_of_a_row_that_refuses_goes_on_with_the_others(database):
    user = await make_user(database, balance=100)
    poisoned, innocent = [await make_job(database, user_id=user) for _ in range(2)]
    await database.fetch("UPDATE darkroom.job_queue SET created_at = $1", datetime.now(UTC) - timedelta(days=2))
    await refuse_updates_of(database, poisoned)

    assert await end_overdue_jobs(database, 86_400) == 2  # the refused label is kept beside its job, whose end is paid
    assert (await job_row(database, innocent))["status"] == "REFUNDED"
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await balance_of(database, user) == 100
