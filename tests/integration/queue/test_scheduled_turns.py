"""Jobs for later and the fair order: a job takes its turn and its slot when its time comes, and neither before."""

from datetime import UTC, datetime, timedelta

import pytest

from models.queue.claims import wake_due
from models.queue.due_times import lock_place, make_due_later, make_due_now
from models.queue.pauses import let_go_on
from tests.integration.queue.test_caps import set_caps
from tests.integration.queue.test_fair_order import TOKEN, Drain, new_user, submit
from tests.support.builders import claim_jobs, queue_row

LATER = "SELECT darkroom.submit_enhancement($1, $2, $3, run_at => now() + interval '1 hour')"
LEVELS = pytest.mark.parametrize("level", ["read_committed", "repeatable_read", "serializable"])
FINISH = "SELECT finish FROM darkroom.turns WHERE user_id = $1"
NOW = "SELECT darkroom.virtual_time()"


@pytest.fixture
def drain(database):
    return Drain(database)


@pytest.fixture
async def user(database):
    return await new_user(database)


async def submit_later(foreign, user, tier="FREE", *, level="read_committed"):
    """Submit a job for in an hour; return its id."""
    async with foreign.transaction(isolation=level):
        return await foreign.fetchval(LATER, user.id, user.image, tier)


async def come_due(database):
    """Let the time of every job come."""
    await database.fetch(
        """UPDATE darkroom.job_queue SET scheduled_at = now(), run_at = now() - interval '1 ms'
           WHERE status = 'retrying'"""
    )
    await database.commit("wake", wake_due)


async def put(database, job, change, *arguments):
    """Change when a job is due, as an operator does."""

    async def work(connection):
        async with connection.transaction():
            place = await lock_place(connection, "enhance", job, max_wait_s=86_400, stops=[])
            return await change(connection, place, *arguments)

    await database.run(work)


@LEVELS
async def test_job_for_later_takes_its_turn_when_its_time_comes(database, foreign, drain, user, level):
    job = await submit_later(foreign, user, "TIER_1K", level=level)
    other = await new_user(database)
    await submit(database, [other] * 30)
    await drain.take(20)
    assert await database.fetchval(FINISH, user.id) is None

    await come_due(database)
    before = await database.fetchval(NOW)
    assert set(await drain.take(2)) == {user.id, other.id}

    finish = await database.fetchval(FINISH, user.id)
    assert 2 * TOKEN <= finish - before <= 3 * TOKEN  # the first claim may have taken the other user's job before
    assert await queue_row(database, job) is None


@LEVELS
async def test_job_for_later_does_not_put_off_its_users_other_jobs(database, foreign, drain, user, level):
    for _ in range(20):
        await submit_later(foreign, user, "TIER_1K", level=level)
    other = await new_user(database)
    await submit(database, [other] * 5)

    await submit(database, [user])

    assert user.id in await drain.take(2)


@LEVELS
async def test_many_jobs_for_one_time_take_turns_with_everybody_else(database, foreign, drain, user, level):
    for _ in range(10):
        await submit_later(foreign, user, level=level)
    other = await new_user(database)
    await submit(database, [other] * 10)

    await come_due(database)

    assert 4 <= (await drain.take(10)).count(user.id) <= 6


@LEVELS
async def test_job_for_later_takes_no_slot_before_its_time(database, foreign, user, level):
    await set_caps(database, FREE=1)
    later = await submit_later(foreign, user, level=level)

    (now,) = await submit(database, [user])
    assert [one.job_id for one in await claim_jobs(database, most=5)] == [now]

    await come_due(database)
    assert await claim_jobs(database, most=5) == []
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", now)
    assert [one.job_id for one in await claim_jobs(database, most=5)] == [later]


async def test_job_for_later_that_an_operator_makes_due_takes_its_turn_then(database, foreign, drain, user):
    job = await submit_later(foreign, user)
    other = await new_user(database)
    await submit(database, [other] * 20)
    await drain.take(10)

    await put(database, job, make_due_now)

    assert user.id in await drain.take(2)


async def test_job_for_later_that_an_operator_puts_off_waits_without_a_turn(database, foreign, user):
    job = await submit_later(foreign, user)
    await come_due(database)

    await put(database, job, make_due_later, datetime.now(UTC) + timedelta(hours=2))
    assert await claim_jobs(database) == []
    assert await database.fetchval(FINISH, user.id) is None

    await come_due(database)
    assert [one.job_id for one in await claim_jobs(database)] == [job]


@pytest.mark.parametrize("is_due", [False, True], ids=["before its time", "at its time"])
async def test_cancelled_job_for_later_leaves_no_turn_and_no_slot(database, foreign, user, is_due):
    await set_caps(database, FREE=1)
    job = await submit_later(foreign, user)
    if is_due:
        await come_due(database)

    assert await foreign.fetchval("SELECT darkroom.cancel_job($1)", job) == "CANCELLED"

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await database.fetchval(FINISH, user.id) is None
    (other,) = await submit(database, [user])
    assert [one.job_id for one in await claim_jobs(database, most=5)] == [other]


@pytest.mark.parametrize("caps", [{}, {"FREE": 1}], ids=["no caps", "caps"])
@LEVELS
async def test_job_for_later_whose_tier_is_paused_goes_on_after_the_pause_in_its_turn(
    database, foreign, user, level, caps
):
    await set_caps(database, **caps)
    jobs = [await submit_later(foreign, user, level=level) for _ in range(3)]
    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('pauses', '{"tier:FREE": {}}')""")

    await come_due(database)
    assert await claim_jobs(database, most=5) == []
    if not caps:
        assert {(await queue_row(database, job))["paused_by"] for job in jobs} == {"tier:FREE"}

    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
    await database.run(let_go_on)
    assert [one.job_id for one in await claim_jobs(database, most=5)] == jobs[: caps.get("FREE", 3)]
