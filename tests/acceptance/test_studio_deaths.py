"""Workers of studio's generations that die or are stopped: nothing is bought, written or booked twice."""

import os
import signal

import pytest

from tests.support.fleet import eventually
from tests.support.studio_fleet import producer, studio

__all__ = ["producer", "studio"]


@pytest.fixture(scope="module", autouse=True)
def workers(studio):
    """Two worker processes, and a supervisor that starts another one for each that dies."""
    return studio.start(2, lease_s=3)


async def is_completed_once(producer, user, job, *, calls, pictures, charge=-4):
    """Check all that a completed generation of two pictures leaves, and what was bought for it."""
    row = await producer.ended(job)
    assert (row["status"], row["error"]) == ("completed", None)
    files = await producer.results(job)
    assert row["resultImageFiles"] == [one["_id"] for one in files]
    assert len(files) == 2
    stored = await producer.studio.storage.list_objects(f"studio/{user}/")  # the job is its only one
    assert [one.key for one in stored] == [one["storageId"] for one in files]
    assert [action for action, _ in await producer.usage(job)] == ["generation_started", "generation_completed"]
    assert await producer.entries(user) == [("charge", charge)]
    assert (producer.studio.count("call", job), producer.studio.count("picture", job)) == (calls, pictures)
    return row


async def test_generations_of_a_killed_worker_are_completed_once_and_buy_only_what_was_interrupted(producer):
    within_first, within_second = await producer.user(), await producer.user()
    first = await producer.order(within_first, says="[1:hang]", count=2)
    second = await producer.order(within_second, says="[2:hang]", count=2)
    held = {await producer.is_asked(first, 1), await producer.is_asked(second, 2)}

    for pid in held:
        os.kill(pid, signal.SIGKILL)

    await is_completed_once(producer, within_first, first, calls=[2, 1], pictures=[1, 1])
    await is_completed_once(producer, within_second, second, calls=[1, 2], pictures=[1, 1])
    assert await producer.outcomes(first) == ["open", "answered", "answered"]
    assert await producer.outcomes(second) == ["answered", "open", "answered"]


async def test_generation_whose_worker_dies_between_two_pictures_buys_neither_twice(producer):
    user = await producer.user()
    job = await producer.order(user, says="[2:dies]", count=2)

    await is_completed_once(producer, user, job, calls=[1, 1], pictures=[1, 1])

    assert await producer.outcomes(job) == ["answered", "answered"]


async def test_zombie_that_goes_on_after_its_lease_writes_nothing(producer):
    user = await producer.user()
    job = await producer.order(user, says="[2:late]", count=2)
    zombie = await producer.is_asked(job, 2)
    os.kill(zombie, signal.SIGSTOP)
    try:
        finished = await is_completed_once(producer, user, job, calls=[1, 2], pictures=[1, 1])
    finally:
        os.kill(zombie, signal.SIGCONT)

    async def zombie_has_had_its_answer():
        return producer.studio.count("picture", job) == [1, 2] or not await producer.fetchval(
            "SELECT count(*) FROM darkroom.provider_calls WHERE job_id = $1 AND outcome = 'open'", job
        )

    await eventually(zombie_has_had_its_answer)
    bought = producer.studio.count("picture", job)
    assert await is_completed_once(producer, user, job, calls=[1, 2], pictures=bought) == finished
