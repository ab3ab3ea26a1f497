"""Rows of jobs that are claimed together are read together, and a row that can't be read fails its own job alone."""

import asyncio
from functools import partial

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.claims import ClaimLostError
from models.queue.reading import JobReader
from tests.support.builders import claim_jobs, make_generation, make_job


class CountingDatabase(Database):
    """A database that counts how often something is read."""

    reads = 0

    async def run(self, work):
        """Count, and read."""
        self.reads += 1
        return await super().run(work)


@pytest.fixture
async def counting(database_url):
    counting = CountingDatabase(parse_postgres_url(database_url))
    await counting.open()
    yield counting
    await counting.close()


async def read_all(database, claims):
    """Read the rows of claimed jobs as their runs do; return the rows, or the error, of each by the job's id."""
    reader = JobReader(database)
    read = [reader.read(claim, needs_kept=True, needs_artifact=True) for claim in claims]
    found = await asyncio.gather(*read, return_exceptions=True)
    return {claim.job_id: one for claim, one in zip(claims, found, strict=True)}


async def test_jobs_claimed_together_are_read_by_one_statement_for_each_table(database, counting):
    jobs = [await make_job(database, tier=tier) for tier in ("FREE", "TIER_1K", "TIER_2K")]
    made = [await make_generation(database, prompt=prompt) for prompt in ("a cat", "a dog")]

    found = await read_all(counting, await claim_jobs(database, most=5))

    assert [found[job].inputs.tier for job in jobs] == ["FREE", "TIER_1K", "TIER_2K"]
    assert [found[job].inputs.prompt for job in made] == ["a cat", "a dog"]
    assert counting.reads == 2


async def test_row_that_cannot_be_read_fails_its_own_job_alone(database):
    good, bad, other = [await make_job(database) for _ in range(3)]
    claims = await claim_jobs(database, most=3)
    await database.fetch('UPDATE darkroom.job_queue SET payload = \'{"is_redone": "perhaps"}\' WHERE job_id = $1', bad)

    found = await read_all(database, claims)

    assert isinstance(found[bad], asyncpg.InvalidTextRepresentationError)
    assert [found[job].inputs.picture.is_allowed for job in (good, other)] == [True, True]


async def test_deleted_row_is_a_lost_claim_of_its_own_job_alone(database):
    good, gone = [await make_job(database) for _ in range(2)]
    claims = await claim_jobs(database, most=2)
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", gone)

    found = await read_all(database, claims)

    assert isinstance(found[gone], ClaimLostError)
    assert found[good].inputs.tier == "TIER_1K"


async def test_job_that_is_told_to_end_does_not_keep_its_neighbour_from_its_rows(database):
    for _ in range(2):
        await make_job(database)
    first, second = await claim_jobs(database, most=2)
    reader = JobReader(database)
    read = partial(reader.read, needs_kept=False, needs_artifact=False)
    ended, waiting = asyncio.create_task(read(first)), asyncio.create_task(read(second))
    await asyncio.sleep(0)
    ended.cancel()

    assert (await waiting).inputs.tier == "TIER_1K"
    assert ended.cancelled()
