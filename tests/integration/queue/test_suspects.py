"""Suspects: which jobs they are, who may claim them, and how a suspicion ends."""

from datetime import timedelta

import pytest

from models.queue.claims import claim, wake_due
from models.queue.pauses import let_go_on
from models.queue.refusals import claim_jobs as claim_many
from models.queue.refusals import claim_refused, set_aside
from models.queue.rescue import rescue_lost_claims
from models.queue.suspects import _CLEAR, _DUE, due_suspects
from models.queue.transitions import Checkpoint, JobRef, Released, Retried, Snoozed, record
from models.schema.readiness import OWN_HEAD
from tests.integration.queue.test_plans import sequential_scans
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_image,
    make_job,
    make_user,
    make_worker,
    money_violations,
    queue_row,
    set_status,
)

DEADLINES_S = {"ANALYZING": 60}


async def lose_workers(database):
    """Let every worker die, and rescue what it held; return how many jobs are due again, and how many ended."""
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 ms'")
    now = await database.fetchval("SELECT clock_timestamp()")
    rescued = await rescue_lost_claims(database, now + timedelta(seconds=3))
    return rescued.requeued, rescued.ended


async def suspects_of(database):
    return {
        row["job_id"]
        for row in await database.fetch("SELECT q.job_id FROM darkroom.job_queue q WHERE q.suspect_of IS NOT NULL")
    }


async def claim_beside_others(database, most=64):
    worker = await make_worker(database)
    return await database.run(lambda connection: claim(connection, worker, "default", most, DEADLINES_S))


async def due(database, worker_id=None, queues=("default",)):
    worker = worker_id or await make_worker(database)
    return await database.run(lambda connection: due_suspects(connection, worker, queues))


@pytest.fixture
async def make_suspects(database):
    """Make jobs whose worker died while it ran them; return their ids in the order of their positions."""

    async def make(count, **columns):
        user = await make_user(database, balance=1_000)
        image = await make_image(database, user)
        jobs = [await make_job(database, user_id=user, image_id=image, **columns) for _ in range(count)]
        assert len(await claim_jobs(database, most=count)) == count
        assert await lose_workers(database) == (count, 0)
        return jobs

    return make


async def test_every_job_of_a_dead_worker_is_a_suspect_and_none_is_claimed_beside_others(database, make_suspects):
    jobs = await make_suspects(3)
    worker = await make_worker(database)

    assert await suspects_of(database) == set(jobs)
    assert await claim_beside_others(database) == []
    assert (await claim_many(database, worker, "default", 64, DEADLINES_S)).claims == []
    assert len({row["suspect_of"] for row in await database.fetch("SELECT suspect_of FROM darkroom.job_queue")}) == 1


async def test_suspects_are_claimed_one_at_a_time_in_the_order_of_their_positions(database, make_suspects):
    jobs = await make_suspects(3)

    claimed = [await claim_jobs(database, most=64) for _ in range(4)]

    assert [[one.job_id for one in claims] for claims in claimed] == [[jobs[0]], [jobs[1]], [jobs[2]], []]


async def test_suspect_that_kills_alone_is_quarantined_and_the_others_of_its_death_are_cleared(database, make_suspects):
    others = await make_suspects(2)
    first, killer, third = jobs = await make_suspects(3)
    await database.fetch("UPDATE darkroom.job_queue SET position = 0 WHERE job_id = $1", killer)
    (held,) = await claim_jobs(database)
    assert held.job_id == killer

    assert await lose_workers(database) == (0, 1)

    row = await job_row(database, killer)
    assert row["errorMessage"].startswith("quarantined: its worker died at ANALYZING, 2 times")
    assert (row["status"], await balance_of(database, row["userId"])) == ("REFUNDED", 1_000 - 2 * row["tokensCost"])
    assert await suspects_of(database) == set(others)
    assert {one.job_id for one in await claim_beside_others(database)} == {first, third}
    assert jobs[1] == killer
    assert await money_violations(database) == []


async def test_job_beside_killers_twice_is_a_suspect_again_and_not_quarantined(database, make_suspects):
    killer, job = await make_suspects(2)
    assert [one.job_id for one in await claim_jobs(database)] == [killer]
    assert await lose_workers(database) == (0, 1)
    assert [one.job_id for one in await claim_beside_others(database)] == [job]

    assert await lose_workers(database) == (1, 0)

    assert await suspects_of(database) == {job}
    assert [one.job_id for one in await claim_jobs(database)] == [job]
    assert await lose_workers(database) == (0, 1)


async def test_suspect_of_a_death_is_not_cleared_while_it_runs(database, make_suspects):
    await make_suspects(2)
    worker = await make_worker(database)
    (killer,), (other,) = await claim_jobs(database), await claim_jobs(database, worker)
    await database.fetch("DELETE FROM darkroom.workers WHERE id = $1", killer.worker_id)

    now = await database.fetchval("SELECT clock_timestamp()")
    assert (await rescue_lost_claims(database, now + timedelta(seconds=3))).ended == 1

    assert await suspects_of(database) == {other.job_id}
    await database.fetch("DELETE FROM darkroom.workers")
    assert await lose_workers(database) == (0, 1)  # it ran alone, too


@pytest.mark.parametrize("is_passed", [True, False])
async def test_suspicion_ends_with_the_stage(database, make_suspects, is_passed):
    (job,) = await make_suspects(1)
    (held,) = await claim_jobs(database)
    passed = Checkpoint("ANALYZING", "CROPPING", 60, 1) if is_passed else Released("ANALYZING")

    await database.run(lambda connection: record(connection, held, passed))

    assert await suspects_of(database) == (set() if is_passed else {job})


@pytest.mark.parametrize("what", [Retried, Snoozed])
async def test_suspect_that_is_put_off_waits_for_its_time_and_stays_a_suspect(database, make_suspects, what):
    (job,) = await make_suspects(1)
    (held,) = await claim_jobs(database)
    later = what("ANALYZING", "busy", timedelta(hours=1))

    await database.run(lambda connection: record(connection, held, later))
    assert await due(database) == []
    assert await claim_jobs(database) == []
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")
    await database.run(wake_due)

    assert await claim_beside_others(database) == []
    assert [one.job_id for one in await claim_jobs(database)] == [job]


async def test_released_suspect_is_due_again_at_once_with_its_attempt(database, make_suspects):
    (job,) = await make_suspects(1)
    (held,) = await claim_jobs(database)

    await database.run(lambda connection: record(connection, held, Released("ANALYZING")))

    assert await claim_beside_others(database) == []
    (again,) = await claim_jobs(database)
    assert (again.job_id, again.attempt) == (job, held.attempt)


@pytest.mark.parametrize("name", ["queue:default", "type:enhance", "tier:TIER_1K"])
async def test_paused_suspect_is_not_due_and_still_a_suspect_afterwards(database, make_suspects, name):
    (job,) = await make_suspects(1, tier="TIER_1K")
    await database.fetch(
        "INSERT INTO darkroom.settings (key, value) VALUES ('pauses', jsonb_build_object($1::text, '{}'::jsonb))", name
    )

    assert await due(database) == []
    assert await claim_jobs(database) == []
    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")
    await database.run(let_go_on)

    assert await claim_beside_others(database) == []
    assert [one.job_id for one in await claim_jobs(database)] == [job]


@pytest.mark.parametrize("is_running", [True, False])
async def test_cancelled_or_deleted_suspect_is_gone_and_the_others_wait_on(database, make_suspects, is_running):
    cancelled, deleted, left = await make_suspects(3)
    if is_running:
        assert [(await claim_jobs(database))[0].job_id for _ in range(2)] == [cancelled, deleted]

    await database.fetch("SELECT darkroom.cancel_job($1)", cancelled)
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", deleted)

    assert await suspects_of(database) == {left}
    assert [one.job_id for one in await claim_jobs(database)] == [left]
    assert await money_violations(database) == []


async def test_suspect_that_its_application_resets_is_none_any_more(database, make_suspects):
    (job,) = await make_suspects(1)
    await claim_jobs(database)

    await set_status(database, job, "PENDING")

    assert await suspects_of(database) == set()
    assert [one.job_id for one in await claim_beside_others(database)] == [job]


async def test_suspect_that_the_database_refuses_to_start_waits_and_is_tried_again_alone(database, make_suspects):
    refused, other = await make_suspects(2)
    await database.fetch(
        f"""CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.id = '{refused}' AND NEW.status = 'PROCESSING' THEN RAISE EXCEPTION 'no'; END IF;
                RETURN NEW;
            END $$"""
    )
    await database.fetch(
        """CREATE TRIGGER refuse BEFORE UPDATE ON public.image_enhancement_jobs FOR EACH ROW
           EXECUTE FUNCTION public.refuse()"""
    )

    claims = await claim_jobs(database) or await claim_jobs(database)  # a slow refusal leaves no time for another
    assert [one.job_id for one in claims] == [other]
    row = await queue_row(database, refused)
    assert (row["status"], row["refusals"], row["suspect_of"] is None) == ("retrying", 1, False)
    await database.fetch("DROP TRIGGER refuse ON public.image_enhancement_jobs")
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE job_id = $1", refused)

    worker = await make_worker(database)
    assert (await claim_refused(database, worker, "default", 64, DEADLINES_S)).claims == []
    assert [one.job_id for one in await claim_jobs(database)] == [refused]


async def test_claim_that_cannot_be_set_back_after_a_death_is_a_suspect(database):
    user = await make_user(database, balance=100)
    job = await make_job(database, user_id=user, image_id=await make_image(database, user))
    (held,) = await claim_jobs(database)
    refusal = ValueError("no")
    refusal.sqlstate = "23514"

    await set_aside(database, JobRef("enhance", job, held.id), refusal, lease_token=held.lease_token, event="rescued")

    assert (await queue_row(database, job))["suspect_of"] == held.worker_id


async def test_the_live_worker_with_the_smallest_id_that_serves_the_queue_comes_first(database, make_suspects):
    await make_suspects(1)
    await database.fetch("DELETE FROM darkroom.workers")
    workers = sorted([await make_worker(database) for _ in range(4)])
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() WHERE id = $1", workers[0])
    await database.fetch("UPDATE darkroom.workers SET queues = '{other}' WHERE id = $1", workers[1])

    assert [[one.is_first for one in await due(database, worker)] for worker in workers] == [
        *([False], [False], [True], [False]),
    ]


async def test_worker_of_an_earlier_release_is_not_asked_to_run_suspects_first(database, make_suspects):
    await make_suspects(1)
    await database.fetch("DELETE FROM darkroom.workers")
    old, new = sorted([await make_worker(database) for _ in range(2)])
    await database.fetch("UPDATE darkroom.workers SET revision = 'darkroom_0004' WHERE id = $1", old)

    assert OWN_HEAD >= "darkroom_0005"
    assert [one.is_first for one in await due(database, new)] == [True]


async def test_look_for_suspects_reads_no_table_as_a_whole(database):
    user = await make_user(database)
    image = await make_image(database, user)
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           SELECT 'e' || n, $1, $2, 'FREE', 0, 'PENDING', now() FROM generate_series(1, 5000) n""",
        *(image, user),
    )
    worker = await make_worker(database)

    assert await sequential_scans(database, _DUE, worker, ["default"]) <= {"workers", "settings"}
    assert await sequential_scans(database, _CLEAR, worker) == set()
