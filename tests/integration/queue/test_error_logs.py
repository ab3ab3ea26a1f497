"""Each failed attempt has a row in error_logs, and a failure of that write doesn't affect the job."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from models.history import error_logs
from models.history.error_logs import MAX_EVIDENCE_CHARS, FailedAttempt, log_failed_attempts
from models.queue.rescue import end_overdue_jobs, rescue_lost_claims
from pipelines.errors import (
    BadImageError,
    PolicyRefusedError,
    ProviderUnavailableError,
    ThrottledError,
)
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    queue_row,
    waiting_for_locks,
)
from tests.support.patience import HANGS_AFTER_S
from tests.support.running import make_runner
from tests.support.scripted_provider import ScriptedProvider
from tests.support.ungated import Ungated
from workers.running.job import Ending, RunningJob

SECRET = "a-secret-of-twenty-chars"
FAILURE = FailedAttempt("enhance", "j", "u", "GENERATING", 1, "it failed", "SomeError", "SOME")


async def error_rows(database):
    return await database.fetch('SELECT * FROM public.error_logs ORDER BY "timestamp", id')


@pytest.fixture
def attempt(database, tmp_path):
    """Run one attempt of a new text-to-image job whose provider fails with an error; `meanwhile` begins it itself."""

    async def run(error, *, job_id=None, meanwhile=None):
        job_id = job_id or await make_generation(database)
        (held,) = await claim_jobs(database)
        runner = make_runner(database, tmp_path, Ungated(ScriptedProvider(error)), secret=SECRET)
        job = RunningJob(held)

        def begin():
            job.task = asyncio.create_task(runner.run_job(job))

        if meanwhile:
            await meanwhile(job, begin)
        else:
            begin()
        await asyncio.wait_for(job.task, HANGS_AFTER_S)
        return held

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadImageError("too large"), "BAD_IMAGE"),
        (ProviderUnavailableError("down"), "PROVIDER_UNAVAILABLE"),
        (PolicyRefusedError("no", category="IMAGE_SAFETY"), "IMAGE_SAFETY"),
        (KeyError("a bug of ours"), "KEY"),
    ],
    ids=["permanent", "transient", "policy", "bug"],
)
async def test_failed_attempt_leaves_one_row_that_says_what_where_and_why(database, attempt, error, code):
    held = await attempt(error)

    (row,) = await error_rows(database)
    assert (row["environment"], row["route"]) == ("BACKEND", "darkroom/generate/GENERATING")
    assert (row["errorType"], row["errorCode"], row["userId"]) == (type(error).__name__, code, held.user_id)
    assert row["message"] == str(error)
    assert "in generate" in row["stack"]
    assert row["metadata"] == {"jobId": held.job_id, "jobType": "generate", "stage": "GENERATING", "attempt": 1}


async def test_every_attempt_of_a_job_leaves_its_row(database, attempt):
    held = await attempt(ProviderUnavailableError("down"))
    for _ in range(held.max_attempts - 1):
        await database.fetch("UPDATE darkroom.job_queue SET status = 'pending', ready = true")
        await attempt(ProviderUnavailableError("down"), job_id=held.job_id)

    assert (await job_row(database, held.job_id))["status"] == "REFUNDED"
    assert [row["metadata"]["attempt"] for row in await error_rows(database)] == [1, 2, 3, 4]


async def test_snooze_fails_no_attempt_and_leaves_no_row(database, attempt):
    held = await attempt(ThrottledError("not now", retry_after=timedelta(seconds=9)))

    assert (await queue_row(database, held.job_id))["attempts"] == 0
    assert await error_rows(database) == []


async def test_secrets_are_taken_out_of_message_stack_cause_and_evidence(database, attempt):
    error = ProviderUnavailableError(f"told {SECRET}", evidence=f"x-goog-api-key: {SECRET} " + "x" * 9_000)
    error.__cause__ = ValueError(f"https://user:{SECRET}@example.test/?key={SECRET}")

    await attempt(error)

    (row,) = await error_rows(database)
    assert SECRET not in str(row)
    assert len(row["metadata"]["evidence"]) == MAX_EVIDENCE_CHARS


async def test_text_that_postgresql_cannot_hold_is_written_without_it(database):
    await log_failed_attempts(database, [replace(FAILURE, message="a\0b\ud800", stack="\0", evidence="\0x\udfff")])

    (row,) = await error_rows(database)
    assert (row["message"], row["stack"], row["metadata"]["evidence"]) == ("ab?", "", "x?")


RAISES = """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no errors, please'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON public.error_logs FOR EACH ROW EXECUTE FUNCTION public.refuse()"""
DAMAGE = {
    "a trigger raises": RAISES,
    "a trigger dawdles": RAISES.replace("RAISE EXCEPTION 'no errors, please'", "PERFORM pg_sleep(30); RETURN NEW"),
    "a column is gone": 'ALTER TABLE public.error_logs DROP COLUMN "errorCode"',
    "the table is gone": "DROP TABLE public.error_logs",
    "a column is required": "ALTER TABLE public.error_logs ADD COLUMN tenant text NOT NULL",
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_error_logs_that_takes_no_row_fails_no_job(database, attempt, what):
    async with database.connection() as connection:
        await connection.execute(DAMAGE[what])

    held = await attempt(ProviderUnavailableError("down"))
    ended = await attempt(BadImageError("too large"))

    assert (await queue_row(database, held.job_id))["last_error"] == "down"
    assert (await job_row(database, ended.job_id))["status"] == "REFUNDED"
    assert await balance_of(database, ended.user_id) == 100


@asynccontextmanager
async def waits_for(database, table):
    """Collect the waits for a table's lock, each by its session and its beginning, while the block lasts."""
    seen = set()
    waiting = """SELECT l.pid, l.waitstart FROM pg_locks l
                 WHERE l.relation = $1::text::regclass AND NOT l.granted AND l.waitstart IS NOT NULL"""

    async def look():
        async with database.connection() as connection:
            while True:
                seen.update(tuple(row) for row in await connection.fetch(waiting, table))
                await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    yield seen
    looking.cancel()
    await asyncio.wait([looking])


async def test_locked_error_logs_keeps_no_job_from_its_end_or_its_rescue(database, attempt, foreign):
    dead = await make_claim(database, maxRetries=0)
    others = [await make_claim(database, maxRetries=0) for _ in range(20)]
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 ms'")
    async with foreign.transaction():
        await foreign.execute("LOCK TABLE public.error_logs")
        now = await database.fetchval("SELECT clock_timestamp()")

        passes = []  # each has half a second to end jobs in
        async with waits_for(database, "public.error_logs") as waits:
            while sum(passes) <= len(others):
                passes.append((await rescue_lost_claims(database, now + timedelta(minutes=5))).ended)
                assert passes[-1]
            held = await attempt(BadImageError("too large"))

    # one for all that a pass has ended, and one for the attempt, each tried again after lock_timeout
    assert 2 <= len(waits) <= 2 * (len(passes) + 1)
    assert sum(passes) == 1 + len(others)
    assert (await job_row(database, held.job_id))["status"] == "REFUNDED"
    assert await balance_of(database, dead.user_id) == 100


@pytest.fixture
def told_while_it_logs(database, foreign, eventually, monkeypatch):
    """Tell a job to end while its row waits for a lock."""
    monkeypatch.setattr(error_logs, "TIMEOUT_S", 30)

    def told(ending):
        async def meanwhile(job, begin):
            async with foreign.transaction():
                await foreign.execute("LOCK TABLE public.error_logs")
                begin()  # no sooner, or the row is written before the lock
                await eventually(lambda: waiting_for_locks(database))
                if ending is Ending.CLAIM_LOST:
                    await database.fetch("UPDATE public.mcp_generation_jobs SET status = 'CANCELLED'")
                job.end(ending)
                await asyncio.wait([job.task], timeout=HANGS_AFTER_S)
                assert job.task.done()

        return meanwhile

    return told


async def test_process_that_stops_while_it_logs_still_records_the_failure(database, attempt, told_while_it_logs):
    held = await attempt(BadImageError("too large"), meanwhile=told_while_it_logs(Ending.SHUTDOWN))

    assert (await job_row(database, held.job_id))["status"] == "REFUNDED"


async def test_claim_lost_while_it_logs_writes_nothing_more(database, attempt, told_while_it_logs):
    held = await attempt(BadImageError("too large"), meanwhile=told_while_it_logs(Ending.CLAIM_LOST))

    assert (await job_row(database, held.job_id))["status"] == "CANCELLED"
    assert await balance_of(database, held.user_id) == 100


async def test_attempt_lost_with_its_worker_leaves_a_row_by_whoever_rescues_it(database):
    held = await make_claim(database)
    for _ in range(2):
        await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 ms'")
        await rescue_lost_claims(database, await database.fetchval("SELECT clock_timestamp() + interval '3 s'"))
        await claim_jobs(database)

    first, second = await error_rows(database)
    assert (first["errorType"], first["errorCode"], first["message"]) == (
        "JobRescued",
        "WORKER_DIED",
        "its worker died at ANALYZING",
    )
    assert (second["errorCode"], second["userId"]) == ("QUARANTINED", held.user_id)
    assert second["metadata"] == {"jobId": held.job_id, "jobType": "enhance", "stage": "ANALYZING", "attempt": 2}
    assert first["environment"] == "BACKEND"


async def test_job_over_its_maximum_wait_leaves_a_row(database):
    held = await make_claim(database)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '1 hour'")

    await end_overdue_jobs(database, 3_600)
    await end_overdue_jobs(database, 3_600)

    (row,) = await error_rows(database)
    assert (row["errorType"], row["errorCode"], row["route"]) == (
        "JobOverdue",
        "MAX_WAIT_OVER",
        "darkroom/enhance/ANALYZING",
    )
    assert row["message"] == (await job_row(database, held.job_id))["errorMessage"]
