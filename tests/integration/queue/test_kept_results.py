"""A finished result is recorded in the end, however long the database refuses the write."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from config.masking import SecretMask
from models.queue.groups import GroupWriter
from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import Completed
from tests.support.builders import balance_of, job_row, make_claim, queue_row
from tests.support.patience import HANGS_AFTER_S
from workers.running import record
from workers.running.job import Ending, RunningJob
from workers.running.outcomes import Outcome
from workers.running.record import Recorder

RAISES = """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'nothing is written now'; END $$;"""
TRIGGER = "CREATE TRIGGER refuse BEFORE {events} ON darkroom.{table} EXECUTE FUNCTION public.refuse()"
DROP = "DROP FUNCTION public.refuse() CASCADE"
REFUSES = {
    "the history takes no row": (RAISES + TRIGGER.format(events="INSERT", table="stage_runs"), DROP),
    "the queue takes no change": (RAISES + TRIGGER.format(events="UPDATE OR DELETE", table="job_queue"), DROP),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(record, "AGAIN_S", 0.5)


@asynccontextmanager
async def refusing(foreign, case):
    """Have the database take nothing of a claim's end, while the block lasts."""
    damage, repair = REFUSES[case]
    await foreign.execute(damage)
    yield
    await foreign.execute(repair)


@pytest.fixture
async def recording(database):
    """Begin to record the result of a job's last attempt; return its claim and the running job."""
    claim = await make_claim(database, maxRetries=0)
    job = RunningJob(claim)

    def begin():
        end = Completed("GENERATING", 1, {"enhancedR2Key": "users/u/enhanced/i/j-0.jpg"})
        job.task = asyncio.create_task(
            Recorder(database, GroupWriter(database), SecretMask([])).record(job, Outcome(end))
        )
        return job

    yield claim, begin
    if job.task is not None and not job.task.done():
        job.task.cancel()
        await asyncio.wait([job.task])


@pytest.mark.parametrize("case", REFUSES)
async def test_result_that_the_database_takes_nothing_of_is_recorded_when_it_does(
    database, foreign, eventually, recording, case
):
    claim, begin = recording
    async with refusing(foreign, case):
        job = begin()
        await eventually(lambda: asyncio.sleep(0, job.has_left_lane))  # until the next round
        await eventually(lambda: asyncio.sleep(0, not job.has_left_lane))
        await eventually(lambda: asyncio.sleep(0, job.has_left_lane))

    await asyncio.wait_for(job.task, HANGS_AFTER_S)
    row = await job_row(database, claim.job_id)
    assert (row["status"], row["key"]) == ("COMPLETED", "users/u/enhanced/i/j-0.jpg")
    assert await queue_row(database, claim.job_id) is None
    assert await balance_of(database, claim.user_id) == 98


async def test_claim_of_a_result_that_waits_outlives_its_deadline(database, foreign, eventually, recording):
    claim, begin = recording
    await database.fetch("UPDATE darkroom.job_queue SET deadline_at = now() - interval '20 seconds'")
    async with refusing(foreign, "the history takes no row"):
        job = begin()
        late = "SELECT count(*) FROM darkroom.job_queue WHERE deadline_at < now()"
        await eventually(lambda: database.fetchval(f"SELECT ({late}) = 0"))
        now = await database.fetchval("SELECT clock_timestamp() + interval '9 s'")
        assert (await rescue_lost_claims(database, now)).requeued == 0

    await asyncio.wait_for(job.task, HANGS_AFTER_S)
    assert (await job_row(database, claim.job_id))["status"] == "COMPLETED"


async def test_result_whose_claim_is_lost_while_it_waits_is_let_go(database, foreign, eventually, recording):
    claim, begin = recording
    async with refusing(foreign, "the history takes no row"):
        job = begin()
        await eventually(lambda: asyncio.sleep(0, job.has_left_lane))
        job.end(Ending.CLAIM_LOST)
        await asyncio.wait_for(job.task, HANGS_AFTER_S)

    assert (await job_row(database, claim.job_id))["status"] == "PROCESSING"
