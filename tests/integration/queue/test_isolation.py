"""Producers at each isolation level: if they share no rows, Darkroom makes none fail, and wake-ups stay rare."""

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import count
from uuid import UUID

import asyncpg
import pytest

from models.queue.looks import ask_for_wake_up
from models.queue.transitions import Completed, record
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_image, make_user, make_worker, money_violations, new_id
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running.claim_loop import ClaimLoop
from workers.running.job import RunningJob

LEVELS = ("read_committed", "repeatable_read", "serializable")
PRODUCERS = 8
STATEMENTS = 24

INSERT = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, $2, $3, 'TIER_1K', 2, 'PENDING', darkroom.utc_now() FROM generate_series(1, 2) n
"""

WAYS = (
    INSERT,
    "SELECT darkroom.submit_enhancement($3, $2, 'TIER_1K', source_image_id => NULL) WHERE $1 <> ''",
    "SELECT darkroom.submit_enhancement($3, $2, 'TIER_2K', idempotency_key => $1)",
    "SELECT darkroom.submit_generation($3, 'GENERATE', 'TIER_1K', $1 || $2)",
    "SELECT darkroom.submit_generation($3, 'GENERATE', 'TIER_1K', $1 || $2, run_at => now() + interval '1 hour')",
)


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@asynccontextmanager
async def connected(url):
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def draining(database):
    """Claim as workers do, and ask for a wake-up whenever nothing is there."""
    worker = await make_worker(database, lease_s=600)

    async def drain():
        while True:
            if not await claim_jobs(database, worker, most=8):
                await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
            await asyncio.sleep(0.005)

    task = asyncio.create_task(drain())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def refusals_of(url, level, user, image):
    """Submit in every way, each time in a transaction that has read before and lasts; return what was refused."""
    refused = []
    async with connected(url) as connection:
        for number in range(STATEMENTS):
            try:
                async with connection.transaction(isolation=level):
                    await connection.fetchval("SELECT email FROM public.users WHERE id = $1", user)
                    await connection.execute(WAYS[number % len(WAYS)], new_id("j"), image, user)
                    await asyncio.sleep(0.001)
            except asyncpg.SerializationError as error:
                refused.append(f"{error} {error.context}")
    return refused


async def test_unrelated_producers_at_each_isolation_level_are_never_refused(database, database_url, level):
    users = [await make_user(database, balance=1_000) for _ in range(PRODUCERS)]
    images = [await make_image(database, user) for user in users]
    await database.fetch("ANALYZE")  # small tables are what page locks are coarse on

    async with draining(database):
        refused = await asyncio.gather(
            *(refusals_of(database_url, level, user, image) for user, image in zip(users, images, strict=True))
        )

    assert [one for all_of_one in refused for one in all_of_one] == []
    assert await money_violations(database) == []


async def test_producer_with_an_old_snapshot_enters_beside_one_that_woke_a_worker(database, database_url, level):
    user, other = await make_user(database), await make_user(database)
    image, others_image = await make_image(database, user), await make_image(database, other)
    await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))

    async with connected(database_url) as mine, mine.transaction(isolation=level):
        await mine.fetch("SELECT count(*) FROM public.users")
        await database.fetch(INSERT, "other", others_image, other)
        await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
        await mine.execute(INSERT, "mine", image, user)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 4


@pytest.mark.parametrize(("balance", "available"), [(3, 3), (None, 0)])
async def test_too_few_tokens_are_refused_at_each_isolation_level(database, database_url, level, balance, available):
    user = await make_user(database, balance=balance)
    image = await make_image(database, user)

    async with connected(database_url) as mine:
        with pytest.raises(asyncpg.RaiseError, match=f"needed 4, available {available}"):
            async with mine.transaction(isolation=level):
                await mine.execute(INSERT, "mine", image, user)

    assert await database.fetchval('SELECT sum(balance) FROM public.user_token_balances WHERE "userId" = $1', user) in {
        balance,
        None,
    }
    assert await money_violations(database) == []


async def test_ledger_follows_the_balance_at_each_isolation_level(database, database_url, level):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)

    async with connected(database_url) as mine, mine.transaction(isolation=level):
        await mine.execute(INSERT, "mine", image, user)

    rows = await database.fetch(
        'SELECT "sourceId", amount, "balanceAfter" FROM public.token_transactions ORDER BY "balanceAfter" DESC'
    )
    assert [tuple(row) for row in rows] == [("mine1", -2, 8), ("mine2", -2, 6)]


async def test_a_database_that_is_serializable_by_default_leaves_workers_at_read_committed(database, database_url):
    name = await database.fetchval("SELECT current_database()")
    await database.fetch(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")

    direct = await database.connect_direct()
    try:
        assert await direct.fetchval("SHOW transaction_isolation") == "read committed"
    finally:
        await direct.close()


async def heard(connection):
    messages = []
    await connection.add_listener("darkroom_bells", lambda *message: messages.append(message[3]))
    return messages


async def test_wake_up_of_a_producer_that_rolls_back_is_asked_for_again(database, database_url):
    user = await make_user(database)
    image = await make_image(database, user)
    async with connected(database_url) as listener, connected(database_url) as aborted:
        messages = await heard(listener)
        assert await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
        transaction = aborted.transaction()
        await transaction.start()
        await aborted.execute(INSERT, "aborted", image, user)
        await transaction.rollback()

        assert await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
        await database.fetch(INSERT, "other", image, user)
        await listener.fetchval("SELECT 1")

    assert messages == ["default"]


async def test_producer_that_dawdles_keeps_no_other_from_waking_a_worker(database, database_url):
    user, other = await make_user(database), await make_user(database)
    image, others_image = await make_image(database, user), await make_image(database, other)
    async with connected(database_url) as listener, connected(database_url) as slow:
        messages = await heard(listener)
        await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
        async with slow.transaction():
            await slow.execute(INSERT, "slow", image, user)

            assert await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
            await database.fetch(INSERT, "other", others_image, other)
            await listener.fetchval("SELECT 1")

            assert messages == ["default"]


async def test_sequences_that_were_set_back_wake_workers_again(database, database_url):
    user = await make_user(database)
    image = await make_image(database, user)
    await database.fetch("SELECT setval('darkroom.wake_ups_sent_seq', 5000)")
    async with connected(database_url) as listener:
        messages = await heard(listener)

        assert await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))
        await database.fetch(INSERT, "j", image, user)
        await listener.fetchval("SELECT 1")

    assert messages == ["default"]


class AtOnce:
    """A worker whose jobs are done as soon as they are claimed."""

    def __init__(self, database, worker_id: UUID) -> None:
        self._database = database
        self.loop = ClaimLoop(
            Settings(lanes=8, queues=["default"]),
            database,
            worker_id,
            self._run,
            lanes=Lanes(),
            session_age=lambda: SessionAge(15),
        )

    async def _run(self, job: RunningJob) -> None:
        await self._database.commit(
            "complete", lambda connection: record(connection, job.claim, Completed("GENERATING", 1, {}))
        )


async def test_wake_ups_stay_rare_while_jobs_enter_densely(database, database_url):
    user = await make_user(database, balance=1_000_000)
    image = await make_image(database, user)
    worker = await make_worker(database, lease_s=600)
    at_once = AtOnce(database, worker)
    running = asyncio.create_task(at_once.loop.run())
    numbers = count()
    async with connected(database_url) as listener, connected(database_url) as producer:
        messages = await heard(listener)

        async def wake_for_each():  # as the scheduler does
            woken_for = 0
            while True:
                if len(messages) > woken_for:
                    woken_for = len(messages)
                    at_once.loop.wake()
                await asyncio.sleep(0.001)

        waking = asyncio.create_task(wake_for_each())
        began_s, number = time.monotonic(), 0
        while time.monotonic() - began_s < 2 or number < 50:
            number = next(numbers)
            await producer.execute(INSERT, f"j{number}x", image, user)
            await asyncio.sleep(0.002)
        took_s = time.monotonic() - began_s
        waking.cancel()
        await asyncio.gather(waking, return_exceptions=True)

    await at_once.loop.stop(0)
    await running
    assert len(messages) <= 10 * took_s
