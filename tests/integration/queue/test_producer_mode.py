"""Applications that charge for themselves (mode producer): Darkroom refunds only the failures that it decides."""

import asyncpg
import pytest

from models.queue.transitions import Completed, Failed, record
from tests.support.builders import (
    balance_of,
    job_row,
    ledger_of,
    make_claim,
    make_generation,
    make_job,
    make_user,
    money_violations,
    queue_row,
    set_mode,
    set_status,
)

MAKE = {"enhancements": make_job, "generations": make_generation}
TABLES = {"enhancements": "public.image_enhancement_jobs", "generations": "public.mcp_generation_jobs"}


@pytest.fixture(params=MAKE)
def table(request):
    return request.param


@pytest.fixture(autouse=True)
async def producer_mode(promises, database):
    await set_mode(database, "producer")


async def fail(database, claim):
    return await database.run(lambda connection: record(connection, claim, Failed(claim.stage, "no")))


async def test_insert_charges_nothing(database, table):
    user = await make_user(database, balance=0)

    job = await MAKE[table](database, user_id=user, tier="TIER_4K")

    assert await queue_row(database, job)
    assert (await balance_of(database, user), await ledger_of(database, user)) == (0, [])


async def test_insert_at_a_price_of_its_own_is_taken(database, foreign):
    job = await make_job(database, status="COMPLETED")

    await foreign.execute(
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           SELECT 'own', "imageId", "userId", 'TIER_1K', 77, 'PENDING', now()
           FROM public.image_enhancement_jobs WHERE id = $1""",
        job,
    )

    assert await queue_row(database, "own")


async def test_insert_with_a_negative_cost_is_refused(database, foreign):
    job = await make_job(database, status="COMPLETED")

    with pytest.raises(asyncpg.RaiseError) as caught:
        await foreign.execute(
            """INSERT INTO public.image_enhancement_jobs
                   (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
               SELECT 'own', "imageId", "userId", 'TIER_1K', -1, 'PENDING', now()
               FROM public.image_enhancement_jobs WHERE id = $1""",
            job,
        )

    assert (caught.value.sqlstate, caught.value.detail) == ("P0001", "given -1, expected 0 or more")


async def test_failure_of_ours_pays_the_cost_back(database, table):
    claim = await make_claim(database, table, tier="TIER_2K")

    assert await fail(database, claim) == "REFUNDED"

    assert await balance_of(database, claim.user_id) == 105
    (row,) = await ledger_of(database, claim.user_id)
    assert (row["amount"], row["type"], row["sourceId"], row["balanceAfter"]) == (5, "REFUND", claim.job_id, 105)


async def test_failure_of_ours_of_a_free_job_moves_nothing(database, table):
    claim = await make_claim(database, table, tier="FREE")

    assert await fail(database, claim) == "FAILED"

    assert (await balance_of(database, claim.user_id), await ledger_of(database, claim.user_id)) == (100, [])


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "REFUNDED"])
async def test_end_written_by_another_program_is_its_own_money(database, table, status):
    claim = await make_claim(database, table)

    await set_status(database, claim.job_id, status)

    assert await queue_row(database, claim.job_id) is None
    assert (await balance_of(database, claim.user_id), await ledger_of(database, claim.user_id)) == (100, [])


async def test_deleted_job_is_its_own_money(database, table):
    claim = await make_claim(database, table)

    await database.fetch(f"DELETE FROM {TABLES[table]}")

    assert await ledger_of(database, claim.user_id) == []


async def test_failure_of_ours_that_the_application_ends_again_is_paid_once(database, table):
    claim = await make_claim(database, table)
    await fail(database, claim)

    for status in ("CANCELLED", "FAILED", "REFUNDED"):
        await set_status(database, claim.job_id, status)
    await database.fetch(f"DELETE FROM {TABLES[table]}")

    assert await balance_of(database, claim.user_id) == 102


async def test_completion_moves_nothing(database, table):
    claim = await make_claim(database, table)

    await database.run(lambda connection: record(connection, claim, Completed("GENERATING", 1, {})))

    assert await ledger_of(database, claim.user_id) == []


async def test_failure_of_ours_in_external_mode_moves_nothing(database, table):
    await set_mode(database, "external")
    claim = await make_claim(database, table)

    assert await fail(database, claim) == "FAILED"

    assert (await balance_of(database, claim.user_id), await ledger_of(database, claim.user_id)) == (100, [])


async def test_refund_of_this_mode_is_sound_when_the_mode_becomes_managed(database, table):
    claim = await make_claim(database, table)
    await fail(database, claim)

    await set_mode(database, "managed")
    await database.fetch("DELETE FROM darkroom.opening_balances")
    await database.fetch("SELECT darkroom.record_opening_balances()")

    assert await money_violations(database) == []
    assert (await job_row(database, claim.job_id))["status"] == "REFUNDED"
