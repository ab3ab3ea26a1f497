"""The fair order: whose job is claimed next, beside an oracle, and the bounds of decision records 0195 and 0196."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from models.queue.claims import claim
from models.queue.fair import FIRST_TURN, forget_turns
from models.queue.pauses import let_go_on
from models.queue.transitions import Retried, Snoozed, record
from tests.support.builders import claim_jobs, make_image, make_user, make_worker, new_id, set_stage_queues

TOKEN = 1_000_000
INSERT = """
INSERT INTO public.image_enhancement_jobs
    (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt")
SELECT e.id, e.image, e.owner, e.tier::public."EnhancementTier", e.cost, 'PENDING',
       timestamp '2026-01-01' + e.n * interval '1 ms', darkroom.utc_now()
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[])
    WITH ORDINALITY e (id, image, owner, tier, cost, n)
"""
COST = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
WEIGHT = {"FREE": 1, "BASIC": 2, "STANDARD": 4, "PREMIUM": 8}


@dataclass(frozen=True)
class User:
    """A user and one picture."""

    id: str
    image: str
    tier: str
    has_priority: bool = False

    @property
    def weight(self):
        return WEIGHT[self.tier]


async def subscribe(database, user_id, *, priority=True, status="ACTIVE"):
    price = new_id("price")
    await database.fetch(
        """INSERT INTO public.subscription_plans (id, name, "tokensPerMonth", "priceGBP", "stripePriceId", priority,
               "updatedAt") VALUES ($1, 'plan', 10, 1, $1, $2, now())""",
        price,
        priority,
    )
    await database.fetch(
        """INSERT INTO public.subscriptions (id, "userId", "stripeSubscriptionId", "stripePriceId", status,
               "currentPeriodStart", "currentPeriodEnd", "tokensPerMonth", "updatedAt")
           VALUES ($1, $2, $1, $3, $4::text::public."SubscriptionStatus", now(), now() + interval '1 d', 10, now())""",
        new_id("s"),
        user_id,
        price,
        status,
    )


async def new_user(database, tier="FREE", *, has_priority=False):
    user_id = await make_user(database, balance=10_000_000, tier=tier)
    if has_priority:
        await subscribe(database, user_id)
    return User(user_id, await make_image(database, user_id), tier, has_priority)


async def submit(database, owners, tiers="FREE"):
    """Insert a job for each of some users, in one statement and this order; return the ids."""
    tiers = [tiers] * len(owners) if isinstance(tiers, str) else tiers
    ids = [new_id("j") for _ in owners]
    images, users = [one.image for one in owners], [one.id for one in owners]
    await database.fetch(INSERT, ids, images, users, tiers, [COST[tier] for tier in tiers])
    return ids


class Drain:
    """Claims jobs one after the other and ends them, and keeps whose they were."""

    def __init__(self, database):
        self.database = database
        self.claimed = []
        self._worker = None

    async def take(self, jobs, *, at_once=1, queue="default"):
        self._worker = self._worker or await make_worker(self.database, lease_s=3_600)
        taken = []
        while len(taken) < jobs:
            claims = await claim_jobs(self.database, self._worker, most=min(at_once, jobs - len(taken)), queue=queue)
            if not claims:
                break
            taken += claims
        await self.database.fetch(
            "DELETE FROM public.image_enhancement_jobs WHERE id = ANY ($1::text[])", [one.job_id for one in taken]
        )
        self.claimed += [one.user_id for one in taken]
        return [one.user_id for one in taken]


@pytest.fixture
def drain(database):
    return Drain(database)


@dataclass
class Oracle:
    """Start-time fair queueing as the decision record defines it, for users without priority."""

    now: float = 1_000_000 * TOKEN
    finish: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)
    entered: int = 0

    def enter(self, user, cost):
        units = cost * TOKEN // user.weight
        start = max(self.finish.get(user.id, 0), self.now)
        self.finish[user.id] = start + units
        self.entered += 1
        self.waiting.append((start, self.entered, user.id, units))

    def claim(self, most):
        self.waiting.sort()
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        if taken:
            self.now = max(self.now, *(start + min(units, TOKEN) for start, _, _, units in taken))
        if taken and len(taken) < most:
            self.now = max(self.now, self.head_given() + 60 * TOKEN)
        return [user for _, _, user, _ in taken]

    def head_given(self):
        return self.now - 60 * TOKEN


RESET = """
SELECT setval(c.oid::regclass, s.seqstart, false) FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relnamespace = 'darkroom'::regnamespace AND c.relname ~ '^(virtual_time|head_start)_seq'
"""
SETTLE = "SELECT darkroom.settle_virtual_time()"


@pytest.mark.parametrize("left", ["claimable", "held", "turns"])
@pytest.mark.parametrize("queue", ["default", "cpu"])
async def test_newcomers_take_turns_after_a_restore_without_sequences(database, drain, left, queue):
    if queue != "default":
        await set_stage_queues(database, ANALYZING=queue)
    earlier, newcomer = await new_user(database), await new_user(database)
    ahead = await new_user(database, has_priority=True)
    place = f"SELECT position FROM darkroom.job_queue WHERE queue = '{queue}' ORDER BY position DESC LIMIT 1"
    await submit(database, [earlier] * 200, "TIER_4K")
    await drain.take(150, at_once=10, queue=queue)
    before = await database.fetchval("SELECT darkroom.virtual_time($1)", queue)
    match left:
        case "held":
            await database.fetch("UPDATE darkroom.job_queue SET ready = false, held_by = 'cap'")
        case "turns":
            await database.fetch("DELETE FROM public.image_enhancement_jobs")
    await database.fetch(RESET)

    await database.fetch(SETTLE)

    now = await database.fetchval("SELECT darkroom.virtual_time($1)", queue)
    assert now >= before
    assert await database.fetchval("SELECT darkroom.head_starts_given($1)", queue) == now - 60 * TOKEN
    await submit(database, [newcomer], "TIER_4K")
    assert await database.fetchval(place) >= before
    if left == "claimable":
        await submit(database, [newcomer] * 20 + [ahead], "TIER_4K")
        assert await drain.take(1, queue=queue) == [ahead.id]
        assert Counter(await drain.take(20, queue=queue))[earlier.id] in {9, 10, 11}
    await database.fetch(SETTLE)
    assert await database.fetchval("SELECT darkroom.virtual_time($1)", queue) >= now


@pytest.mark.parametrize("seed", range(4))
async def test_claims_come_in_the_order_of_the_oracle(database, drain, seed):
    dice, oracle = random.Random(seed), Oracle()
    users = [await new_user(database, dice.choice(list(WEIGHT))) for _ in range(6)]

    for _ in range(25):
        if dice.random() < 0.6:
            owners = dice.choices(users, k=dice.randint(1, 8))
            tiers = dice.choices(list(COST), k=len(owners))
            await submit(database, owners, tiers)
            for owner, tier in zip(owners, tiers, strict=True):
                oracle.enter(owner, max(1, COST[tier]))
        else:
            most = dice.randint(1, 2) * 2
            assert await drain.take(most, at_once=most) == oracle.claim(most)

    assert await drain.take(1_000) == [user for _, _, user, _ in sorted(oracle.waiting)]


async def test_user_with_one_job_is_claimed_within_the_bound_behind_anothers_backlog(database, drain):
    heavy, light = await new_user(database), await new_user(database)
    await submit(database, [heavy] * 2_000)
    await drain.take(200, at_once=8)

    await submit(database, [light])

    before = (await drain.take(10)).index(light.id)
    assert before <= 2


async def test_users_with_unequal_backlogs_get_equal_shares(database, drain):
    users = [await new_user(database) for _ in range(50)]
    owners = [one for number, one in enumerate(users) for _ in range(20 + 4 * number)]
    random.Random(1).shuffle(owners)
    await submit(database, owners)
    left = Counter(one.id for one in owners)

    for _ in range(3):
        window = Counter(await drain.take(250, at_once=10))
        left -= window
        shares = [window[one.id] for one in users if left[one.id] > 0]
        jain = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
        assert jain >= 0.98, window


async def test_shares_follow_the_weights(database, drain):
    users = [await new_user(database, tier) for tier in ("FREE", "BASIC", "STANDARD")]
    await submit(database, [one for one in users for _ in range(800)])

    taken = Counter(await drain.take(700, at_once=7))

    for one, share in zip(users, (100, 200, 400), strict=True):
        assert abs(taken[one.id] - share) <= 0.05 * share, taken


async def test_dear_jobs_take_turns_by_their_tokens(database, drain):
    dear, cheap = await new_user(database), await new_user(database)
    await submit(database, [dear] * 50 + [cheap] * 500, ["TIER_4K"] * 50 + ["FREE"] * 500)

    taken = Counter(await drain.take(220, at_once=4))

    assert 19 <= taken[dear.id] <= 21


async def test_user_with_priority_goes_first_by_the_head_start_and_no_further(database, drain):
    free, paying = await new_user(database), await new_user(database, has_priority=True)
    await submit(database, [free] * 200)
    await drain.take(1)

    await submit(database, [paying] * 100)

    first = await drain.take(60)
    assert first == [paying.id] * 60
    assert Counter(await drain.take(40))[free.id] in {19, 20, 21}


async def test_nobody_waits_longer_than_the_head_start_under_a_stream_of_new_users_with_priority(database, drain):
    waiting = [await new_user(database) for _ in range(3)]
    await submit(database, [one for one in waiting for _ in range(4)])
    stream = [await new_user(database, "PREMIUM", has_priority=True) for _ in range(240)]
    for number in range(60):
        await submit(database, stream[4 * number : 4 * number + 4])
        await drain.take(2)

    firsts = [drain.claimed.index(one.id) if one.id in drain.claimed else None for one in waiting]

    assert None not in firsts, "starved"
    assert max(firsts) <= 60 + 3


async def test_work_of_one_user_with_priority_and_weight_goes_ahead_no_further_than_the_head_start(database, drain):
    free, paying = await new_user(database), await new_user(database, "PREMIUM", has_priority=True)
    await submit(database, [free] * 5)
    await submit(database, [paying] * 600)

    taken = await drain.take(100)

    assert taken.index(free.id) <= 60 + 1


@pytest.mark.parametrize(("status", "priority"), [("CANCELED", True), ("ACTIVE", False)])
async def test_ended_subscription_or_plan_without_priority_gives_no_head_start(database, drain, status, priority):
    free, other = await new_user(database), await new_user(database)
    await subscribe(database, other.id, status=status, priority=priority)
    await submit(database, [free] * 10)
    await submit(database, [other] * 10)

    assert set(await drain.take(2)) == {free.id, other.id}


async def test_retried_and_snoozed_jobs_keep_their_tag(database, drain):
    one, other = await new_user(database), await new_user(database)
    first, *_ = await submit(database, [one] * 3)
    await submit(database, [other] * 3)
    for transition in (Retried("ANALYZING", "again", timedelta()), Snoozed("ANALYZING", "busy", timedelta())):
        (claim,) = await claim_jobs(database)
        assert claim.job_id == first
        await database.run(lambda connection, claim=claim, transition=transition: record(connection, claim, transition))

    assert (await claim_jobs(database))[0].job_id == first


async def test_rows_of_serializable_producers_take_their_turn(database, drain, foreign):
    heavy, light = await new_user(database), await new_user(database)
    await submit(database, [heavy] * 50)

    async with foreign.transaction(isolation="serializable"):
        await foreign.execute(INSERT, [new_id("j")], [light.image], [light.id], ["FREE"], [0])

    assert (await drain.take(10)).index(light.id) <= 2


async def test_order_within_one_insert_is_that_of_creation(database):
    user = await new_user(database)
    ids = await submit(database, [user] * 50)

    assert [claim.job_id for claim in await claim_jobs(database, most=50)] == ids


async def test_producer_that_holds_its_users_turn_keeps_nobody_waiting(database, drain, foreign):
    user = await new_user(database)
    await submit(database, [user])
    async with foreign.transaction():
        await foreign.execute(INSERT, [new_id("j")], [user.image], [user.id], ["FREE"], [0])
        await submit(database, [user])
        await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '2 s'")

        assert len(await drain.take(5)) == 2
    assert len(await drain.take(5)) == 1


@pytest.mark.parametrize("jobs", [1, 2], ids=["one job", "a set of jobs"])
async def test_producer_that_makes_its_users_first_turn_keeps_nobody_waiting(database, drain, foreign, jobs):
    user = await new_user(database)
    async with foreign.transaction():
        await foreign.execute(INSERT, [new_id("j")], [user.image], [user.id], ["FREE"], [0])

        await submit(database, [user] * jobs)

        await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '2 s'")
        assert len(await drain.take(5)) == jobs
    assert len(await drain.take(5)) == 1


async def test_jobs_that_pass_their_users_open_transaction_take_turns_with_everybody_else(database, drain, foreign):
    heavy, light = await new_user(database), await new_user(database)
    await submit(database, [heavy])
    async with foreign.transaction():
        await foreign.execute(INSERT, [new_id("j")], [heavy.image], [heavy.id], ["FREE"], [0])
        await submit(database, [heavy] * 20)
        await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '2 s'")
        await drain.take(1)
        await submit(database, [heavy] * 20)
        await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '2 s'")
        await drain.take(3)

        await submit(database, [light])

        assert light.id in await drain.take(4)


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_jobs_that_enter_during_a_pause_take_turns_after_it(database, drain, foreign, level):
    heavy, light = await new_user(database), await new_user(database)
    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('pauses', '{"tier:FREE": {}}')""")
    async with foreign.transaction(isolation=level):
        jobs = [new_id("j") for _ in range(30)]
        await foreign.execute(INSERT, jobs, [heavy.image] * 30, [heavy.id] * 30, ["FREE"] * 30, [0] * 30)
    assert await drain.take(1) == []
    await submit(database, [light])

    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
    await database.run(let_go_on)

    assert light.id in await drain.take(3)


SEQUENCES = """
SELECT v.last_value, v.log_cnt, h.last_value, h.log_cnt, i.last_value
FROM darkroom.virtual_time_seq v, darkroom.head_start_seq h, darkroom.job_queue_id_seq i
"""


async def test_claim_that_finds_nothing_writes_nothing(database):
    worker = await make_worker(database)
    user = await new_user(database)
    await submit(database, [user])
    await claim_jobs(database, worker)
    before = await database.fetch(SEQUENCES)

    async with database.connection() as connection, connection.transaction():
        assert await claim(connection, worker, "default", 8, {}) == []
        assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()") is None

    assert await database.fetch(SEQUENCES) == before


async def test_turns_that_virtual_time_has_passed_are_deleted_and_say_nothing(database, drain, foreign):
    users = [await new_user(database) for _ in range(4)]
    waits, held = await new_user(database), await new_user(database)
    await submit(database, [*users, held])
    await drain.take(10)
    await database.fetch("SELECT setval('darkroom.virtual_time_seq', darkroom.virtual_time() + 100 * 1000000)")
    await submit(database, [waits] * 3)
    await foreign.execute("BEGIN")
    await foreign.execute("SELECT FROM darkroom.turns WHERE user_id = $1 FOR UPDATE", held.id)

    async with asyncio.timeout(5):
        after = await database.run(lambda connection: forget_turns(connection, FIRST_TURN))
        assert await database.run(lambda connection: forget_turns(connection, after)) == FIRST_TURN

    left = {row[0] for row in await database.fetch("SELECT user_id FROM darkroom.turns")}
    assert left == {waits.id, held.id}
    await submit(database, [*users, waits])
    assert (await drain.take(5)).count(waits.id) == 1


@pytest.mark.proof
async def test_user_with_one_job_is_claimed_within_the_bound_behind_a_hundred_thousand(database, drain):
    heavy, light = await new_user(database), await new_user(database)
    for _ in range(10):
        await submit(database, [heavy] * 10_000)
    await drain.take(1_000, at_once=100)

    await submit(database, [light])

    assert (await drain.take(10)).index(light.id) <= 2
