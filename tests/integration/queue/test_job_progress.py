"""darkroom.job_progress: places under the fair order, what is said of each state of a job, and how little is read."""

import random
from datetime import timedelta
from itertools import pairwise

import asyncpg
import pytest

from config.job_terms import LONE_STAGES, STAGES
from models.gate.recorded_rules import record_provider_rules
from models.queue.checkpoints import checkpoint
from models.queue.pauses import hold_paused
from models.queue.transitions import Retried, Snoozed, record
from models.queue.waiting import queued_job
from pipelines.job_types import stage_names
from tests.integration.queue.test_caps import make_jobs, set_caps
from tests.integration.queue.test_fair_order import new_user, submit
from tests.support.builders import (
    claim_jobs,
    make_generation,
    make_image,
    make_job,
    make_user,
    make_worker,
    new_id,
    queue_row,
    set_status,
)

ASK = "SELECT * FROM darkroom.job_progress($1)"
ROWS_READ = """
SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint FROM pg_stat_xact_user_tables
WHERE schemaname = 'darkroom' AND relname = 'job_queue'
"""
SET = """
INSERT INTO darkroom.settings (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
STAGE_RUN = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, duration_ms)
SELECT 'enhance', 'earlier' || n, 'finished', s, 1, 1000 + n FROM generate_series(1, 30) n, unnest($1::text[]) s
"""
MANY = """
INSERT INTO public.image_enhancement_jobs
    (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt")
SELECT $1 || lpad(n::text, 6, '0'), $2, $1, 'FREE', 0, 'PENDING', timestamp '2026-01-01' + n * interval '1 ms', now()
FROM generate_series(1, $3) n
"""
EMPTY = ("place", "eta_s", "eta_50_low_s", "eta_50_high_s", "eta_90_low_s", "eta_90_high_s")


async def ask(database, job_id):
    return await database.fetchrow(ASK, job_id)


def is_unknown(row):
    return all(row[name] is None for name in EMPTY if name != "place")


def is_in_order(row):
    times = [row[name] for name in ("eta_90_low_s", "eta_50_low_s", "eta_s", "eta_50_high_s", "eta_90_high_s")]
    return times[0] > 0 and times == sorted(times)


@pytest.fixture
async def history(database):
    """Runs of all stages of enhancements, each of about a second, in the roll-ups."""
    await database.fetch(STAGE_RUN, list(STAGES))
    while not await database.fetchval("SELECT is_done FROM darkroom.roll_up_stage_runs(1000)"):
        pass


def test_stages_that_estimates_know_are_those_of_the_registry():
    assert set(stage_names()) == {*STAGES, *LONE_STAGES}


@pytest.mark.parametrize("seed", range(3))
async def test_places_are_the_order_in_which_jobs_are_claimed(database, seed):
    dice = random.Random(seed)
    users = [await new_user(database, dice.choice(["FREE", "BASIC", "PREMIUM"])) for _ in range(5)]
    for _ in range(6):
        await submit(database, dice.choices(users, k=dice.randint(1, 8)), "TIER_1K")
        await claim_jobs(database, most=2)
    waiting = [row["job_id"] for row in await database.fetch("SELECT job_id FROM darkroom.job_queue WHERE ready")]

    places = {job: (await ask(database, job))["place"] for job in waiting}

    claimed = [claim.job_id for claim in await claim_jobs(database, most=len(waiting))]
    assert [places[job] for job in claimed] == list(range(1, len(waiting) + 1))


async def test_place_of_a_job_under_a_cap_counts_all_that_stand_before_it(database):
    users = [await new_user(database) for _ in range(3)]
    await set_caps(database, FREE=1)
    await submit(database, users * 4)
    await claim_jobs(database, most=1)
    rows = await database.fetch(
        "SELECT job_id, held_by FROM darkroom.job_queue WHERE status = 'pending' ORDER BY position, id"
    )
    assert {row["held_by"] for row in rows} == {None, "cap"}

    assert [(await ask(database, row["job_id"]))["place"] for row in rows] == list(range(1, 12))


async def test_waiting_job_has_an_estimate_and_says_what_it_assumes(database, history):
    await make_worker(database)
    await make_worker(database)
    for _ in range(2):
        await make_job(database)
    job = await make_job(database)

    row = await ask(database, job)

    assert (row["status"], row["stage"], row["attempt"], row["place"]) == ("PENDING", "ANALYZING", 0, 3)
    assert is_in_order(row)
    assert 2 < row["eta_s"] < 8
    assert row["waits_for"] == "2 jobs before it; 8 lanes; 2 workers"


async def test_estimate_grows_with_what_is_before_the_job(database, history):
    await make_worker(database)
    jobs = [await make_job(database) for _ in range(60)]

    asked = [(await ask(database, job))["eta_s"] for job in jobs[::6]]

    assert asked == sorted(asked)
    assert 0.75 < asked[-1] / (4 * 55 / 4) < 1.25


async def test_running_job_has_an_estimate_and_no_place(database, history):
    job = await make_job(database)
    await claim_jobs(database)

    row = await ask(database, job)

    assert (row["status"], row["attempt"], row["place"], row["waits_for"]) == ("PROCESSING", 1, None, None)
    assert is_in_order(row)
    assert row["eta_s"] < 8


async def test_estimate_of_a_running_job_counts_the_stages_that_are_left(database, history):
    job = await make_job(database)
    (claim,) = await claim_jobs(database)
    whole = (await ask(database, job))["eta_s"]
    for stage, following in pairwise(STAGES[:3]):
        done = checkpoint("enhance", stage, None, following=following, deadline_s=60, duration_ms=1)
        await database.run(lambda connection, done=done: record(connection, claim, done))

    row = await ask(database, job)

    assert row["stage"] == STAGES[2]
    assert row["eta_s"] < 0.75 * whole


async def test_job_that_nothing_is_known_of_says_so(database):
    await make_worker(database)

    row = await ask(database, await make_job(database))

    assert is_in_order(row)
    assert "10 s a stage, since none like it has run lately" in row["waits_for"]


async def test_without_a_worker_there_is_a_place_and_no_estimate(database):
    row = await ask(database, await make_job(database))

    assert (row["place"], is_unknown(row)) == (1, True)
    assert row["waits_for"] == "no live worker serves queue default; 0 jobs before it"


async def test_job_that_waits_for_its_position_has_a_place(database, history, foreign):
    await make_worker(database)
    user = await make_user(database)
    image = await make_image(database, user)
    async with foreign.transaction(isolation="serializable"):
        await foreign.execute(MANY, user, image, 1)
    job = f"{user}000001"
    assert (await queue_row(database, job))["held_by"] == "tag"

    row = await ask(database, job)

    assert row["place"] == 1
    assert is_in_order(row)


async def test_job_at_its_cap_waits_for_the_jobs_of_its_user(database, history):
    await set_caps(database, FREE=1)
    worker = await make_worker(database)
    user = await make_jobs(database, 3)
    await claim_jobs(database, worker)
    last = await database.fetchval("SELECT job_id FROM darkroom.job_queue ORDER BY position DESC LIMIT 1")

    row = await ask(database, last)

    assert row["place"] == 2
    assert row["eta_s"] > 8, "two jobs of four seconds come before it, although three lanes are free"
    assert row["waits_for"].endswith("at most 1 job of its user at a time")
    assert user not in row["waits_for"]


async def test_scheduled_job_begins_at_its_time(database, history):
    await make_worker(database)
    user = await make_user(database)
    image = await make_image(database, user)
    job = await database.fetchval(
        "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', run_at => now() + interval '1 hour')", user, image
    )

    row = await ask(database, job)

    assert row["place"] is None
    assert 3_600 < row["eta_s"] < 3_700
    assert 3_590 < row["eta_90_low_s"] <= row["eta_50_low_s"]
    assert is_in_order(row)
    assert row["waits_for"].startswith("it may begin at 2")


@pytest.mark.parametrize(
    "transition",
    [Retried("ANALYZING", "again", timedelta(minutes=5)), Snoozed("ANALYZING", "busy", timedelta(minutes=5))],
)
async def test_job_that_waits_for_another_attempt_has_an_estimate_from_then_on(database, history, transition):
    job = await make_job(database)
    (claim,) = await claim_jobs(database)
    await database.run(lambda connection: record(connection, claim, transition))

    row = await ask(database, job)

    assert row["place"] is None
    assert 300 < row["eta_s"] < 320
    assert row["waits_for"].startswith("it is tried again at 2")


@pytest.mark.parametrize("name", ["queue:default", "type:enhance", "tier:TIER_1K"])
@pytest.mark.parametrize("is_held", [False, True])
async def test_paused_job_keeps_its_place_and_has_no_estimate(database, history, name, is_held):
    await make_worker(database)
    await make_generation(database, tier="FREE")
    job = await make_job(database)
    await database.fetch(SET, "pauses", {name: {"reason": "secret"}})
    if is_held:
        await database.run(lambda connection: hold_paused(connection, "default"))

    row = await ask(database, job)

    assert (row["place"], is_unknown(row)) == (2, True)
    kind, _, what = name.partition(":")
    assert row["waits_for"].startswith(f"an operator paused {kind} {what}; 1 job before it")
    assert "secret" not in row["waits_for"]


async def test_jobs_of_a_paused_tier_arent_counted(database, history):
    await make_worker(database)
    await make_job(database, tier="TIER_4K")
    job = await make_job(database)
    await database.fetch(SET, "pauses", {"tier:TIER_4K": {}})

    assert (await ask(database, job))["place"] == 1


async def known_providers(database, **rules):
    providers = [{"name": "gemini", "is_paid": True, "rules": rules}]
    await database.run(lambda connection: record_provider_rules(connection, providers))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pauses", {"provider:gemini": {}}, "an operator paused provider gemini"),
        ("buying", {"stopped": True}, "buying is stopped"),
    ],
)
async def test_job_whose_provider_is_stopped_has_no_estimate(database, history, key, value, words):
    await make_worker(database)
    await known_providers(database)
    job = await make_job(database)
    await database.fetch(SET, key, value)

    row = await ask(database, job)

    assert (row["place"], is_unknown(row)) == (1, True)
    assert words in row["waits_for"]


async def test_estimate_knows_the_providers_limits(database, history):
    await make_worker(database)
    await known_providers(database, requests_per_minute=2, first_concurrency=1, concurrency=3)
    jobs = [await make_job(database) for _ in range(4)]

    row = await ask(database, jobs[-1])

    assert row["eta_s"] > 120
    assert row["waits_for"].endswith("gemini at most 1 call at a time; gemini at most 2 calls a minute")


async def test_job_whose_provider_wants_to_be_left_alone_waits_for_it(database, history):
    await make_worker(database)
    await known_providers(database)
    job = await make_job(database)
    soon = await database.fetchval("SELECT (now() + interval '50 s')::text")
    await database.fetch(
        "INSERT INTO darkroom.limits (scope, name, state) VALUES ('provider', 'gemini', $1)", {"paused_until": soon}
    )

    row = await ask(database, job)

    assert row["eta_s"] > 50
    assert "gemini takes no calls for 50 s" in row["waits_for"]


async def test_refused_job_has_neither_place_nor_estimate(database, history):
    await make_worker(database)
    job = await make_job(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET status = 'retrying', ready = false, refusals = 1, refused_since = now(),
               scheduled_at = now() + interval '1 minute'"""
    )

    row = await ask(database, job)

    assert (row["place"], is_unknown(row)) == (None, True)
    assert row["waits_for"].startswith("the database refuses to start it")


async def test_suspect_has_neither_place_nor_estimate_and_stands_in_nobodys_way(database, history):
    worker = await make_worker(database)
    job, other = await make_job(database), await make_job(database)
    await database.fetch("UPDATE darkroom.job_queue SET suspect_of = $1 WHERE job_id = $2", worker, job)

    row = await ask(database, job)

    assert (row["place"], is_unknown(row)) == (None, True)
    assert row["waits_for"].startswith("it runs alone, in a worker process that runs nothing else")
    assert (await ask(database, other))["place"] == 1


async def test_job_of_a_dead_worker_has_no_estimate(database, history):
    job = await make_job(database)
    (claim,) = await claim_jobs(database)
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() WHERE id = $1", claim.worker_id)

    row = await ask(database, job)

    assert (row["status"], row["place"], is_unknown(row)) == ("PROCESSING", None, True)
    assert row["waits_for"] == "its worker is dead: it is about to be taken back"


@pytest.mark.parametrize("status", ["CANCELLED", "FAILED"])
async def test_job_that_is_over_has_a_status_and_its_last_attempt(database, status):
    job = await make_job(database)
    await claim_jobs(database)
    await set_status(database, job, status)

    row = await ask(database, job)

    assert (row["status"] in {status, "REFUNDED"}, row["attempt"], row["stage"], row["waits_for"]) == (
        *(True, 1, None, None),
    )
    assert row["place"] is None
    assert is_unknown(row)


async def test_nobodys_id_has_no_row(database):
    assert await database.fetch(ASK, "nobody's") == []


async def test_job_of_the_other_table_has_place_and_estimate(database, history):
    await make_worker(database)
    await make_job(database)

    row = await ask(database, await make_generation(database))

    assert (row["place"], row["stage"]) == (2, "GENERATING")
    assert is_in_order(row)


async def test_job_without_a_queue_row_says_so(database):
    job = await make_job(database)
    await database.fetch("DELETE FROM darkroom.job_queue")

    row = await ask(database, job)

    assert (row["status"], row["place"], is_unknown(row)) == ("PENDING", None, True)
    assert row["waits_for"] == "it is in no queue: a scheduler is about to add it or to end it"


@pytest.mark.parametrize("caps", [{}, {"FREE": 1}])
async def test_no_call_reads_more_rows_than_a_place_needs(database, foreign, history, caps):
    await make_worker(database)
    user = await make_user(database)
    if caps:
        await set_caps(database, **caps)
    await database.fetch(MANY, user, await make_image(database, user), 10_050)
    if caps:
        await database.run(lambda connection: connection.execute("SELECT darkroom.admit()"))

    async def look(job):
        async with foreign.transaction():
            before = await foreign.fetchval(ROWS_READ)
            row = await foreign.fetchrow(ASK, job)
            return row, await foreign.fetchval(ROWS_READ) - before

    for number, place in ((1, 1), (5_000, 5_000), (10_001, 10_001), (10_002, None), (10_050, None)):
        row, read = await look(f"{user}{number:06}")
        assert row["place"] == place
        assert read <= 10_001 + 1, "its own row, and those before it"
        assert (row["eta_s"] is None) == (row["place"] is None)
        if place is None:
            assert "more than 10,000 jobs before it" in row["waits_for"]
    row, read = await look(await make_job(database))
    assert row["place"] <= 3
    assert read < 20


@pytest.mark.parametrize("caps", [{}, {"FREE": 1}])
async def test_why_a_job_waits_is_told_from_no_more_rows_than_its_place(database, foreign, caps):
    await make_worker(database)
    user = await make_user(database)
    if caps:
        await set_caps(database, **caps)
    await database.fetch(MANY, user, await make_image(database, user), 10_050)
    await database.run(lambda connection: connection.execute("SELECT darkroom.admit()"))

    for number, before in ((1, 0), (10_001, 10_000), (10_002, None), (10_050, None)):
        async with foreign.transaction():
            earlier = await foreign.fetchval(ROWS_READ)
            queued = await queued_job(foreign, f"{user}{number:06}")
            read = await foreign.fetchval(ROWS_READ) - earlier
        assert read <= 10_001 + 1, "its own row, and those before it"
        assert queued.before_it == (before if not caps else 0)
        assert queued.users_slots == (1 if caps and number > 1 else 0)


async def test_newcomers_are_told_by_how_long_they_waited_for_their_first_claim(database, history):
    worker = await make_worker(database)
    await make_job(database)
    await claim_jobs(database, worker, most=1)
    await database.fetch(
        """UPDATE darkroom.job_queue SET created_at = now() - interval '1 hour',
               claimed_at = now() - interval '1 hour' + interval '2 s', started_at = now() - interval '5 s'"""
    )
    user = await new_user(database)
    await submit(database, [user] * 3)

    facts = await database.fetchval(
        "SELECT darkroom.facts_of_wait(q) FROM darkroom.job_queue q ORDER BY position DESC, id DESC LIMIT 1"
    )

    assert facts["pools"][0]["newcomers"] == [2]


async def test_job_that_goes_on_in_another_queue_holds_its_lane_for_the_stages_before(database, history):
    await make_worker(database)
    jobs = [await make_job(database) for _ in range(41)]
    whole = (await ask(database, jobs[-1]))["eta_s"]
    await database.fetch(SET, "stage_queues", {"GENERATING": "gpu"})

    row = await ask(database, jobs[-1])

    assert row["eta_s"] < 0.85 * whole, "three of four stages of a second each are before the lane is free"
    assert row["waits_for"].endswith("no wait in queue gpu, where it goes on")


@pytest.fixture
async def reader(database, connect):
    """Another program's connection, whose role may poll and has no other right on anything."""
    role = new_id("poller_")
    await database.fetch(f"CREATE ROLE {role}")
    await database.fetch("SELECT darkroom.grant_read_to($1)", role)
    connection = await connect()
    await connection.execute(f"SET ROLE {role}")
    yield connection
    connection.terminate()
    await database.fetch(f"DROP OWNED BY {role}")
    await database.fetch(f"DROP ROLE {role}")


async def test_reader_may_ask_for_progress_and_for_nothing_behind_it(database, reader, history):
    job = await make_job(database)

    assert (await reader.fetchrow(ASK, job))["place"] == 1
    for forbidden in (
        "SELECT * FROM darkroom.estimates",
        "SELECT darkroom.scores(true, 1, 0, now())",
        "SELECT darkroom.facts_of_providers()",
        "SELECT darkroom.make_estimates(1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(forbidden)
