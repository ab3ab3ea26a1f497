"""A producer says when a job may begin: no worker has it before, and its maximum wait is counted from there."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.queue.claims import wake_due
from models.queue.counts import job_groups
from models.queue.pauses import hold_paused
from models.queue.rescue import end_overdue_jobs, overdue_jobs
from models.queue.stats import by_status
from models.queue.submission import Enhancement, Generation, submit_enhancement, submit_generation
from tests.support.builders import balance_of, claim_jobs, job_row, make_image, make_user, queue_row

ENHANCE = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', run_at => $3)"
GENERATE = "SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_1K', 'a cat in ' || $2, run_at => $3)"
SUBMIT = pytest.mark.parametrize("submit", [ENHANCE, GENERATE], ids=["enhancement", "generation"])
KEYED = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'key', run_at => $3)"
INSERT = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, $2, $3, 'TIER_1K', 2, 'PENDING', darkroom.utc_now() FROM generate_series(1, 3) n
"""
LET_BEGIN = "SELECT set_config('darkroom.run_at', $1, true)"


def in_time(**span):
    return datetime.now(UTC) + timedelta(**span)


@pytest.fixture
async def user(database):
    return await make_user(database)


@pytest.fixture
async def image(database, user):
    return await make_image(database, user)


async def claimable(database):
    await database.run(wake_due)
    return [claim.job_id for claim in await claim_jobs(database, most=10)]


async def counts(database):
    statuses = by_status(await database.run(job_groups), datetime.now(UTC))
    return {one.status: (one.count, one.oldest_wait_s) for one in statuses}


@SUBMIT
async def test_job_waits_for_its_time_charged_and_is_claimed_then(database, foreign, user, image, eventually, submit):
    run_at = in_time(seconds=4)

    job = await foreign.fetchval(submit, user, image, run_at)

    row = await queue_row(database, job)
    assert (row["status"], row["ready"], row["scheduled_at"], row["run_at"]) == ("retrying", False, run_at, run_at)
    assert (await job_row(database, job))["status"] == "PENDING"
    assert await balance_of(database, user) == 98
    assert await counts(database) == {"scheduled": (1, 0.0)}
    assert await claimable(database) == []
    claimed = []

    async def is_claimed():
        claimed.extend(await claimable(database))
        return claimed

    await eventually(is_claimed)
    assert claimed == [job]
    assert datetime.now(UTC) >= run_at
    row = await queue_row(database, job)
    assert (row["attempts"], row["run_at"]) == (1, run_at)


@SUBMIT
@pytest.mark.parametrize("run_at", [None, datetime(2020, 1, 1, tzinfo=UTC)], ids=["none", "past"])
async def test_job_without_a_time_or_with_a_past_one_begins_at_once(database, foreign, user, image, submit, run_at):
    job = await foreign.fetchval(submit, user, image, run_at)

    assert (await queue_row(database, job))["run_at"] is None
    assert await claimable(database) == [job]


@SUBMIT
@pytest.mark.parametrize("run_at", ["infinity", "-infinity", "3000-01-01T00:00:00Z"])
async def test_time_at_which_no_job_can_begin_is_refused_and_nothing_charged(
    database, foreign, user, image, submit, run_at
):
    with pytest.raises(asyncpg.InvalidParameterValueError, match="before the year 3000"):
        await foreign.fetchval(submit.replace("$3", "$3::text::timestamptz"), user, image, run_at)

    assert await balance_of(database, user) == 100
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_time_is_the_same_moment_whatever_the_session_writes_times_like(database, foreign, user, image):
    await foreign.execute("SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'")
    run_at = datetime(2031, 3, 4, 5, 6, 7, 89, tzinfo=UTC)

    job = await foreign.fetchval(ENHANCE, user, image, run_at)

    assert (await queue_row(database, job))["run_at"] == run_at


async def test_key_returns_the_job_for_the_same_time_and_refuses_another(database, foreign, user, image):
    run_at = in_time(hours=1)
    job = await foreign.fetchval(KEYED, user, image, run_at)

    assert await foreign.fetchval(KEYED, user, image, run_at) == job
    for other in (None, in_time(hours=2)):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="with another run_at"):
            await foreign.fetchval(KEYED, user, image, other)

    assert await balance_of(database, user) == 98


async def test_each_function_for_producers_has_one_signature(database):
    rows = await database.fetch("""
        SELECT p.proname, count(*) AS signatures, max(p.proargnames[cardinality(p.proargnames)]) AS last_argument
        FROM pg_proc p WHERE p.pronamespace = 'darkroom'::regnamespace AND p.proname ~ '^submit_(enh|gen)' GROUP BY 1
    """)
    assert {tuple(row) for row in rows} == {("submit_enhancement", 1, "run_at"), ("submit_generation", 1, "run_at")}


async def test_inserted_rows_take_the_time_of_their_transaction_and_of_no_later_one(database, foreign, user, image):
    async with foreign.transaction():
        await foreign.execute(LET_BEGIN, in_time(hours=1).isoformat())
        await foreign.execute(INSERT, "late-", image, user)
    await foreign.execute(INSERT, "now-", image, user)

    assert {status: count for status, (count, _) in (await counts(database)).items()} == {"pending": 3, "scheduled": 3}
    assert sorted(await claimable(database)) == ["now-1", "now-2", "now-3"]


async def test_submission_without_a_time_after_one_with_a_time_begins_at_once(database, foreign, user, image):
    async with foreign.transaction():
        await foreign.fetchval(ENHANCE, user, image, in_time(hours=1))
        job = await foreign.fetchval(GENERATE, user, image, None)
        with pytest.raises(asyncpg.NoDataFoundError):
            async with foreign.transaction():
                await foreign.fetchval(ENHANCE, user, "no such picture", in_time(hours=1))
        await foreign.execute(INSERT, "now-", image, user)

    assert sorted(await claimable(database)) == [job, "now-1", "now-2", "now-3"]


@pytest.mark.parametrize(("value", "error"), [("soon", "22007"), ("infinity", "22023")])
async def test_setting_that_is_no_time_refuses_the_insert(database, foreign, user, image, value, error):
    await foreign.execute("SELECT set_config('darkroom.run_at', $1, false)", value)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await foreign.execute(INSERT, "job-", image, user)

    assert caught.value.sqlstate == error
    assert await balance_of(database, user) == 100


async def test_maximum_wait_is_counted_from_the_time(database, foreign, user, image):
    jobs = [await foreign.fetchval(ENHANCE, user, image, in_time(hours=1)) for _ in range(3)]
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '3 days'")
    for job, hours in zip(jobs[1:], (23, 25), strict=True):
        await database.fetch(
            "UPDATE darkroom.job_queue SET run_at = now() - make_interval(hours => $2) WHERE job_id = $1", job, hours
        )

    assert await overdue_jobs(database, 86_400) == [jobs[2]]
    assert await end_overdue_jobs(database, 86_400) == 1

    assert [(await job_row(database, job))["status"] for job in jobs] == ["PENDING", "PENDING", "REFUNDED"]
    assert await balance_of(database, user) == 96


async def test_thousand_jobs_for_later_do_not_hide_an_overdue_one_behind_them(database, foreign, image, user):
    async with foreign.transaction():
        await foreign.execute(LET_BEGIN, in_time(hours=1).isoformat())
        await foreign.execute(INSERT.replace("'TIER_1K', 2", "'FREE', 0").replace("3) n", "1000) n"), "j", image, user)
    late = await foreign.fetchval(ENHANCE, user, image, None)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '3 days'")

    assert await overdue_jobs(database, 86_400) == [late]


async def test_cancelled_before_its_time_is_refunded_and_gone(database, foreign, user, image):
    job = await foreign.fetchval(ENHANCE, user, image, in_time(hours=1))

    assert await foreign.fetchval("SELECT darkroom.cancel_job($1)", job) == "CANCELLED"

    assert await queue_row(database, job) is None
    assert await balance_of(database, user) == 100


async def test_pause_holds_a_job_whose_time_comes_meanwhile(database, foreign, user, image):
    await database.fetch("""INSERT INTO darkroom.settings (key, value)
                            VALUES ('pauses', jsonb_build_object('tier:TIER_1K', jsonb_build_object('at', now())))""")
    job = await foreign.fetchval(ENHANCE, user, image, in_time(hours=1))
    row = await queue_row(database, job)
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")

    assert (row["paused_by"], await claimable(database)) == (None, [])
    await database.run(lambda connection: hold_paused(connection, "default"))
    assert (await queue_row(database, job))["paused_by"] == "tier:TIER_1K"

    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
    assert await claimable(database) == [job]


@pytest.mark.parametrize("kind", ["enhancement", "generation"])
async def test_submission_with_a_key_and_a_duration_is_repeated_and_its_job_keeps_its_time(database, user, image, kind):
    async def submit(run_at):
        async def call(connection):
            if kind == "enhancement":
                job = Enhancement(user, image, "TIER_1K", idempotency_key="key", run_at=run_at)
                return await submit_enhancement(connection, job)
            job = Generation(user, "GENERATE", "TIER_1K", "a cat", idempotency_key="key", run_at=run_at)
            return await submit_generation(connection, job)

        return await database.commit("submit", call)

    job = await submit(timedelta(hours=1))
    run_at = (await queue_row(database, job))["run_at"]

    assert abs(run_at - in_time(hours=1)) < timedelta(minutes=1)
    assert await submit(timedelta(hours=1)) == job
    assert (await queue_row(database, job))["run_at"] == run_at
    for other in (timedelta(hours=2), run_at, None):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="with another run_at"):
            await submit(other)
    assert await balance_of(database, user) == 98


async def test_duration_of_one_submission_says_nothing_of_others_in_its_transaction(database, foreign, user, image):
    fixed = datetime(2040, 1, 5, tzinfo=UTC)

    async def both(connection):
        async with connection.transaction():
            await submit_enhancement(connection, Enhancement(user, image, "TIER_1K", run_at=timedelta(hours=1)))
            return await connection.fetchval(KEYED, user, image, fixed)

    job = await database.commit("submit", both)

    assert await foreign.fetchval(KEYED, user, image, fixed) == job
    with pytest.raises(asyncpg.InvalidParameterValueError, match="with another run_at"):
        await foreign.fetchval(KEYED, user, image, fixed + timedelta(days=1))


KEYED = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'fixed', run_at => $3)"

FOLLOW_UP = """
CREATE FUNCTION public.follow_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
    VALUES ('after ' || NEW.id, NEW."userId", 'GENERATE', 'FREE', 0, 'PENDING', 'a cat', now());
    RETURN NULL; END $$;
CREATE TRIGGER follow_up AFTER INSERT ON public.image_enhancement_jobs FOR EACH ROW EXECUTE FUNCTION public.follow_up()
"""


async def test_job_that_a_trigger_of_the_application_inserts_meanwhile_does_not_wait_for_the_time(
    database, foreign, user, image
):
    await foreign.execute(FOLLOW_UP)

    job = await foreign.fetchval(ENHANCE, user, image, in_time(hours=1))

    assert await claimable(database) == [f"after {job}"]


async def test_time_of_a_submission_leaves_that_of_its_transaction_for_later_rows(database, foreign, user, image):
    run_at = in_time(hours=1)
    async with foreign.transaction():
        await foreign.execute(LET_BEGIN, run_at.isoformat())
        await foreign.fetchval(ENHANCE, user, image, in_time(hours=2))
        await foreign.execute(INSERT, "late-", image, user)

    assert [(await queue_row(database, f"late-{number}"))["run_at"] for number in (1, 2, 3)] == [run_at] * 3
    assert await claimable(database) == []
