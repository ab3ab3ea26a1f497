"""workflowRunId: a copy of the claim's token for people, which never replaces what a producer wrote."""

import pytest

from models.queue.transitions import Released, record
from tests.support.builders import claim_jobs, make_job


async def run_id(database, job):
    return await database.fetchval('SELECT "workflowRunId" FROM public.image_enhancement_jobs WHERE id = $1', job)


async def give_back(database, claim):
    await database.run(lambda connection: record(connection, claim, Released("ANALYZING")))


@pytest.mark.parametrize("written", ["wf-17", "0", " ", "3e16e09f-47e4-429c-9f22-4bed96b19850"])
async def test_producers_run_id_survives_every_claim(database, written):
    job = await make_job(database, workflowRunId=written)

    for _ in range(3):
        (claim,) = await claim_jobs(database)
        assert await run_id(database, job) == written
        await give_back(database, claim)

    assert await run_id(database, job) == written


@pytest.mark.parametrize("empty", [None, ""])
async def test_empty_run_id_is_the_token_of_the_latest_claim(database, empty):
    job = await make_job(database, workflowRunId=empty)

    for _ in range(3):
        (claim,) = await claim_jobs(database)
        assert await run_id(database, job) == str(claim.lease_token)
        await give_back(database, claim)


async def test_run_id_that_a_producer_writes_between_two_claims_stays(database):
    job = await make_job(database)
    (first,) = await claim_jobs(database)
    await give_back(database, first)
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "workflowRunId" = 'theirs' WHERE id = $1""", job)

    for _ in range(2):
        (claim,) = await claim_jobs(database)
        assert await run_id(database, job) == "theirs"
        await give_back(database, claim)
