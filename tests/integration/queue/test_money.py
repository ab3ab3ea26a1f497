"""Money: each charge and refund once and exact, and every violation found (promises I3, I4, I7)."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from models.queue.transitions import Completed, Failed, Retried, record
from tests.support.builders import (
    balance_of,
    job_row,
    ledger_of,
    make_balance,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
    new_id,
    queue_row,
    set_status,
)

TABLES = {"enhancements": "public.image_enhancement_jobs", "generations": "public.mcp_generation_jobs"}
MAKE = {"enhancements": make_job, "generations": make_generation}
SOURCES = {"enhancements": "enhancement", "generations": "mcp_generation"}


@pytest.fixture(params=TABLES)
def table(request):
    return request.param


async def fail(database, claim, reason="no"):
    return await database.run(lambda connection: record(connection, claim, Failed(claim.stage, reason)))


async def complete(database, claim):
    return await database.run(lambda connection: record(connection, claim, Completed("GENERATING", 1, {})))


@pytest.mark.parametrize(
    ("status", "ending"), [("CANCELLED", "cancelled"), ("FAILED", "failed"), ("REFUNDED", "failed")]
)
async def test_end_written_by_another_program_is_refunded(database, table, status, ending):
    user = await make_user(database, balance=10)
    job = await MAKE[table](database, user_id=user, tier="TIER_2K")

    await set_status(database, job, status)

    *_, row = await ledger_of(database, user)
    assert tuple(row) == (5, "REFUND", f"{SOURCES[table]}_{ending}", job, 10, {"reason": f"set to {status}"})
    assert (await job_row(database, job))["status"] == status


async def test_refund_tells_the_reason_that_the_writer_gave(database, table):
    user = await make_user(database, balance=10)
    job = await MAKE[table](database, user_id=user)

    await database.fetch(f"""UPDATE {TABLES[table]} SET status = 'FAILED', "errorMessage" = 'out of paper'""")

    *_, row = await ledger_of(database, user)
    assert (row["sourceId"], row["metadata"]) == (job, {"reason": "out of paper"})


async def test_refund_of_a_cancelled_job_does_not_tell_of_an_earlier_attempt(database, table):
    claim = await make_claim(database, table)
    retried = Retried(claim.stage, "it rained", timedelta(hours=1))
    await database.run(lambda connection: record(connection, claim, retried))

    await set_status(database, claim.job_id, "CANCELLED")

    *_, row = await ledger_of(database, claim.user_id)
    assert row["metadata"] == {"reason": "set to CANCELLED"}


async def test_failure_of_ours_tells_its_reason(database, table):
    claim = await make_claim(database, table)

    await fail(database, claim, "not an image")

    *_, row = await ledger_of(database, claim.user_id)
    assert (row["source"], row["metadata"]) == (f"{SOURCES[table]}_failed", {"reason": "not an image"})


async def test_hundred_cancels_of_one_job_at_once_refund_once(database, connect, table):
    user = await make_user(database, balance=2)
    job = await MAKE[table](database, user_id=user)
    programs = [await connect() for _ in range(100)]

    await asyncio.gather(
        *(one.execute(f"UPDATE {TABLES[table]} SET status = 'CANCELLED' WHERE id = $1", job) for one in programs)
    )

    assert [row["amount"] for row in await ledger_of(database, user)] == [-2, 2]
    assert await balance_of(database, user) == 2


async def test_cancels_failures_and_completions_of_one_job_at_once_end_it_once(database, connect, table):
    claim = await make_claim(database, table)
    programs = [await connect() for _ in range(30)]
    statuses = ["CANCELLED", "FAILED", "COMPLETED"] * 10

    await asyncio.gather(
        *(
            one.execute(f"UPDATE {TABLES[table]} SET status = '{status}' WHERE id = $1", claim.job_id)
            for one, status in zip(programs, statuses, strict=True)
        )
    )

    is_completed = (await job_row(database, claim.job_id))["status"] == "COMPLETED"
    assert await balance_of(database, claim.user_id) == (98 if is_completed else 100)


async def test_refund_pays_what_was_charged_whatever_the_price_is_now(database, table):
    user = await make_user(database, balance=10)
    job = await MAKE[table](database, user_id=user, tier="TIER_2K")
    await database.fetch("""UPDATE darkroom.settings SET value = '{"TIER_2K": 99}' WHERE key = 'prices'""")

    await set_status(database, job, "CANCELLED")

    assert await balance_of(database, user) == 10


async def test_completed_job_is_never_refunded(database, table):
    claim = await make_claim(database, table)
    await complete(database, claim)

    for status in ("CANCELLED", "FAILED", "REFUNDED"):
        await set_status(database, claim.job_id, status)
    await database.fetch(f"DELETE FROM {TABLES[table]}")

    assert await balance_of(database, claim.user_id) == 98


async def test_refund_makes_a_missing_balance(database, table):
    user = await make_user(database, balance=2)
    job = await MAKE[table](database, user_id=user)
    await database.fetch("DELETE FROM public.user_token_balances")

    await set_status(database, job, "CANCELLED")

    assert await balance_of(database, user) == 2


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_deleted_unfinished_job_is_refunded(database, table, is_claimed):
    user = await make_user(database, balance=10)
    job = (await make_claim(database, table, user_id=user)).job_id if is_claimed else None
    job = job or await MAKE[table](database, user_id=user)

    await database.fetch(f"DELETE FROM {TABLES[table]} WHERE id = $1", job)

    *_, row = await ledger_of(database, user)
    assert (row["amount"], row["source"]) == (2, f"{SOURCES[table]}_cancelled")
    assert await queue_row(database, job) is None


async def test_deleted_failed_job_is_not_refunded_again(database, table):
    user = await make_user(database, balance=10)
    job = await MAKE[table](database, user_id=user)
    await set_status(database, job, "FAILED")

    await database.fetch(f"DELETE FROM {TABLES[table]}")

    assert await balance_of(database, user) == 10


async def test_deleted_picture_refunds_its_jobs(database):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    jobs = [await make_job(database, user_id=user, image_id=image) for _ in range(2)]

    await database.fetch("DELETE FROM public.enhanced_images")

    assert await balance_of(database, user) == 10
    assert [await queue_row(database, job) for job in jobs] == [None, None]


async def test_deleted_source_picture_leaves_its_blend(database):
    user = await make_user(database)
    source = await make_image(database, user)
    job = await make_job(database, user_id=user, isBlend=True, sourceImageId=source)

    await database.fetch("DELETE FROM public.enhanced_images WHERE id = $1", source)

    assert await queue_row(database, job)


async def test_deleted_user_takes_jobs_balance_and_ledger_along(database, table):
    claim = await make_claim(database, table)
    await MAKE[table](database, user_id=claim.user_id)

    await database.fetch("DELETE FROM public.users WHERE id = $1", claim.user_id)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await ledger_of(database, claim.user_id) == []
    assert await balance_of(database, claim.user_id) is None


async def test_user_made_again_under_a_deleted_id_starts_afresh(database):
    user = await make_user(database)
    await make_job(database, user_id=user)
    await database.fetch("DELETE FROM public.users")
    await database.fetch("""INSERT INTO public.users (id, "updatedAt") VALUES ($1, now())""", user)

    await make_balance(database, user, 3)

    assert await queue_row(database, await make_job(database, user_id=user))


async def test_changed_user_id_takes_money_and_jobs_along(database, table):
    user = await make_user(database, balance=10)
    job = await MAKE[table](database, user_id=user)

    await database.fetch("UPDATE public.users SET id = 'renamed' WHERE id = $1", user)

    assert await money_violations(database) == []
    assert (await queue_row(database, job))["user_id"] == "renamed"
    await set_status(database, job, "CANCELLED")
    assert await balance_of(database, "renamed") == 10


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE public.token_transactions SET amount = amount - 1",
        """UPDATE public.token_transactions SET "createdAt" = "createdAt" + interval '1 ms'""",
        "UPDATE public.token_transactions SET metadata = '{}'",
        """UPDATE public.token_transactions SET "userId" = (SELECT max(id) FROM public.users)""",
        "DELETE FROM public.token_transactions",
    ],
)
async def test_ledger_refuses_every_change(database, foreign, change):
    await make_job(database)
    await make_user(database)

    with pytest.raises(asyncpg.CheckViolationError, match="append-only"):
        await foreign.execute(change)


@pytest.mark.parametrize("mode", ["producer", "external"])
async def test_ledger_is_the_applications_in_other_modes(database, mode):
    user = await make_user(database)
    await set_status(database, await make_job(database, user_id=user), "CANCELLED")
    await database.fetch("UPDATE darkroom.settings SET value = to_jsonb($1::text) WHERE key = 'mode'", mode)

    await database.fetch("UPDATE public.token_transactions SET metadata = '{}'")
    await database.fetch("DELETE FROM public.token_transactions")

    assert await ledger_of(database, user) == []


async def earn(connection, user, amount, balance_after):
    await connection.execute(
        """INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
           VALUES ($1, $2, $3, 'EARN_BONUS', $4)""",
        new_id("t"),
        user,
        amount,
        balance_after,
    )


async def open_balance(connection, user, balance):
    await connection.execute(
        """INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt") VALUES ($1, $2, $3, now())""",
        new_id("b"),
        user,
        balance,
    )


async def opening_of(database, user):
    return await database.fetchval("SELECT balance FROM darkroom.opening_balances WHERE user_id = $1", user)


@pytest.mark.parametrize("is_ledger_first", [True, False])
async def test_welcome_bonus_and_balance_in_one_transaction_open_at_zero(database, foreign, is_ledger_first):
    user = await make_user(database, balance=None)

    async with foreign.transaction():
        if is_ledger_first:
            await earn(foreign, user, 25, 25)
        await open_balance(foreign, user, 25)
        if not is_ledger_first:
            await earn(foreign, user, 25, 25)

    assert await opening_of(database, user) == 0


async def test_balance_without_a_ledger_opens_at_what_it_holds(database):
    user = await make_user(database, balance=25)

    assert await opening_of(database, user) == 25


async def test_balance_that_grows_with_its_ledger_stays_sound(database, foreign):
    user = await make_user(database, balance=25)

    async with foreign.transaction():
        await foreign.execute("UPDATE public.user_token_balances SET balance = balance + 5")
        await earn(foreign, user, 5, 30)

    assert await money_violations(database) == []


async def test_balance_inserted_by_upsert_opens_once(database, foreign):
    user = await make_user(database, balance=None)
    upsert = """INSERT INTO public.user_token_balances AS b (id, "userId", balance, "updatedAt")
                VALUES ($1, $2, 5, now()) ON CONFLICT ("userId") DO UPDATE SET balance = b.balance + 5"""

    for number in range(2):
        async with foreign.transaction():
            await foreign.execute(upsert, new_id("b"), user)
            await earn(foreign, user, 5, 5 * number + 5)

    assert await opening_of(database, user) == 0


DAMAGES = {
    "a balance changed behind the ledger's back": (
        "UPDATE public.user_token_balances SET balance = balance + 1",
        "I7: balance 99, opening balance 100 plus ledger -2",
    ),
    "a ledger row beside the balance": (
        """INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
           SELECT 'x', id, 7, 'EARN_BONUS', 1 FROM public.users""",
        "I7: balance 98, opening balance 100 plus ledger 5",
    ),
    "a refund without a charge": (
        "INSERT INTO darkroom.job_money VALUES ('enhance', 'nobody', 'refund', 3)",
        "I3: refund of 3 without a charge of that amount",
    ),
    "a refund of another amount": (
        "INSERT INTO darkroom.job_money SELECT job_type, job_id, 'refund', 3 FROM darkroom.job_money",
        "I3: refund of 3 without a charge of that amount",
    ),
    "an end that passed the triggers by": (
        """SET session_replication_role = replica;
           UPDATE public.image_enhancement_jobs SET status = 'FAILED';
           SET session_replication_role = origin""",
        "I3: charged, ended as FAILED, never refunded",
    ),
    "a completed job refunded": (
        """UPDATE public.image_enhancement_jobs SET status = 'PROCESSING';
           UPDATE public.image_enhancement_jobs SET status = 'COMPLETED';
           INSERT INTO darkroom.job_money SELECT job_type, job_id, 'refund', 2 FROM darkroom.job_money""",
        "I4: completed and refunded",
    ),
    "a balance below zero": (
        """UPDATE public.user_token_balances SET balance = -3;
           INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
           SELECT 'x', id, -101, 'SPEND_BOX_CREATION', -3 FROM public.users""",
        "I7: balance -3, opening balance 100 plus ledger -103",
    ),
}


@pytest.mark.parametrize(("sql", "finding"), DAMAGES.values(), ids=DAMAGES)
async def test_damaged_money_is_found(database, foreign, damage, sql, finding):
    await make_job(database)
    assert await money_violations(database) == []

    await foreign.execute(sql)

    assert finding in await money_violations(database)


async def test_many_jobs_cancelled_at_once_leave_an_unbroken_chain_of_balances(database):
    user = await make_user(database, balance=40)
    image = await make_image(database, user)
    for _ in range(20):
        await make_job(database, user_id=user, image_id=image)

    await database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    rows = await database.fetch("""SELECT "balanceAfter" FROM public.token_transactions WHERE amount > 0""")
    assert sorted(row["balanceAfter"] for row in rows) == list(range(2, 42, 2))


async def test_programs_that_cancel_jobs_of_many_users_in_opposite_orders_never_deadlock(database, connect):
    users = [await make_user(database, balance=1_000) for _ in range(5)]
    images = [await make_image(database, user) for user in users]
    programs = [await connect() for _ in range(6)]
    for number in range(len(programs)):
        order = list(zip(users, images, strict=True))[:: 1 if number % 2 else -1]
        for user, image in order * 6:
            await make_job(database, user_id=user, image_id=image, workflowRunId=f"of{number}")

    await asyncio.gather(
        *(
            one.execute(
                """UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE "workflowRunId" = $1""",
                f"of{number}",
            )
            for number, one in enumerate(programs)
        )
    )

    assert {await balance_of(database, user) for user in users} == {1_000}
