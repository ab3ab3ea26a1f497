"""The lanes that a load needs, against formulas that are known and a simulation of jobs in front of lanes."""

import math

import pytest

from bench.plan import p95, simulate
from models.queue.stage_times import StageTime
from workers.operations.capacity import (
    MOST_BUSY,
    Load,
    lanes_for,
    load_of,
    most_jobs_per_s,
    plan,
    wait_s,
    waiting_fraction,
)


def test_one_lane_has_the_waits_of_m_m_1():
    load = Load(0.8, 1.0, 1.0)

    assert waiting_fraction(load, 1) == pytest.approx(0.8)
    assert wait_s(load, 1) == pytest.approx(math.log(0.8 / 0.05) / 0.2)


def test_erlangs_formula_c_gives_a_published_value():
    # 100 calls of 3 minutes in half an hour are 10 erlangs; with 14 agents 17.4 % wait (Erlang C, call centre tables)
    assert waiting_fraction(Load(10.0, 1.0, 1.0), 14) == pytest.approx(0.174, abs=0.001)


def test_more_jobs_than_lanes_can_do_wait_for_ever():
    assert wait_s(Load(5.0, 1.0, 1.0), 5) == math.inf


@pytest.mark.parametrize(("lanes", "busy", "variability"), [(4, 0.8, 0.5), (16, 0.9, 1.0), (32, 0.9, 0.5)])
def test_predicted_wait_is_that_of_a_simulation(lanes, busy, variability):
    load = Load(busy * lanes, 1.0, variability)

    waits, was_busy = simulate(load, lanes, 60_000, seed=1)

    assert wait_s(load, lanes) == pytest.approx(p95(waits), rel=0.3)
    assert was_busy == pytest.approx(busy, abs=0.02)


@pytest.mark.parametrize("busy_lanes", [0.3, 2.0, 11.5, 300.0])
def test_planned_lanes_are_the_fewest_that_keep_the_wait(busy_lanes):
    load = Load(busy_lanes, 1.0, 0.5)

    lanes = lanes_for(load, 0.5)

    assert wait_s(load, lanes) <= 0.5
    assert lanes == 1 or wait_s(load, lanes - 1) > 0.5 or busy_lanes > MOST_BUSY * (lanes - 1)
    assert busy_lanes <= MOST_BUSY * lanes


def test_jobs_that_lanes_stand_at_most_are_those_they_were_planned_for():
    load = Load(10.0, 2.0, 0.5)
    lanes = lanes_for(load, 1.0)

    most = most_jobs_per_s(load, lanes, 1.0)

    assert load.jobs_per_s <= most < lanes / load.service_s
    assert lanes_for(Load(most, 2.0, 0.5), 1.0) == lanes


def test_variances_of_stages_add_up():
    load = load_of([StageTime("A", 1, 3.0, 1.0, "tier"), StageTime("B", 1, 1.0, 0.0, "tier")], 1.0)

    assert (load.service_s, load.variability) == (4.0, 9 / 16)


def test_plan_counts_processes_connections_and_places():
    stages = [StageTime("CROPPING", 1, 1.0, 1.0, "tier"), StageTime("GENERATING", 1, 9.0, 1.0, "tier")]

    need = plan(
        stages,
        jobs_per_day=86_400,
        peak=10,
        most_wait_s=30,
        lanes_each=64,
        connections_each=5,
        connections_beside=3,
        calling=("GENERATING",),
    )

    assert 100 < need.lanes < 110
    assert (need.processes, need.connections) == (2, 13)
    assert 90 < need.provider_places < need.lanes + 20
    assert need.calls_per_minute == 600
    assert need.most_jobs_per_hour > 36_000
