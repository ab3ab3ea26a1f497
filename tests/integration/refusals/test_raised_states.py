"""A trigger that raises any SQLSTATE: the queue continues, its job ends, and other jobs are rescued."""

import asyncio
from functools import partial

import pytest

from config.masking import SecretMask
from models import database as database_module
from models import database_retries
from models.queue import claims as claims_module
from models.queue import refusals, rescue, transitions, unqueued, writing
from models.queue.groups import GroupWriter
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import end_overdue_jobs, rescue_lost_claims
from models.queue.transitions import Checkpoint, Completed
from models.queue.unqueued import AdoptionTerms, adopt_unqueued_jobs, end_unqueued_jobs
from pipelines.errors import BadImageError
from pipelines.settings import Settings
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_job,
    make_user,
    make_worker,
    money_violations,
    queue_row,
)
from tests.support.patience import HANGS_AFTER_S, within
from tests.support.rules import STATES, raise_states, run
from tests.support.running import make_stages
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running import record as recording
from workers.running.claim_loop import ClaimLoop
from workers.running.job import RunningJob
from workers.running.record import Recorder
from workers.running.run import StageRunner
from workers.running.runner import Runner

OVER = {"COMPLETED", "FAILED", "REFUNDED", "CANCELLED"}
TERMS = AdoptionTerms(max_wait_s=3_600, silence_s=60)


class GivenStages(StageRunner):
    """Runs no stage: each claim comes to what the test gives."""

    given: "Completed | Checkpoint | Exception"

    async def _stages(self, job):
        if isinstance(self.given, Exception):
            raise self.given
        if isinstance(self.given, Checkpoint):
            with job.recording():
                job.send(self.writer, self.given)
                await job.saved()
            raise BadImageError("its stage went on")
        return self.given


@pytest.fixture
def given_stages(database, tmp_path, monkeypatch):
    """Stages of a process with little patience for locks."""
    monkeypatch.setattr(database_module, "RAISED_RETRY_S", 0.1)
    monkeypatch.setattr(refusals, "END_RETRY_S", 0.2)
    monkeypatch.setattr(database_retries, "CANCELLED_RETRY_S", 0.2)
    monkeypatch.setattr(database_retries, "CONTENTION_RETRY_S", 0.2)
    monkeypatch.setattr(database_retries, "LANE_RETRY_S", 0)
    for module in (recording, writing):
        monkeypatch.setattr(module, "LANE_RETRY_S", 0.2)
    return make_stages(database, GroupWriter(database), tmp_path, None, SecretMask([]), GivenStages)


@pytest.fixture
def run_job(database, given_stages):
    """Take a claim to its recorded end."""
    return Runner(given_stages, Recorder(database, given_stages.writer, SecretMask([]))).run_job


@pytest.fixture
def run_to(given_stages, run_job):
    """Run claims at once, each to a result, an error or a checkpoint."""

    async def run_claims(claims, given):
        given_stages.given = given
        jobs = [RunningJob(claim) for claim in claims]
        await asyncio.gather(*(run_job(job) for job in jobs))

    return run_claims


async def is_completed(database, job):
    return (await job_row(database, job))["status"] == "COMPLETED"


async def make_claims(database, **columns):
    """Claim a job for each of STATES, all of one user."""
    user = await make_user(database, balance=100)
    for _ in STATES:
        await make_job(database, user_id=user, **columns)
    claims = await claim_jobs(database, most=len(STATES))
    return user, {claim.job_id: state for claim, state in zip(claims, STATES, strict=True)}, claims


async def states_of_ends(database):
    rows = await database.fetch("SELECT job_id, label, words FROM darkroom.refused_ends")
    assert {row["label"] for row in rows} == {"REFUNDED"}
    return {row["job_id"]: row["words"].rpartition(" ")[2].rstrip(")") for row in rows}


async def queued(database):
    return await database.fetchval("SELECT count(*) FROM darkroom.job_queue")


async def test_failure_ends_its_job_whatever_the_row_raises(database, run_to):
    user, states, claims = await make_claims(database)
    await raise_states(database, states)

    async with asyncio.timeout(HANGS_AFTER_S):
        await run_to(claims, BadImageError("no such picture"))

    assert await states_of_ends(database) == states
    assert (await queued(database), await balance_of(database, user)) == (0, 100)


async def test_result_that_is_refused_uses_the_attempt_whatever_the_row_raises(database, run_to):
    user, states, claims = await make_claims(database, maxRetries=0)
    await raise_states(database, states, when="NEW.status = 'COMPLETED'")

    async with asyncio.timeout(HANGS_AFTER_S):
        await run_to(claims, Completed("ANALYZING", 1, {}))

    for job, state in states.items():
        row = await job_row(database, job)
        assert (row["status"], f"(SQLSTATE {state})" in row["errorMessage"]) == ("REFUNDED", True)
    assert (await queued(database), await balance_of(database, user)) == (0, 100)


async def test_checkpoint_that_is_refused_uses_the_attempt_whatever_the_row_raises(database, run_to):
    _, states, claims = await make_claims(database)
    await raise_states(database, states, when="""NEW."currentStage" = 'CROPPING'""")

    async with asyncio.timeout(HANGS_AFTER_S):
        await run_to(claims, Checkpoint("ANALYZING", "CROPPING", 60, 1))

    rows = await database.fetch("SELECT status, attempts, stage, lease_token FROM darkroom.job_queue")
    assert len(rows) == len(STATES)
    assert {(row["attempts"], row["stage"], row["lease_token"]) for row in rows} == {(1, "ANALYZING", None)}


async def rescue_all(database):
    """Rescue until no claim is left; a pass does what it has time for."""
    async with asyncio.timeout(HANGS_AFTER_S):
        while await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE status = 'processing'"):
            await rescue_lost_claims(database, None)


@pytest.mark.parametrize("retries", [0, 3])
async def test_rescue_reaches_every_claim_whatever_their_rows_raise(database, retries):
    user, states, claims = await make_claims(database, maxRetries=retries)
    other = await make_job(database)
    await claim_jobs(database, claims[0].worker_id)
    await raise_states(database, states)
    await database.fetch("DELETE FROM darkroom.workers")

    await rescue_all(database)

    assert (await job_row(database, other))["status"] == "PENDING"
    if retries:
        rows = await database.fetch(
            "SELECT job_id, refused_state FROM darkroom.job_queue WHERE refused_since IS NOT NULL"
        )
        assert {row["job_id"]: row["refused_state"] for row in rows} == states
    else:
        assert await states_of_ends(database) == states
        assert (await queued(database), await balance_of(database, user)) == (1, 100)


@pytest.mark.parametrize("sweep", ["overdue", "left behind"])
async def test_sweep_ends_every_job_whatever_their_rows_raise(database, foreign, sweep):
    user, states, _ = await make_claims(database)
    if sweep == "left behind":
        async with foreign.transaction():
            await foreign.execute("SET LOCAL session_replication_role = replica")
            await foreign.execute(
                """UPDATE public.image_enhancement_jobs SET "updatedAt" = '2020-01-01', "createdAt" = '2020-01-01',
                       "processingStartedAt" = '2020-01-01'"""
            )
            await foreign.execute("TRUNCATE darkroom.job_queue")
    await raise_states(database, states)

    if sweep == "overdue":
        assert await end_overdue_jobs(database, -1) == len(STATES)
    else:
        assert await end_unqueued_jobs(database, TERMS) == len(STATES)

    assert await states_of_ends(database) == states
    assert (await queued(database), await balance_of(database, user)) == (0, 100)


async def test_rows_are_taken_in_whatever_they_raise(database, foreign):
    _, states, _ = await make_claims(database)
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        await foreign.execute(
            """UPDATE public.image_enhancement_jobs SET "updatedAt" = darkroom.utc_now() - interval '5 min',
                   "processingStartedAt" = darkroom.utc_now() - interval '5 min'"""
        )
        await foreign.execute("TRUNCATE darkroom.job_queue")
    await raise_states(database, states)

    other = await make_job(database)
    await database.fetch("TRUNCATE darkroom.job_queue")
    assert await adopt_unqueued_jobs(database, TERMS) == (len(STATES) + 1, 0)

    assert (await job_row(database, other))["status"] == "PENDING"  # the others' claims set them aside


async def test_refused_labels_are_all_tried_again_whatever_they_raise(database):
    _, states, _ = await make_claims(database)
    await raise_states(database, states)
    await end_overdue_jobs(database, -1)
    for settled in (0, len(STATES)):
        await database.fetch("UPDATE darkroom.refused_ends SET tried_at = now() - interval '1 hour'")
        assert await settle_refused_ends(database) == settled
        await database.fetch("TRUNCATE public.app_states")

    assert await database.fetchval("SELECT max(tries) FROM darkroom.refused_ends") is None
    rows = await database.fetch("SELECT status FROM public.image_enhancement_jobs")
    assert {row["status"] for row in rows} == {"REFUNDED"}


@pytest.mark.parametrize("end", ["foreign update", "failure"])
async def test_refund_is_owed_whatever_its_balance_raises(database, foreign, run_to, end):
    users = [await make_user(database) for _ in STATES]
    jobs = {await make_job(database, user_id=user): user for user in users}
    claims = await claim_jobs(database, most=len(users))
    await raise_states(database, dict(zip(users, STATES, strict=True)), key="userId", table="user_token_balances")

    if end == "foreign update":
        await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")
    else:
        async with asyncio.timeout(HANGS_AFTER_S):
            await run_to(claims, BadImageError("no"))

    rows = await database.fetch("SELECT job_id, owed FROM darkroom.refunds_owed")
    assert {row["job_id"]: row["owed"] for row in rows} == dict.fromkeys(jobs, 2)
    assert await queued(database) == 0
    rows = await database.fetch("SELECT status FROM public.image_enhancement_jobs")
    assert {row["status"] for row in rows} == {"CANCELLED" if end == "foreign update" else "REFUNDED"}
    assert await money_violations(database) == []


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (Completed("ANALYZING", 1, {}), "image_enhancement_jobs"),
        (Checkpoint("ANALYZING", "CROPPING", 60, 1), "app_seats"),
    ],
    ids=["its own row", "a row that a trigger wants"],
)
async def test_result_that_waits_too_long_for_a_row_that_is_held_fails_no_attempt(
    database, connect, run_to, held, given
):
    claim = await make_claim(database, maxRetries=0)
    await run(
        database,
        """CREATE TABLE public.app_seats (id integer); INSERT INTO public.app_seats VALUES (1);
           CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
           BEGIN PERFORM FROM public.app_seats FOR UPDATE; RETURN NEW; END $body$;
           CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
           FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )
    holder = await connect()
    async with holder.transaction():
        await holder.execute(f"SELECT FROM public.{held} FOR UPDATE")
        await run_to([claim], given)

    row = await queue_row(database, claim.job_id)
    assert (row["attempts"], row["lease_token"], row["refused_state"]) == (0, None, "55P03")
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")
    taken = await refusals.claim_refused(database, claim.worker_id, "default", 1, {"ANALYZING": 60})
    assert [one.job_id for one in taken.claims] == [claim.job_id]


async def test_result_that_waits_for_a_row_that_is_held_leaves_its_lane_and_is_recorded(
    database, connect, given_stages, run_job, monkeypatch, eventually
):
    monkeypatch.setattr(database_retries, "CONTENTION_RETRY_S", 60)
    given_stages.given = Completed("ANALYZING", 1, {})
    held = await make_job(database, maxRetries=0)
    holder, worker = await connect(), await make_worker(database)

    async def run_held(job):
        if job.claim.job_id == held:
            await holder.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", held)
        await run_job(job)

    loop = ClaimLoop(Settings(lanes=1), database, worker, run_held, lanes=Lanes(), session_age=lambda: SessionAge(5))
    holding = holder.transaction()
    await holding.start()  # before a run uses its connection
    looking = asyncio.create_task(loop.run())
    try:
        other = await make_job(database)
        await eventually(partial(is_completed, database, other))
        await database.fetch("UPDATE darkroom.job_queue SET deadline_at = now() - interval '1 s'")
        await eventually(lambda: database.fetchval("SELECT deadline_at > now() FROM darkroom.job_queue"))
        assert not await is_completed(database, held)
        await holding.commit()
        await eventually(partial(is_completed, database, held))
    finally:
        await loop.stop(0)
        await looking


@pytest.fixture
def short_limits(monkeypatch):
    for module in (refusals, unqueued, transitions):
        monkeypatch.setattr(module, "HOUSEKEEPING_STATEMENT_S", 1.0)
    monkeypatch.setattr(rescue, "ADOPTION_S", 1.5)
    monkeypatch.setattr(claims_module, "CLAIM_S", 1.5)
    monkeypatch.setattr(claims_module, "CLAIM_ONE_S", 1.0)


async def let_sleep(database, job, table="image_enhancement_jobs", key="id"):
    """Let a trigger sleep in each UPDATE of one row."""
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN PERFORM pg_sleep(50); RETURN NEW; END $body$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.{table}
            FOR EACH ROW WHEN (NEW."{key}" = '{job}') EXECUTE FUNCTION public.app_rule()""",
    )


@pytest.mark.parametrize("sweep", ["claim", "rescue", "overdue", "left behind", "take in", "settle"])
async def test_trigger_that_sleeps_keeps_no_other_job_from_what_a_sweep_does(database, foreign, short_limits, sweep):
    sleeping = await make_job(database, maxRetries=0)
    other = await make_job(database, maxRetries=0)
    if sweep != "claim":
        await claim_jobs(database, most=2)
    if sweep in {"left behind", "take in"}:
        async with foreign.transaction():
            await foreign.execute("SET LOCAL session_replication_role = replica")
            created = ", \"createdAt\" = '2020-01-01'" if sweep == "left behind" else ""
            await foreign.execute(
                f"""UPDATE public.image_enhancement_jobs SET "updatedAt" = darkroom.utc_now() - interval '5 min',
                        "processingStartedAt" = darkroom.utc_now() - interval '5 min' {created}"""
            )
            await foreign.execute("TRUNCATE darkroom.job_queue")
    await let_sleep(database, sleeping)

    with within(20):
        if sweep == "claim":
            worker = await make_worker(database)
            taken = await refusals.claim_jobs(database, worker, "default", 8, {"ANALYZING": 60})
            assert [one.job_id for one in taken.claims] == [other]
            return
        if sweep == "take in":
            assert await adopt_unqueued_jobs(database, TERMS) == (2, 0)
            return
        if sweep == "rescue":
            await database.fetch("DELETE FROM darkroom.workers")
            await rescue_all(database)
        elif sweep == "left behind":
            assert await end_unqueued_jobs(database, TERMS) == 2
        else:
            assert await end_overdue_jobs(database, -1) == 2
        if sweep == "settle":
            await database.fetch("UPDATE darkroom.refused_ends SET tried_at = now() - interval '1 hour'")
            assert await settle_refused_ends(database) == 0

    assert (await job_row(database, other))["status"] == "REFUNDED"
    assert await states_of_ends(database) == {sleeping: "57014"}
    assert await queued(database) == 0


@pytest.mark.parametrize("table", ["image_enhancement_jobs", "user_token_balances"])
@pytest.mark.parametrize("limit_ms", [0, 200])
async def test_end_that_a_trigger_is_too_slow_for_is_quick(
    database, run_to, short_limits, monkeypatch, table, limit_ms
):
    claim = await make_claim(database)
    key, value = ("id", claim.job_id) if table == "image_enhancement_jobs" else ("userId", claim.user_id)
    await let_sleep(database, value, table, key)
    async with database.connection() as connection:
        await connection.execute(f"SET statement_timeout = {limit_ms}")
    monkeypatch.setattr(transitions, "RECORD_S", 2.0)

    with within(20):
        await run_to([claim], BadImageError("no"))

    row, end = await job_row(database, claim.job_id), await database.fetchrow("SELECT * FROM darkroom.refused_ends")
    assert "REFUNDED" in {row["status"], end["label"]}
    assert "57014" in end["words"]
    assert await queued(database) == 0
    assert await database.fetchval("SELECT owed FROM darkroom.refunds_owed") == 2


async def test_balances_that_are_held_keep_no_other_claim_from_its_rescue(database, connect):
    users = [await make_user(database, balance=4) for _ in range(40)]
    for user in users:
        await make_job(database, user_id=user, maxRetries=0)
    ends = await make_job(database, maxRetries=0)
    goes_on = await make_job(database)
    claims = await claim_jobs(database, most=50)
    assert len(claims) == 42
    await database.fetch("DELETE FROM darkroom.workers")
    holder = await connect()
    async with holder.transaction():
        await holder.execute('SELECT FROM public.user_token_balances WHERE "userId" = ANY ($1) FOR UPDATE', users)
        with within(2):
            await rescue_lost_claims(database, None)
        assert (await job_row(database, goes_on))["status"] == "PENDING"
        async with asyncio.timeout(HANGS_AFTER_S):
            while (await job_row(database, ends))["status"] != "REFUNDED":
                await rescue_lost_claims(database, None)

    assert await database.fetchval("SELECT count(*) FROM darkroom.refused_ends") == 0


async def test_jobs_that_are_held_keep_no_other_claim_from_its_rescue(database, connect):
    user = await make_user(database, balance=1_000)
    first = await make_job(database, user_id=user)
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs
               (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           SELECT 'held' || n, j."imageId", j."userId", 'FREE', 0, 'PENDING', now()
           FROM generate_series(1, 400) n, public.image_enhancement_jobs j"""
    )
    last = await make_job(database)
    assert len(await claim_jobs(database, most=402)) == 402
    await database.fetch("DELETE FROM darkroom.workers")
    holder = await connect()
    async with holder.transaction():
        await holder.execute(
            "SELECT FROM public.image_enhancement_jobs WHERE id NOT IN ($1, $2) FOR UPDATE", first, last
        )
        async with asyncio.timeout(HANGS_AFTER_S):
            while (await job_row(database, last))["status"] != "PENDING":
                await rescue_lost_claims(database, None)
