"""`darkroom worker --drain`: which jobs it waits for, which it leaves, and that it ends."""

import signal

import pytest

from pipelines.settings import load_settings
from tests.support.builders import claim_jobs, make_job
from tests.support.calling import Arrange, Darkroom
from workers.operations.drain import Drain

LATER = "UPDATE darkroom.job_queue SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 hour'"
REFUSED = "UPDATE darkroom.job_queue SET refused_since = now(), refusals = 1"
OTHER_QUEUE = "UPDATE darkroom.job_queue SET queue = 'gpu'"


@pytest.mark.parametrize(
    ("statement", "words", "is_done"),
    [
        ("SELECT", (), False),
        (LATER, (), False),
        (LATER, ("queue", "pause", "--tier", "1k"), True),
        (REFUSED, (), True),
        (OTHER_QUEUE, (), True),
        ("SELECT", ("queue", "pause", "--queue", "default"), True),
        ("SELECT", ("queue", "pause", "--type", "enhance"), True),
        ("SELECT", ("queue", "pause", "--type", "blend"), False),
        ("SELECT", ("queue", "pause", "--provider", "local"), True),
        ("SELECT", ("queue", "pause", "--provider", "gemini"), False),
        ("SELECT", ("costs", "--stop"), False),  # what is free goes on
    ],
)
def test_drain_leaves_what_waits_for_an_operator(
    darkroom: Darkroom, arrange: Arrange, statement: str, words: tuple[str, ...], *, is_done: bool
) -> None:
    arrange(make_job)
    arrange(lambda db: db.fetch(statement))
    if words:
        assert darkroom(*words).code == 0

    def look(db):
        return Drain(load_settings(), db, ["default"]).is_done()

    assert arrange(look) is is_done


@pytest.mark.parametrize("words", [("queue", "pause", "--tier", "1k"), ("costs", "--stop")])
def test_drain_waits_for_a_job_that_runs_whatever_is_paused(
    darkroom: Darkroom, arrange: Arrange, words: tuple[str, ...]
) -> None:
    arrange(make_job)
    arrange(claim_jobs)
    assert darkroom(*words).code == 0

    assert not arrange(lambda db: Drain(load_settings(), db, ["default"]).is_done())


def test_drain_ends_with_code_0_once_all_jobs_but_the_paused_are_over(
    darkroom: Darkroom, arrange: Arrange, signals_restored: None
) -> None:
    ends, stays = arrange(make_job), arrange(lambda db: make_job(db, tier="TIER_4K"))
    darkroom("queue", "pause", "--tier", "4k")

    ran = darkroom("worker", "--drain", "--processes", "2")

    assert (ran.code, ran.out) == (0, "ready\n")
    assert [darkroom("jobs", "show", job, "--json").json["status"] for job in (ends, stays)] == ["REFUNDED", "PENDING"]
    assert darkroom("queue", "stats", "--json").json["workers"] == []


def test_drain_that_names_no_queue_is_a_usage_error(darkroom: Darkroom, signals_restored: None) -> None:
    assert darkroom("worker", "--drain", "--queues", ",").code == 2


@pytest.fixture
def signals_restored():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
