"""Faults of caps and of the fair order that the checks of their promises must find, beside the whole code."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from models.queue.fair import admit
from models.queue.transitions import Retried, record
from tests.integration.queue.test_caps import make_jobs, set_caps
from tests.integration.queue.test_fair_order import Drain, new_user, submit
from tests.support.builders import claim_jobs

LOCKED = "pg_try_advisory_xact_lock((('freed_slots'::regclass)::oid)::integer, (hashtext(u.user_id) & 1023))"
SHARED = "begins := reaches - tokens * 1000000;"
EACH_ITS_OWN = "begins := now_at - most_ahead; reaches := now_at;"
LOSE_TAG = """
CREATE FUNCTION darkroom.lose_tag() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.position := darkroom.virtual_time();
    RETURN NEW;
END $$;
CREATE TRIGGER lose_tag BEFORE UPDATE ON darkroom.job_queue FOR EACH ROW
    WHEN (OLD.status = 'processing' AND NEW.status = 'pending') EXECUTE FUNCTION darkroom.lose_tag()
"""


@dataclass
class World:
    """What a schedule needs."""

    database: Any
    foreign: Any
    is_broken: bool

    async def replace(self, function, text, by):
        """Replace a part of a function's text, where the variant is the broken one."""
        if self.is_broken:
            whole = await self.database.fetchval(f"SELECT pg_get_functiondef('darkroom.{function}'::regproc)")
            assert whole.count(text) == 1, whole
            await self.database.fetch(whole.replace(text, by))


async def cap_read_without_a_lock(world):
    """Two claimers look at a user's slots at the same time."""
    await world.replace("lock_slots", LOCKED, "true")
    await set_caps(world.database, FREE=1)
    await make_jobs(world.database, 3)
    await world.database.fetch("INSERT INTO darkroom.freed_slots (user_id) SELECT user_id FROM darkroom.job_queue")
    await world.foreign.execute("BEGIN; SELECT darkroom.admit(1)")

    async with asyncio.timeout(10):
        await world.database.commit("admit", admit)
    await world.foreign.execute("COMMIT")

    return await world.database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE ready") <= 1


async def tag_lost_at_retry(world):
    """A job that is retried waits its turn again."""
    if world.is_broken:
        for statement in LOSE_TAG.strip().rsplit(";\n", 1):
            await world.database.fetch(statement)
    first, other = await new_user(world.database), await new_user(world.database)
    (job,) = await submit(world.database, [first])
    await submit(world.database, [other] * 3)
    (claim,) = await claim_jobs(world.database)
    await world.database.run(lambda connection: record(connection, claim, Retried(claim.stage, "again", timedelta())))

    return (await claim_jobs(world.database))[0].job_id == job


async def head_start_without_bound(world):
    """Each user with priority has a head start of his own."""
    await world.replace("tag_jobs", SHARED, EACH_ITS_OWN)
    waits, drain = await new_user(world.database), Drain(world.database)
    await submit(world.database, [waits])
    for _ in range(100):
        await submit(world.database, [await new_user(world.database, has_priority=True)])

    return waits.id in await drain.take(62)


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("schedule", [cap_read_without_a_lock, tag_lost_at_retry, head_start_without_bound])
async def test_fault_is_found_and_the_whole_code_passes(database, foreign, schedule, is_broken):
    assert await schedule(World(database, foreign, is_broken)) is not is_broken
