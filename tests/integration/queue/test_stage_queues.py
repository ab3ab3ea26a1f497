"""Queues by stage: who runs which stage, how a job is handed over, and what follows from changed queues."""

import asyncio
from datetime import timedelta

import pytest

from models.queue.claims import FencedError, wake_due
from models.queue.looks import ask_for_wake_up, look_at_queue
from models.queue.queues import empty_old_queues, move_page, unserved_queues
from models.queue.refusals import claim_refused
from models.queue.rescue import adopt_jobs, rescue_lost_claims
from models.queue.transitions import Checkpoint, HandedOver, Kept, Released, Retried, record
from pipelines.job_types import JOB_TYPES, JobType
from pipelines.stage import Stage
from tests.integration.queue.test_caps import set_caps
from tests.integration.queue.test_fair_order import COST, new_user, submit, subscribe
from tests.support.builders import (
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    make_worker,
    queue_row,
    set_stage_queues,
)
from tests.support.patience import HANGS_AFTER_S
from tests.support.running import make_runner
from workers.running.job import RunningJob
from workers.running.stage_queues import StageQueues

TOKEN = 1_000_000
GENERATION = """
INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
VALUES ($1, $2, 'GENERATE', 'FREE', 0, 'PENDING', 'a cat', now())
"""
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
async def queues(database):
    await set_stage_queues(database, GENERATING="gpu")


async def do(database, held, *transitions):
    return await database.run(lambda connection: record(connection, held, *transitions))


async def hand_over(database, **columns):
    """Submit an enhancement and run it until it is handed over; return its id."""
    job_id = await make_job(database, **columns)
    (held,) = await claim_jobs(database)
    assert held.job_id == job_id
    await do(database, held, Checkpoint("ANALYZING", "GENERATING", 60, 1, {"analysisSource": "seen"}))
    await do(database, held, HandedOver("GENERATING", "gpu"))
    return job_id


async def claimed_ids(database, queue, most=10):
    return [one.job_id for one in await claim_jobs(database, queue=queue, most=most)]


async def test_job_enters_the_queue_of_its_first_stage(database):
    analyzed, generated = await make_job(database), await make_generation(database)

    assert await claimed_ids(database, "default") == [analyzed]
    assert await claimed_ids(database, "gpu") == [generated]


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_job_of_another_queue_enters_at_every_isolation(database, foreign, isolation):
    user = await make_user(database)
    async with foreign.transaction(isolation=isolation.replace(" ", "_")):
        await foreign.execute(GENERATION, "one", user)

    assert await claimed_ids(database, "gpu") == ["one"]


async def test_handed_over_job_waits_in_the_other_queue_with_its_checkpoints(database):
    job_id = await hand_over(database)

    row, job = await queue_row(database, job_id), await job_row(database, job_id)
    assert (row["queue"], row["stage"], row["status"], row["attempts"]) == ("gpu", "GENERATING", "pending", 0)
    assert job["status"] == "PENDING"
    assert (
        await database.fetchval('SELECT "analysisSource" FROM public.image_enhancement_jobs WHERE id = $1', job_id)
        == "seen"
    )
    assert await claimed_ids(database, "default") == []
    (again,) = await claim_jobs(database, queue="gpu")
    assert (again.job_id, again.stage, again.attempt) == (job_id, "GENERATING", 1)


async def test_hand_over_is_in_the_history(database):
    job_id = await hand_over(database)

    row = await database.fetchrow(
        "SELECT stage, attempt, output FROM darkroom.stage_runs WHERE job_id = $1 AND event = 'handed_over'", job_id
    )
    assert (row["stage"], row["attempt"], row["output"]) == ("GENERATING", 1, {"queue": "gpu"})


async def test_hand_over_by_a_lost_claim_changes_nothing(database):
    held = await make_claim(database)
    await do(database, held, Released(held.stage))
    (other,) = await claim_jobs(database)

    with pytest.raises(FencedError):
        await do(database, held, HandedOver("GENERATING", "gpu"))

    row = await queue_row(database, other.job_id)
    assert (row["queue"], row["lease_token"]) == ("default", other.lease_token)


async def test_retry_stays_in_the_queue_of_its_stage(database):
    job_id = await hand_over(database)
    (held,) = await claim_jobs(database, queue="gpu")

    await do(database, held, Retried("GENERATING", "busy", HOUR))
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")
    assert await database.commit("wake", wake_due) == {"gpu"}

    assert await claimed_ids(database, "default") == []
    assert await claimed_ids(database, "gpu") == [job_id]


async def test_rescued_job_stays_in_its_queue_and_runs_alone_there(database):
    job_id = await hand_over(database)
    await claim_jobs(database, queue="gpu")
    await database.fetch("DELETE FROM darkroom.workers")

    assert (await rescue_lost_claims(database, None)).requeued == 1

    assert await claimed_ids(database, "default") == []
    (again,) = await claim_jobs(database, queue="gpu")
    assert (again.job_id, again.attempt) == (job_id, 2)


# wake-ups


async def heard(connection):
    messages = []
    await connection.add_listener("darkroom_bells", lambda *message: messages.append(message[3]))
    return messages


async def test_hand_over_wakes_idle_workers_of_the_other_queue_only(database, foreign, eventually):
    messages = await heard(foreign)
    for queue in ("default", "gpu"):
        assert await database.run(lambda connection, queue=queue: ask_for_wake_up(connection, [queue]))
    held = await make_claim(database)
    await eventually(lambda: _as_async(messages == ["default"]))

    await do(database, held, HandedOver("GENERATING", "gpu"))

    await eventually(lambda: _as_async(messages == ["default", "gpu"]))


async def test_job_that_enters_another_queue_wakes_its_workers(database, foreign, eventually):
    messages = await heard(foreign)
    assert await database.run(lambda connection: ask_for_wake_up(connection, ["default", "gpu"]))

    await make_generation(database)

    await eventually(lambda: _as_async(messages == ["gpu"]))


async def _as_async(value):
    return value


async def test_idle_worker_sees_a_job_that_was_handed_over(database):
    await hand_over(database)

    now = await database.run(lambda connection: look_at_queue(connection, ["gpu"]))
    assert (now.has_work, now.stage_queues) == (True, {"GENERATING": "gpu"})


# fair order


async def tags(database, queue):
    rows = await database.fetch(
        "SELECT position FROM darkroom.job_queue WHERE queue = $1 AND status = 'pending' ORDER BY id", queue
    )
    return [row["position"] for row in rows]


async def test_each_queue_has_its_own_virtual_time(database):
    user = await new_user(database)
    await submit(database, [user] * 5)
    for _ in range(3):
        await claim_jobs(database)

    await make_generation(database, tier="FREE")

    began = await database.fetchval("SELECT darkroom.virtual_time('gpu')")
    assert await database.fetchval("SELECT darkroom.virtual_time()") == began + 3 * TOKEN
    assert await tags(database, "gpu") == [began]


async def test_handed_over_jobs_take_turns_in_the_other_queue(database):
    heavy, light = await new_user(database), await new_user(database)
    jobs = [*await submit(database, [heavy] * 4), *await submit(database, [light])]
    held = {one.job_id: one for one in await claim_jobs(database, most=5)}
    for job_id in jobs:  # the light user's comes last
        await do(database, held[job_id], HandedOver("GENERATING", "gpu"))

    order = [(await claim_jobs(database, queue="gpu"))[0].job_id for _ in jobs]

    assert order.index(jobs[4]) <= 1


async def test_handed_over_job_costs_what_it_cost_at_entry(database):
    user = await new_user(database, "STANDARD")
    (job_id,) = await submit(database, [user], "TIER_4K")
    before = (await queue_row(database, job_id))["units"]
    (held,) = await claim_jobs(database)
    await do(database, held, HandedOver("GENERATING", "gpu"))

    await claim_jobs(database, queue="gpu")

    assert (await queue_row(database, job_id))["units"] == before == COST["TIER_4K"] * TOKEN // 4


async def test_priority_has_a_head_start_in_every_queue(database):
    for _ in range(3):
        await make_generation(database)
    ahead = await make_user(database)
    await subscribe(database, ahead)

    job_id = await make_generation(database, user_id=ahead)

    assert await claimed_ids(database, "gpu", most=1) == [job_id]


# caps


async def test_handed_over_job_needs_a_slot_again_and_comes_before_new_jobs_of_its_user(database):
    await set_caps(database, FREE=1)
    user = await make_user(database)
    image = await make_image(database, user)
    first, second = [await make_job(database, user_id=user, image_id=image, tier="FREE") for _ in range(2)]
    (held,) = await claim_jobs(database)
    assert held.job_id == first
    # virtual time of the other queue is far ahead
    await database.fetch("SELECT setval('darkroom.\"virtual_time_seq:gpu\"', 5000000000000)")

    await do(database, held, HandedOver("GENERATING", "gpu"))

    assert await claimed_ids(database, "default") == []
    assert await claimed_ids(database, "gpu") == [first]
    assert await claimed_ids(database, "default") == []
    assert (await queue_row(database, second))["held_by"] == "cap"


async def test_job_that_waits_to_be_due_in_another_queue_leaves_its_slot(database):
    await set_caps(database, FREE=1)
    user = await make_user(database)
    image = await make_image(database, user)
    jobs = [await make_job(database, user_id=user, image_id=image, tier="FREE") for _ in range(2)]
    (held,) = await claim_jobs(database)
    await do(database, held, Retried(held.stage, "busy", HOUR))
    await set_stage_queues(database, ANALYZING="cpu")

    await database.commit("move", lambda connection: move_page(connection, 0))

    assert await claimed_ids(database, "cpu") == [jobs[1]]
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
    await database.commit("wake", wake_due)
    assert await claimed_ids(database, "cpu") == []


# changed queues


async def test_waiting_jobs_are_moved_into_the_queues_of_their_stages(database):
    waiting, running = await make_generation(database), await make_generation(database)
    (held,) = [one for one in await claim_jobs(database, queue="gpu") if one.job_id == waiting]
    waiting, running = running, waiting
    await set_stage_queues(database, GENERATING="big")

    page = await database.commit("move", lambda connection: move_page(connection, 0))

    assert page.moved == 1
    assert (await queue_row(database, running))["queue"] == "gpu"
    assert await claimed_ids(database, "big") == [waiting]
    await do(database, held, Released("GENERATING"))
    assert await database.commit("empty", empty_old_queues) == 1
    assert await claimed_ids(database, "big") == [running]


async def test_job_that_the_database_refused_to_start_is_moved_and_tried_again(database):
    job = await make_generation(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET status = 'retrying', ready = false, refused_since = now(), refusals = 1,
               scheduled_at = now()"""
    )
    await set_stage_queues(database)

    assert await database.commit("empty", empty_old_queues) == 1
    assert await database.commit("empty", empty_old_queues) == 0

    claimed = await claim_refused(database, await make_worker(database), "default", 5, {})
    assert [one.job_id for one in claimed.claims] == [job]


async def test_refused_job_takes_no_turn_of_its_old_queue_into_another(database):
    await make_generation(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET status = 'retrying', ready = false, refused_since = now(), refusals = 1,
               scheduled_at = now(), position = position + 200000000000"""
    )
    await set_stage_queues(database)
    heavy = await make_user(database)
    for _ in range(20):
        await make_generation(database, user_id=heavy, tier="FREE")
    await database.commit("empty", empty_old_queues)

    await claim_refused(database, await make_worker(database), "default", 5, {})
    newcomer = await make_generation(database, tier="FREE")

    assert newcomer in await claimed_ids(database, "default", most=3)


async def test_paused_and_capped_jobs_are_moved_too(database):
    await set_caps(database, FREE=1)
    user = await make_user(database)
    jobs = [await make_generation(database, user_id=user, tier="FREE") for _ in range(2)]
    await database.fetch(
        "UPDATE darkroom.job_queue SET held_by = NULL, paused_by = 'tier:FREE' WHERE job_id = $1", jobs[0]
    )
    await set_stage_queues(database)

    assert (await database.commit("move", lambda connection: move_page(connection, 0))).moved == 2

    assert await claimed_ids(database, "default") == jobs[:1]


async def test_job_is_adopted_into_the_queue_where_it_stands(database):
    job_id = await make_job(database, currentStage="GENERATING")
    await database.fetch("DELETE FROM darkroom.job_queue")

    assert await adopt_jobs(database) == (1, 0)

    assert await claimed_ids(database, "gpu") == [job_id]


async def test_queues_that_nobody_serves_are_known(database):
    await make_worker(database)
    await make_generation(database)

    await make_generation(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 h'
           WHERE id = (SELECT max(id) FROM darkroom.job_queue)"""
    )

    assert [(one.queue, one.waiting) for one in await database.run(unserved_queues)] == [("gpu", 1)]
    await make_worker(database, queues=["gpu"])
    assert await database.run(unserved_queues) == []


async def test_pause_of_a_queue_stops_only_its_stages_and_prolongs_every_wait(database):
    await database.fetch(
        """INSERT INTO darkroom.settings (key, value) VALUES ('pauses', $1)""", {"queue:gpu": {"at": "2026-01-01"}}
    )
    analyzed = await make_job(database)
    await make_generation(database)

    assert await claimed_ids(database, "gpu") == []
    assert await claimed_ids(database, "default") == [analyzed]
    times = await database.fetchval("SELECT darkroom.paused_times('default', 'enhance', 'TIER_1K', '[]')::text")
    assert times.startswith('{["2026-01-01')


async def test_unrelated_serializable_producers_of_another_queue_do_not_fail(database, connect):
    users = [await make_user(database) for _ in range(2)]
    connections = [await connect(), await connect()]
    transactions = [one.transaction(isolation="serializable") for one in connections]
    for transaction in transactions:
        await transaction.start()
    for number, connection in enumerate(connections):
        await connection.execute(GENERATION, f"one{number}", users[number])
    for transaction in transactions:
        await transaction.commit()

    assert len(await claimed_ids(database, "gpu")) == 2


# runs


@pytest.fixture
def run(database, tmp_path, monkeypatch):
    """Run a claim to its recorded end by stages that only note their names; return these names."""
    noted = []

    def stage(name):
        async def note(_context):
            noted.append(name)

        return Stage(name, note, output=object, deadline_s=60)

    names = ("ANALYZING", "MEASURING", "GENERATING")
    monkeypatch.setitem(JOB_TYPES, "enhance", JobType("enhance", tuple(map(stage, names))))
    monkeypatch.setitem(JOB_TYPES, "generate", JobType("generate", (stage("GENERATING"),)))
    runner = make_runner(database, tmp_path, None, stage_queues=StageQueues({"GENERATING": "gpu"}))

    async def run_claim(held):
        noted.clear()
        await asyncio.wait_for(runner.run_job(RunningJob(held)), HANGS_AFTER_S)
        return list(noted)

    return run_claim


async def test_run_is_handed_over_and_the_next_one_goes_on_where_it_stood(database, run):
    held = await make_claim(database)

    assert await run(held) == ["ANALYZING", "MEASURING"]

    row = await queue_row(database, held.job_id)
    assert (row["queue"], row["stage"], row["status"], row["attempts"]) == ("gpu", "GENERATING", "pending", 0)
    (again,) = await claim_jobs(database, queue="gpu")
    assert await run(again) == ["GENERATING"]
    assert (await job_row(database, held.job_id))["status"] == "COMPLETED"


async def test_job_in_the_wrong_queue_is_handed_over_before_its_stage_begins(database, run):
    job_id = await make_generation(database)
    await database.fetch("UPDATE darkroom.job_queue SET queue = 'default'")
    (held,) = await claim_jobs(database)

    assert await run(held) == []

    row = await queue_row(database, job_id)
    assert (row["queue"], row["attempts"]) == ("gpu", 0)


async def test_job_whose_worker_died_before_the_hand_over_is_handed_over_by_the_next(database, run):
    held = await make_claim(database)
    await do(
        *(database, held, Checkpoint("ANALYZING", "MEASURING", 60, 1)),
        Checkpoint("MEASURING", "GENERATING", 60, 1, kept=Kept(None)),
    )
    await database.fetch("DELETE FROM darkroom.workers")
    await rescue_lost_claims(database, None)
    (second,) = await claim_jobs(database)

    assert await run(second) == []

    row = await queue_row(database, held.job_id)
    assert (row["queue"], row["stage"], row["attempts"]) == ("gpu", "GENERATING", 1)
    assert row["suspect_of"] is not None


async def test_hand_over_that_the_database_refuses_sets_the_job_aside(database, run):
    held = await make_claim(database)
    await database.fetch(
        """CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'not back to the queue'; END $$"""
    )
    await database.fetch(
        """CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs FOR EACH ROW
           WHEN (NEW.status = 'PENDING' AND OLD.status = 'PROCESSING') EXECUTE FUNCTION public.app_rule()"""
    )

    await run(held)

    row = await queue_row(database, held.job_id)
    assert (row["status"], row["attempts"], row["stage"]) == ("retrying", 0, "GENERATING")
    assert "not back to the queue" in row["last_error"]
