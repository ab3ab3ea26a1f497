"""Workers beside programs that cancel, delete and hold locks: no deadlock, every job ends, the money is exact."""

import asyncio
import random
from datetime import timedelta
from itertools import pairwise

import pytest

from models.applications.pictures.job_tables import ENHANCEMENTS, GENERATIONS
from models.applications.registry import table_of
from models.queue.claims import ClaimLostError, wake_due
from models.queue.rescue import adopt_jobs, end_overdue_jobs, rescue_lost_claims
from models.queue.transitions import Checkpoint, Completed, Failed, Released, Retried, Snoozed, record
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    ledger_of,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    make_worker,
    waiting_for_locks,
)

UNFINISHED = "SELECT count(*) FROM darkroom.jobs WHERE status IN ('PENDING', 'PROCESSING')"
SHORT = timedelta(milliseconds=5)


async def run_claim(database, claim, dice, pipeline):
    """Live one claim's life as a worker would: stages, and one of the ways to end."""
    stages = ["ANALYZING", "CROPPING", "PROMPTING", "GENERATING"]
    write = lambda transition: database.run(lambda connection: record(connection, claim, transition))  # noqa: E731
    try:
        if table_of(claim.job_type) is ENHANCEMENTS:
            for stage, following in pairwise(stages[stages.index(claim.stage) :]):
                await asyncio.sleep(dice.uniform(0, 0.01))
                await write(Checkpoint(stage, following, 60, 1, {"analysisResult": {"n": 1}}))
        await asyncio.sleep(dice.uniform(0, 0.02))
        last = "GENERATING"
        completed = Completed(last, 1, {}, None, pipeline)
        let_go = (Failed(last, "no"), Retried(last, "again", SHORT), Snoozed(last, "busy", SHORT), Released(last))
        await write(dice.choices((completed, *let_go), (12, 1, 1, 1, 1))[0])
    except ClaimLostError:
        return


async def work(database, seed, pipeline):
    """Claim and run until no job is left."""
    dice = random.Random(seed)
    worker = await make_worker(database)
    while await database.fetchval(UNFINISHED):
        claims = await claim_jobs(database, worker, most=4)
        await asyncio.gather(*(run_claim(database, claim, dice, pipeline) for claim in claims))
        if not claims:
            await database.run(wake_due)
            await asyncio.sleep(0.02)


async def keep_house(database):
    """Do what schedulers do, all the time."""
    while await database.fetchval(UNFINISHED):
        now = await database.fetchval("SELECT clock_timestamp()")
        await rescue_lost_claims(database, now + timedelta(seconds=3))
        await end_overdue_jobs(database, 3_600)
        await adopt_jobs(database)
        await asyncio.sleep(0.02)


async def deadlocks(database):
    return await database.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


def by_table(jobs):
    """Return jobs table by table: a program that ends several users' jobs in several statements of one transaction
    chooses the order of their balances itself, and meets its like there whatever we do."""
    return (
        (ENHANCEMENTS.name, [job for job in jobs if job.startswith("j")]),
        (GENERATIONS.name, [job for job in jobs if job.startswith("g")]),
    )


async def cancel_one_by_one(connection, jobs, dice):
    for table, some in by_table(jobs):
        for job in some:
            await asyncio.sleep(dice.uniform(0, 0.1))
            async with connection.transaction():
                await connection.execute(f"UPDATE {table} SET status = 'CANCELLED' WHERE id = $1", job)
                await asyncio.sleep(dice.uniform(0.05, 0.3))


async def cancel_in_one_statement(connection, jobs, dice):
    for table, some in by_table(jobs):
        await asyncio.sleep(dice.uniform(0, 0.2))
        async with connection.transaction():
            await connection.execute(f"UPDATE {table} SET status = 'CANCELLED' WHERE id = ANY ($1)", some)
            await asyncio.sleep(dice.uniform(0.05, 0.3))


async def edit_and_then_cancel(connection, jobs, dice):
    for table, some in by_table(jobs):
        await asyncio.sleep(dice.uniform(0, 0.2))
        async with connection.transaction():
            await connection.execute(f"""UPDATE {table} SET "geminiModel" = 'mine' WHERE id = ANY ($1)""", some)
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            await connection.execute(f"UPDATE {table} SET status = 'CANCELLED' WHERE id = ANY ($1)", some[::-1])


async def make_jobs(database, count):
    users = [await make_user(database, balance=10_000) for _ in range(40)]
    images = [await make_image(database, user) for user in users]
    jobs = []
    for number in range(count):
        user, image = users[number % 40], images[number % 40]
        if number % 3:
            jobs.append(await make_job(database, user_id=user, image_id=image, tier="TIER_2K"))
        else:
            jobs.append(await make_generation(database, user_id=user, tier="TIER_4K"))
    return users, jobs


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_cancels_against_workers_deadlock_nobody_and_leave_the_money_exact(database, connect, seed):
    dice = random.Random(seed)
    users, jobs = await make_jobs(database, 240)
    pipeline = await make_pipeline(database, users[0])
    victims = dice.sample(jobs, 200)
    ways = [cancel_one_by_one, cancel_in_one_statement, edit_and_then_cancel]
    programs = []
    for number in range(40):
        mine = sorted(victims[5 * number : 5 * number + 5], reverse=number % 2 == 1)
        programs.append(ways[number % 3](await connect(), mine, random.Random(seed + number)))

    await asyncio.gather(*programs, *(work(database, seed + n, pipeline) for n in range(5)), keep_house(database))

    ends = dict(await database.fetch("SELECT status::text, count(*) FROM darkroom.jobs GROUP BY 1"))
    assert sum(ends.values()) == 240
    assert set(ends) <= {"COMPLETED", "CANCELLED", "REFUNDED"}
    assert ends["COMPLETED"] >= 1
    assert ends["CANCELLED"] >= 1
    assert await deadlocks(database) == 0
    kept = await database.fetchval("""SELECT sum("tokensCost") FROM darkroom.jobs WHERE status = 'COMPLETED'""")
    assert sum([await balance_of(database, user) for user in users]) == 400_000 - kept


async def test_deleted_pictures_and_users_against_workers_deadlock_nobody(database, connect):
    users, _ = await make_jobs(database, 120)
    dice = random.Random(7)

    async def delete(connection, sql, *values):
        await asyncio.sleep(dice.uniform(0, 0.2))
        await connection.execute(sql, *values)

    programs = [
        delete(await connect(), "DELETE FROM public.users WHERE id = $1", users[0]),
        delete(await connect(), """DELETE FROM public.enhanced_images WHERE "userId" = $1""", users[1]),
        delete(await connect(), """DELETE FROM public.mcp_generation_jobs WHERE "userId" = $1""", users[2]),
    ]

    await asyncio.gather(*programs, *(work(database, n, None) for n in range(4)), keep_house(database))

    assert await deadlocks(database) == 0
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_rescues_against_workers_that_still_live_lose_no_job_and_pay_nothing_twice(database):
    users, _ = await make_jobs(database, 60)

    async def end_leases():
        while await database.fetchval(UNFINISHED):
            await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 s'")
            await asyncio.sleep(0.05)
            await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() + interval '60 s'")
            await asyncio.sleep(0.05)

    await asyncio.gather(
        end_leases(), keep_house(database), keep_house(database), *(work(database, n, None) for n in range(4))
    )

    kept = await database.fetchval("""SELECT coalesce(sum("tokensCost"), 0) FROM darkroom.jobs
                                      WHERE status = 'COMPLETED'""")
    assert sum([await balance_of(database, user) for user in users]) == 400_000 - kept


async def test_program_idle_with_a_job_locked_delays_only_that_job(database, foreign, eventually):
    held = await make_claim(database)
    await make_jobs(database, 30)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute('UPDATE public.image_enhancement_jobs SET "isAnonymous" = true WHERE id = $1', held.job_id)
    completing = asyncio.create_task(
        database.run(lambda connection: record(connection, held, Completed("GENERATING", 1, {})))
    )

    working = asyncio.create_task(work(database, 1, None))

    async def only_that_job_is_left():
        return await database.fetchval(UNFINISHED) == 1

    await eventually(only_that_job_is_left)
    assert not completing.done()
    await transaction.commit()
    assert await completing == "COMPLETED"
    await working
    assert (await job_row(database, held.job_id))["status"] == "COMPLETED"


async def test_program_idle_with_many_jobs_locked_suffers_no_deadlock_from_a_failure_that_refunds(
    database, connect, eventually
):
    user = await make_user(database)
    held = [await make_claim(database, user_id=user) for _ in range(2)]
    program = await connect()
    # it holds the user's balance, and wants next what a worker holds while it waits for that balance
    async with program.transaction():
        await program.execute(
            "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", held[0].job_id
        )
        failing = asyncio.create_task(
            database.run(lambda connection: record(connection, held[1], Failed("ANALYZING", "no")))
        )
        await eventually(lambda: waiting_for_locks(database))
        await program.execute(
            "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", held[1].job_id
        )

    with pytest.raises(ClaimLostError):
        await failing
    assert await deadlocks(database) == 0
    assert await balance_of(database, user) == 100


async def test_hundred_cancels_of_one_job_at_once_refund_once(database, connect):
    held = await make_claim(database)
    programs = [await connect() for _ in range(100)]
    gate = asyncio.Event()

    async def cancel(number, program):
        await gate.wait()
        if number % 2:
            return await program.fetchval("SELECT darkroom.cancel_job($1)", held.job_id)
        return await program.fetchval(
            "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1 RETURNING status::text",
            held.job_id,
        )

    cancels = [asyncio.create_task(cancel(*one)) for one in enumerate(programs)]
    gate.set()

    assert set(await asyncio.gather(*cancels)) == {"CANCELLED"}
    assert [row["amount"] for row in await ledger_of(database, held.user_id) if row["type"] == "REFUND"] == [2]
    assert await balance_of(database, held.user_id) == 100
