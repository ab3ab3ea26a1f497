"""The arithmetic of estimates, beside what can be derived or drawn, and how estimates learn from their errors."""

import math
import random
from statistics import median

import pytest

from models.periodic.estimates import make_estimates, score_estimates
from tests.integration.queue.test_job_progress import SET, history
from tests.support.builders import claim_jobs, make_job, make_worker, set_status

__all__ = ["history"]

ESTIMATE = "SELECT * FROM darkroom.estimate($1)"
WAIT = "SELECT * FROM darkroom.lane_wait($1)"
RANGE = "SELECT * FROM darkroom.estimate_range(100, 0.5, $1::float8[])"
MEAN_S, DEVIATION_S = 10, 4


def pool(lanes, jobs, running, *, deviation_s=DEVIATION_S, **more):
    """Return a pool of alike jobs, some of which run since so many seconds."""
    return {
        "lanes": lanes,
        "jobs": jobs,
        "mean": MEAN_S,
        "variance": deviation_s**2,
        "running": [[MEAN_S, deviation_s**2, elapsed_s, 1] for elapsed_s in running],
        **more,
    }


def drawn_wait(dice, lanes, jobs, running):
    """Return when a lane is free for a job behind others, in one drawn case."""
    sigma = math.sqrt(math.log(1 + (DEVIATION_S / MEAN_S) ** 2))

    def draw():
        return math.exp(dice.gauss(math.log(MEAN_S) - sigma**2 / 2, sigma))

    def rest(elapsed_s):
        while (took_s := draw()) <= elapsed_s:
            pass
        return took_s - elapsed_s

    free = sorted([rest(elapsed_s) for elapsed_s in running] + [0.0] * (lanes - len(running)))
    for _ in range(jobs):
        free = sorted([*free[1:], free[0] + draw()])
    return free[0]


@pytest.mark.parametrize(
    ("lanes", "jobs", "busy"), [(1, 0, 1), (1, 5, 1), (4, 0, 4), (4, 30, 4), (64, 3, 64), (64, 200, 64), (8, 20, 2)]
)
async def test_wait_for_a_lane_is_that_of_many_drawn_cases(database, lanes, jobs, busy):
    dice = random.Random(lanes * 1_000 + jobs)
    running = [dice.uniform(0, MEAN_S) for _ in range(busy)]
    waits = [drawn_wait(dice, lanes, jobs, running) for _ in range(400)]

    row = await database.fetchrow(WAIT, pool(lanes, jobs, running))

    assert abs(row["wait_s"] - median(waits)) < max(0.12 * median(waits), 0.1 * MEAN_S)


async def test_free_lane_is_no_wait(database):
    row = await database.fetchrow(WAIT, pool(4, 2, [1.0]))

    assert (row["wait_s"], row["variance"]) == (0, 0)


async def test_no_lane_is_no_estimate(database):
    row = await database.fetchrow(ESTIMATE, {"own": [10, 4], "pools": [pool(0, 2, [])]})

    assert (row["median_s"], row["spread"]) == (None, None)


async def test_more_lanes_are_never_slower_and_more_jobs_never_faster(database):
    running = [1.0] * 4
    by_lanes = [(await database.fetchrow(WAIT, pool(n, 40, running)))["wait_s"] for n in (4, 5, 8, 16, 40)]
    by_jobs = [(await database.fetchrow(WAIT, pool(4, n, running)))["wait_s"] for n in (0, 1, 2, 5, 20, 100)]

    assert by_lanes == sorted(by_lanes, reverse=True)
    assert by_jobs == sorted(by_jobs)


async def test_newcomers_who_come_before_it_lengthen_a_wait(database):
    running = [5.0] * 8
    alone = (await database.fetchrow(WAIT, pool(8, 400, running)))["wait_s"]
    beside = (await database.fetchrow(WAIT, pool(8, 400, running, newcomers=[0.5] * 4)))["wait_s"]

    assert 1.8 < beside / alone < 2.2


async def test_jobs_that_their_users_caps_hold_back_are_waited_for_only_as_far_as_they_can_run(database):
    held = [[1, 1_000, 1]]  # a user who may run one job at a time
    row = await database.fetchrow(WAIT, pool(8, 80, [5.0] * 8, held=held))
    of_all = await database.fetchrow(WAIT, pool(8, 1_080, [5.0] * 8))

    assert row["wait_s"] < 0.15 * of_all["wait_s"]


async def test_long_running_job_is_expected_to_go_on_for_longer(database):
    asked = [(await database.fetchrow(ESTIMATE, {"own": [10, 100, elapsed]}))["median_s"] for elapsed in (0, 5, 100)]

    assert asked[1] < asked[0]
    assert asked[2] > asked[1]


async def test_ranges_are_those_of_a_normal_distribution_until_there_are_scores(database):
    row = await database.fetchrow(RANGE, [])

    assert row["eta_s"] == pytest.approx(100)
    assert math.log(row["eta_90_high_s"] / 100) / 0.5 == pytest.approx(1.3 * 1.645, abs=0.3)
    assert math.log(row["eta_50_low_s"] / 100) / 0.5 == pytest.approx(1.3 * -0.674, abs=0.1)


async def test_ranges_are_wide_as_long_as_few_errors_are_known(database):
    range_ = "SELECT * FROM darkroom.estimate_range(100, 0.1, $1::float8[])"
    dice = random.Random(1)

    first, some, many = [
        await database.fetchrow(range_, [dice.gauss(0, 1) for _ in range(number)]) for number in (0, 50, 300)
    ]

    assert (first["eta_90_low_s"], first["eta_90_high_s"]) == pytest.approx((50, 200), rel=0.15)
    assert first["eta_90_high_s"] > some["eta_90_high_s"] > many["eta_90_high_s"]
    assert many["eta_90_high_s"] < 125


async def test_ranges_become_those_of_the_scores(database):
    dice = random.Random(1)
    row = await database.fetchrow(RANGE, [dice.gauss(1, 3) for _ in range(300)])

    assert math.log(row["eta_s"] / 100) / 0.5 == pytest.approx(1, abs=0.6)
    assert math.log(row["eta_90_high_s"] / 100) / 0.5 == pytest.approx(1 + 1.645 * 3, abs=1)


async def test_estimates_are_scored_once_their_jobs_are_over(database, history):
    worker = await make_worker(database)
    job, cancelled = await make_job(database), await make_job(database)
    assert await database.run(lambda connection: make_estimates(connection, 20)) == 2
    assert await database.run(score_estimates) == 0
    await claim_jobs(database, worker, most=2)
    await database.fetch("UPDATE darkroom.estimates SET at = at - interval '100 s'")
    await set_status(database, job, "FAILED")
    await set_status(database, cancelled, "CANCELLED")

    assert await database.run(score_estimates) == 1

    (score,) = await database.fetchval("SELECT darkroom.scores(false, 10, 0, now())")
    (row,) = await database.fetch("SELECT * FROM darkroom.estimates WHERE job_id = $1", job)
    assert score == pytest.approx(math.log(100 / row["median_s"]) / row["spread"], rel=0.05)


SCORED = """
INSERT INTO darkroom.estimates (job_type, job_id, queue, is_running, at, median_s, spread, passed_s, ended_at, score)
SELECT 'enhance', 'scored' || n || '-' || $1::float8, 'default', false, now(), 100, 0.5, $2,
       now() - interval '1 hour', $1
FROM generate_series(1, 300) n
"""


async def test_estimates_learn_from_those_of_which_the_same_part_had_passed(database):
    await database.fetch(SCORED, 1.0, 0)  # as they entered
    await database.fetch(SCORED, 2.0, 100)  # halfway

    at_entry = await database.fetchval("SELECT darkroom.scores(false, 100, 0, now())")
    halfway = await database.fetchval("SELECT darkroom.scores(false, 100, 90, now())")

    assert (set(at_entry), set(halfway)) == ({1.0}, {2.0})


async def test_two_fifths_of_estimates_are_of_jobs_that_have_just_entered(database, history):
    await make_worker(database)
    earlier = [await make_job(database) for _ in range(30)]
    await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '5 minutes'")
    entered = {await make_job(database) for _ in range(2)}

    await database.run(lambda connection: make_estimates(connection, 5))

    made = {row["job_id"] for row in await database.fetch("SELECT job_id FROM darkroom.estimates")}
    assert entered <= made
    assert made & set(earlier)


async def test_estimate_that_a_pause_came_between_teaches_nothing(database, history):
    await make_worker(database)
    job = await make_job(database)
    await database.run(lambda connection: make_estimates(connection, 20))
    await database.fetch(SET, "pauses", {"queue:default": {"at": "2026-01-01T00:00:00Z"}})
    await set_status(database, job, "FAILED")

    assert await database.run(score_estimates) == 0
