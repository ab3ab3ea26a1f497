"""`darkroom worker --drain`: which jobs it waits for, which it leaves, and that it ends."""

import json
import os
import signal
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from models.database import Database
from models.gate.provider_calls import CallPlan, Refused, open_call
from models.queue.transitions import Snoozed, record
from pipelines.errors import ThrottledError
from pipelines.settings import load_settings
from tests.support.builders import claim_jobs, make_job
from tests.support.calling import Arrange, Darkroom
from workers.gate.refusals import refusal_of
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


async def put_off_by_gate(database: Database, budgets: dict[str, float], price_usd: float) -> str:
    """Let the gate refuse a job's call, and put the job off as its worker does."""
    await make_job(database)
    (claim,) = await claim_jobs(database)
    plan = CallPlan("gemini", "generate", may_be_paid=True, price_usd=Decimal(price_usd), rules={"budgets": budgets})
    refused = await database.run(lambda connection: open_call(connection, claim, plan))
    assert isinstance(refused, Refused)
    error = refusal_of("gemini", refused, refuses_over_budget=False)
    assert isinstance(error, ThrottledError)
    snoozed = Snoozed("GENERATING", str(error), error.retry_after)
    await database.run(lambda connection: record(connection, claim, snoozed))
    return claim.job_id


@pytest.mark.parametrize(
    ("budgets", "price_usd", "is_done"),
    [
        ({"total_usd": 0.0}, 1, True),
        ({"total_usd": 0.5}, 1, True),  # what is left of it is less than the call's price
        ({"total_calls": 0}, 0, True),
        ({"day_usd": 0.0}, 1, False),  # tomorrow there is another
    ],
)
def test_drain_leaves_what_a_budget_without_a_period_puts_off_and_logs_it(
    darkroom: Darkroom, arrange: Arrange, budgets: dict[str, float], price_usd: float, *, is_done: bool
) -> None:
    job_id = arrange(lambda db: put_off_by_gate(db, budgets, price_usd))
    settings = load_settings(os.environ | {"DARKROOM_BUDGETS": json.dumps(budgets), "PROVIDER": "gemini"})

    async def look(database: Database) -> bool:
        drain = Drain(settings, database, ["default"])
        done = await drain.is_done()
        drain.log_left()
        return done

    with capture_logs() as logged:
        assert arrange(look) is is_done

    left = [(line["jobs"], line["job_ids"]) for line in logged if line["event"] == "drain_left_jobs"]
    assert left == ([(1, [job_id])] if is_done else [])


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
