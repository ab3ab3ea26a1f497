"""Caps on users' running jobs: exact whatever happens at the same time, and no job is left behind."""

import asyncio
import random
from datetime import timedelta

import pytest

from models.queue.claims import _claim, claim_one, wake_due
from models.queue.fair import admit, check_slots, watch_slots
from models.queue.pauses import hold_paused
from models.queue.rescue import adopt_jobs, rescue_lost_claims
from models.queue.transitions import Completed, Failed, Released, Retried, record
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_image, make_job, make_user, make_worker, queue_row, set_status
from workers.process.runtime import Runtime
from workers.process.scheduler_loops import Scheduler
from workers.services.services import Services

RUNNING = """
SELECT q.user_id, count(*) FROM darkroom.job_queue q WHERE q.status = 'processing' GROUP BY 1
"""
MANY = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || 'x' || n, $2, $1, 'FREE', 0, 'PENDING', now() FROM generate_series(1, $3) n
"""
ROWS_READ = """
SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables WHERE relname = 'job_queue'
"""
PAUSE = """INSERT INTO darkroom.settings (key, value) VALUES ('pauses', '{"tier:FREE": {}}')"""
HOUR = timedelta(hours=1)


async def set_caps(database, **caps):
    await database.fetch(
        """INSERT INTO darkroom.settings (key, value) VALUES ('user_caps', $1)
           ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
        caps,
    )
    await settle(database)


async def settle(database):
    await database.commit("check_slots", check_slots)
    while await database.commit("admit", admit):
        pass


async def make_jobs(database, number, *, tier="FREE", user=None):
    user = user or await make_user(database, tier=tier)
    await database.fetch(MANY, user, await make_image(database, user), number)
    return user


async def finish(database, claim, transition=None):
    transition = transition or Completed(claim.stage, 1, {})
    await database.run(lambda connection: record(connection, claim, transition))


async def wake(database):
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
    await database.commit("wake", wake_due)


async def test_users_run_as_many_jobs_as_their_tiers_allow(database):
    await set_caps(database, FREE=1, BASIC=3)
    free, basic = await make_jobs(database, 5), await make_jobs(database, 5, tier="BASIC")
    without = await make_jobs(database, 5, tier="PREMIUM")

    claims = await claim_jobs(database, most=50)

    running = [claim.user_id for claim in claims]
    assert [running.count(user) for user in (free, basic, without)] == [1, 3, 5]
    assert await claim_jobs(database, most=50) == []


@pytest.mark.parametrize(
    "leave",
    [
        finish,
        lambda database, claim: finish(database, claim, Failed(claim.stage, "no")),
        lambda database, claim: finish(database, claim, Retried(claim.stage, "later", HOUR)),
        lambda database, claim: set_status(database, claim.job_id, "CANCELLED"),
        lambda database, claim: database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", claim.job_id),
    ],
    ids=["completed", "failed", "waits for a retry", "cancelled", "deleted"],
)
async def test_job_that_leaves_its_slot_lets_the_next_run(database, leave):
    await set_caps(database, FREE=1)
    await make_jobs(database, 3)
    (claim,) = await claim_jobs(database, most=5)

    await leave(database, claim)

    assert len(await claim_jobs(database, most=5)) == 1


async def test_retry_that_is_due_waits_for_a_slot_and_keeps_its_turn(database):
    await set_caps(database, FREE=1)
    await make_jobs(database, 3)
    (first,) = await claim_jobs(database, most=5)
    await finish(database, first, Retried(first.stage, "later", HOUR))
    (second,) = await claim_jobs(database, most=5)

    await wake(database)

    assert await claim_jobs(database, most=5) == []
    await finish(database, second)
    (third,) = await claim_jobs(database, most=5)
    assert third.job_id == first.job_id


async def test_released_job_keeps_its_slot(database):
    await set_caps(database, FREE=1)
    await make_jobs(database, 3)
    (first,) = await claim_jobs(database, most=5)

    await finish(database, first, Released(first.stage))

    (again,) = await claim_jobs(database, most=5)
    assert again.job_id == first.job_id


async def test_dead_workers_job_counts_until_it_is_rescued_and_after(database):
    await set_caps(database, FREE=1)
    await make_jobs(database, 3)
    worker = await make_worker(database, lease_s=60)
    await claim_jobs(database, worker, most=5)
    await database.fetch("DELETE FROM darkroom.workers WHERE id = $1", worker)

    assert await claim_jobs(database, most=5) == []
    await rescue_lost_claims(database, None)
    assert len(await claim_jobs(database, most=5)) == 1
    assert await claim_jobs(database, most=5) == []


async def test_lowered_cap_holds_waiting_jobs_and_a_raised_one_lets_them_run(database):
    await make_jobs(database, 10)
    await set_caps(database, FREE=3)
    assert len(await claim_jobs(database, most=50)) == 3

    await set_caps(database, FREE=5)
    assert len(await claim_jobs(database, most=50)) == 2

    await set_caps(database)
    assert len(await claim_jobs(database, most=50)) == 5


async def test_jobs_of_a_paused_tier_keep_no_slot(database):
    await set_caps(database, FREE=1)
    user = await make_jobs(database, 3)
    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('pauses', '{"tier:FREE": {}}')""")
    await make_job(database, user_id=user)

    (claim,) = await claim_jobs(database, most=5)
    assert (await queue_row(database, claim.job_id))["tier"] == "TIER_1K"

    await finish(database, claim)
    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
    await wake(database)
    assert len(await claim_jobs(database, most=5)) == 1


async def test_pause_of_a_claimable_job_frees_its_slot(database):
    await set_caps(database, FREE=1)
    user = await make_jobs(database, 2)
    await make_job(database, user_id=user)
    await settle(database)
    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('pauses', '{"tier:FREE": {}}')""")

    await database.commit("hold", lambda connection: hold_paused(connection, "default"))

    (claim,) = await claim_jobs(database, most=5)
    assert (await queue_row(database, claim.job_id))["tier"] == "TIER_1K"


async def test_job_that_another_program_locks_lets_the_next_run(database, foreign):
    await set_caps(database, FREE=1)
    user = await make_jobs(database, 2)
    async with foreign.transaction():
        await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", f"{user}x1")

        assert [one.job_id for one in await claim_jobs(database, most=5)] == [f"{user}x2"]


async def test_adopted_and_serializable_rows_need_a_slot(database, foreign):
    await set_caps(database, FREE=1)
    user = await make_jobs(database, 1)
    await database.fetch("DELETE FROM darkroom.job_queue")
    await adopt_jobs(database)
    image = await make_image(database, user)
    async with foreign.transaction(isolation="serializable"):
        await foreign.execute(MANY, user, image, 0)
        await foreign.execute(MANY.replace("'x'", "'y'"), user, image, 3)

    assert len(await claim_jobs(database, most=5)) == 1
    assert await claim_jobs(database, most=5) == []


async def test_producer_that_has_read_earlier_caps_is_corrected(database, foreign):
    user = await make_user(database)
    image = await make_image(database, user)
    async with foreign.transaction():
        await foreign.execute(MANY, user, image, 5)
        await set_caps(database, FREE=1)

    await watch_slots(database, whole=False)

    assert len(await claim_jobs(database, most=5)) == 1


async def test_scheduler_settles_changed_caps_and_a_slot_that_got_lost(database):
    await make_jobs(database, 5)
    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('user_caps', '{"FREE": 2}')""")
    await watch_slots(database, whole=False)
    claims = await claim_jobs(database, most=5)
    assert len(claims) == 2
    for claim in claims:
        await set_status(database, claim.job_id, "CANCELLED")
    await database.fetch("DELETE FROM darkroom.freed_slots")
    await watch_slots(database, whole=False)
    assert await claim_jobs(database, most=5) == []

    await watch_slots(database, whole=True)

    assert len(await claim_jobs(database, most=5)) == 2


TIER = """UPDATE public.user_token_balances SET tier = $2::text::public."SubscriptionTier" WHERE "userId" = $1"""


@pytest.fixture
def scheduler(database, database_url, tmp_path):
    services = Services(database_url, database_url, "", "", tmp_path.as_uri(), is_embedded=False)
    return Scheduler(Runtime(Settings(), services, database, ""))


async def test_changed_tier_of_a_user_takes_effect_within_five_seconds(database, scheduler, eventually):
    await set_caps(database, FREE=1, BASIC=3)
    user, _ = await make_jobs(database, 5), await make_jobs(database, 5)
    assert len(await claim_jobs(database, most=5)) == 2
    await scheduler.check_slots()
    await database.fetch(TIER, user, "BASIC")
    claimed = []

    async def has_room():
        await scheduler.check_slots()
        claimed.extend(await claim_jobs(database, most=5))
        return claimed

    async with asyncio.timeout(5):
        await eventually(has_room)

    assert [claim.user_id for claim in claimed] == [user] * 2


async def test_lower_tier_of_a_user_holds_jobs_that_could_be_claimed(database, scheduler):
    await set_caps(database, FREE=1, BASIC=3)
    user = await make_jobs(database, 5, tier="BASIC")
    await settle(database)
    await scheduler.check_slots()
    await database.fetch(TIER, user, "FREE")

    await scheduler.check_slots()

    assert len(await claim_jobs(database, most=5)) == 1


async def test_look_at_all_slots_writes_nothing_for_users_at_their_caps(database):
    await set_caps(database, FREE=1)
    await make_jobs(database, 5)
    await settle(database)

    await database.commit("check_slots", check_slots)

    assert await database.fetchval("SELECT count(*) FROM darkroom.freed_slots") == 0


async def test_claims_cost_nothing_more_behind_a_capped_users_backlog(database):
    await set_caps(database, FREE=1)
    await make_jobs(database, 20_000)
    await claim_jobs(database, most=1)
    await settle(database)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE ready") == 0
    worker = await make_worker(database)
    async with database.connection() as connection, connection.transaction():
        before = await connection.fetchval(ROWS_READ)
        await connection.fetch(_claim(64), "default", 64, worker, {})
        assert await connection.fetchval(ROWS_READ) - before < 20


CLAIMERS = 50
IS_OVER = "SELECT NOT EXISTS (SELECT FROM darkroom.job_queue)"


class Fleet:
    """Many claimers of some users' jobs, which end in every way, go back to the queue in every way, and are paused."""

    def __init__(self, database, caps):
        self.database, self.caps = database, caps
        self.dice, self.is_over, self.exceeded = random.Random(7), False, []

    async def watch(self):
        """Compare the jobs that run with the caps, all the time."""
        while not self.is_over:
            rows = await self.database.fetch(RUNNING)
            self.exceeded += [dict(row) for row in rows if row["count"] > self.caps[row["user_id"]]]
            self.is_over = await self.database.fetchval(IS_OVER)
            await asyncio.sleep(0.01)

    async def pause(self):
        """Pause a tier and resume it, again and again."""
        while not self.is_over:
            await self.database.fetch(PAUSE)
            await self.database.commit("hold", lambda connection: hold_paused(connection, "default"))
            await asyncio.sleep(0.02)
            await self.database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
            await asyncio.sleep(0.1)

    async def work(self):
        """Claim jobs and let each have its fate, until none is left."""
        worker = await make_worker(self.database, lease_s=600)
        while not self.is_over:
            claims = await claim_jobs(self.database, worker, most=self.dice.randint(1, 8))
            if claims and self.dice.random() < 0.1:
                await self.database.fetch("DELETE FROM darkroom.workers WHERE id = $1", worker)
                await rescue_lost_claims(self.database, None)
                worker = await make_worker(self.database, lease_s=600)
                continue
            for one in claims:
                await asyncio.sleep(self.dice.random() / 50)
                await self.let(self.dice.random(), one)
            await self.database.commit("wake", wake_due)
            await asyncio.sleep(0)

    async def let(self, fate, claim):
        if fate < 0.2:
            wait = timedelta(milliseconds=self.dice.choice((0, 5)))
            await finish(self.database, claim, Retried(claim.stage, "again", wait))
        elif fate < 0.3:
            await finish(self.database, claim, Released(claim.stage))
        elif fate < 0.4:
            await set_status(self.database, claim.job_id, "CANCELLED")
        elif fate < 0.45:
            await self.database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", claim.job_id)
        else:
            await finish(self.database, claim)


async def test_caps_hold_exactly_under_fifty_claimers(database):
    caps = {"FREE": 1, "BASIC": 3, "STANDARD": 5}
    await set_caps(database, **caps)
    users = {await make_jobs(database, 20, tier=tier): cap for tier, cap in caps.items() for _ in range(3)}
    fleet = Fleet(database, users)

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(fleet.watch())
        group.create_task(fleet.pause())
        for _ in range(CLAIMERS):
            group.create_task(fleet.work())

    assert fleet.exceeded == []


async def test_job_that_the_database_refused_finds_a_slot_beside_its_users_backlog(database):
    await set_caps(database, FREE=1)
    user = await make_jobs(database, 4)
    (claim,) = await claim_jobs(database, most=5)
    (first, *_) = await database.fetch("SELECT id FROM darkroom.job_queue WHERE held_by = 'cap' ORDER BY id")
    await database.fetch(
        """UPDATE darkroom.job_queue SET status = 'retrying', refused_since = now(), scheduled_at = now()
           WHERE id = $1""",
        first["id"],
    )

    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", claim.job_id)
    assert await claim_jobs(database, most=5) == []
    worker = await make_worker(database)
    started = await database.run(lambda connection: claim_one(connection, worker, "default", first["id"], {}))

    assert started is not None
    assert started.user_id == user


async def test_claims_are_returned_even_if_slots_cannot_be_given(database):
    await set_caps(database, FREE=1)
    for _ in range(2):
        await make_jobs(database, 1)
        await settle(database)
    await database.fetch("INSERT INTO darkroom.freed_slots (user_id) VALUES ('somebody')")
    await database.run(
        lambda connection: connection.execute(
            """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
               CREATE TRIGGER refuse BEFORE DELETE ON darkroom.freed_slots
               FOR EACH ROW EXECUTE FUNCTION public.refuse()"""
        )
    )

    claims = await claim_jobs(database, most=5)

    assert len(claims) == 2
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE status = 'processing'") == 2
