"""A bought picture is recorded under the claim's fence, and the job's next worker finds it."""

from dataclasses import replace

from models.history.artifacts import find_same, record_artifact
from models.queue.rescue import rescue_lost_claims
from tests.support.builders import claim_jobs, load_rows, make_artifact, make_claim, make_job, make_user


async def record_and_find(database, claim, artifact):
    await database.run(lambda connection: record_artifact(connection, claim, artifact))
    return (await load_rows(database, claim)).artifact


async def test_successor_of_a_dead_worker_finds_what_it_stored(database):
    first = await make_claim(database)
    await record_and_find(database, first, make_artifact())
    await database.fetch("DELETE FROM darkroom.workers")
    await rescue_lost_claims(database, None)
    (second,) = await claim_jobs(database)

    assert (await load_rows(database, second)).artifact == make_artifact()


async def test_job_has_one_artifact_the_last_one_stored(database):
    claim = await make_claim(database)
    await record_and_find(database, claim, make_artifact())

    again = make_artifact(sha256="1" * 64, key="users/u/enhanced/i/j-1.jpg")

    assert await record_and_find(database, claim, again) == again


async def test_same_input_is_found_for_its_own_user_and_job_type_only(database):
    user = await make_user(database)
    claim = await make_claim(database, user_id=user)
    await record_and_find(database, claim, make_artifact())
    jobs = [await make_job(database, user_id=user), await make_job(database)]
    claims = {one.job_id: one for one in await claim_jobs(database, most=2)}

    async def find(one, input_hash="f" * 64):
        return await database.run(lambda connection: find_same(connection, one, input_hash))

    assert await find(claims[jobs[0]]) == make_artifact()
    assert await find(claims[jobs[0]], "e" * 64) is None
    assert await find(claims[jobs[1]]) is None
    blend = replace(claims[jobs[0]], job_type="blend")
    assert await find(blend) is None
