"""`darkroom jobs explain`: a job's history, and why it waits now."""

import asyncio
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, open_call
from models.queue.checkpoints import checkpoint
from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import Failed, Retried, Snoozed, record
from pipelines.errors import RequestRejectedError
from tests.support.builders import claim_jobs, make_job, make_user, make_worker, set_status
from tests.support.calling import Arrange, Darkroom
from workers.gate.call_outcomes import call_outcome


def explain(darkroom: Darkroom, job_id: str) -> Any:
    """Return the explanation, once as JSON and once for people, which must not fail."""
    shown, ran = darkroom("jobs", "explain", job_id), darkroom("jobs", "explain", job_id, "--json")
    assert (shown.code, ran.code, shown.err) == (0, 0, "")
    return ran.json


def waits(darkroom: Darkroom, job_id: str) -> dict[str, str]:
    return {wait["kind"]: wait["text"] for wait in explain(darkroom, job_id)["waits"]}


async def leave_beside_the_row(database: Database) -> str:
    """Let a job finish stages that its row has no column for: one left much, and one was switched off."""
    await make_job(database)
    (claim,) = await claim_jobs(database)
    for stage, output in (("CHECKING", {"all": "ä" + "x" * 900, "words": "wohl geformt"}), ("WEIGHING", None)):
        left = checkpoint("enhance", stage, output, following="GENERATING", deadline_s=60, duration_ms=1)
        await database.run(lambda connection, left=left: record(connection, claim, left))  # type: ignore[misc]
    return claim.job_id


def test_what_stages_left_beside_the_row_is_told_and_cut(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(leave_beside_the_row)

    told = [(one["stage"], one["text"]) for one in explain(darkroom, job_id)["timeline"] if one["event"] == "left"]

    assert told[1] == ("WEIGHING", "WEIGHING left nothing")
    assert told[0][1].startswith('CHECKING left {"all": "äxxx')
    assert told[0][1].endswith("x ...")
    assert len(told[0][1]) < 600


async def live_through_much(database: Database) -> str:
    """Let a job be bought a picture, lose its worker, be put off, fail and end."""
    job_id = await make_job(database)
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m-1", price_usd=Decimal("0.04"), images=1)

    async def attempt() -> Any:
        (claim,) = await claim_jobs(database)
        return claim

    async def buy(claim: Any) -> int:
        opened = await database.run(lambda connection: open_call(connection, claim, plan))
        assert isinstance(opened, Admitted)
        return opened.intent

    claim = await attempt()
    late = await buy(claim)
    await database.fetch("DELETE FROM darkroom.workers WHERE id = $1", claim.worker_id)
    await rescue_lost_claims(database, None)
    answered = CallOutcome("answered", may_be_paid=True, latency_ms=900, cost_usd=Decimal("0.05"), verdict="answered")
    await database.run(lambda connection: close_call(connection, late, answered))
    claim = await attempt()
    await buy(claim)
    await database.run(lambda connection: record(connection, claim, Snoozed(claim.stage, "busy", timedelta())))
    claim = await attempt()
    await database.run(lambda connection: record(connection, claim, Retried(claim.stage, "down", timedelta())))
    claim = await attempt()
    await database.run(lambda connection: record(connection, claim, Failed(claim.stage, "refused")))
    return job_id


def test_charge_follows_its_job_though_the_jobs_own_time_was_rounded_up(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch("""UPDATE public.image_enhancement_jobs SET "createdAt" = '2026-11-21 05:47:15.441'"""))
    arrange(lambda db: db.fetch("UPDATE darkroom.job_money SET at = '2026-11-21 05:47:15.4406Z'"))

    timeline = explain(darkroom, job_id)["timeline"]

    assert [(event["event"], event["at"][-5:]) for event in timeline] == [("submitted", ".441Z"), ("charge", ".441Z")]


def test_timeline_holds_everything_in_order(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(live_through_much)
    darkroom("jobs", "retry", job_id, "--reason", "once more")

    explanation = explain(darkroom, job_id)

    events = [event["event"] for event in explanation["timeline"]]
    assert events[:2] == ["submitted", "charge"]
    assert events[2:-4] == [
        *("claimed", "call_intended", "rescued", "call_closed"),
        *("claimed", "call_open", "snoozed", "claimed", "retried", "claimed"),
    ]
    assert sorted(events[-4:]) == ["ended", "failed", "operator", "refund"]
    text = "\n".join(event["text"] for event in explanation["timeline"])
    assert "too late: its claim had been taken away" in text
    assert "0.0500 USD" in text
    assert "never closed" in text
    assert "refunded 2 tokens; balance 100" in text
    assert "tried again by" in text
    assert [event["at"] for event in explanation["timeline"]] == sorted(
        event["at"] for event in explanation["timeline"]
    )
    assert (explanation["status"], explanation["waits"]) == ("REFUNDED", [])
    assert f"once its cause is mended, `darkroom jobs retry {job_id}`" in darkroom("jobs", "explain", job_id).out


async def buy(database: Database) -> str:
    """Let a job's worker begin a call and wait for the answer."""
    await make_job(database)
    (claim,) = await claim_jobs(database)
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m-1", images=1)
    await database.run(lambda connection: open_call(connection, claim, plan))
    return claim.job_id


def test_call_is_in_flight_while_its_worker_lives_and_then_never_closed(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(buy)

    def call() -> str:
        (text,) = (one["text"] for one in explain(darkroom, job_id)["timeline"] if one["event"] == "call_open")
        return str(text)

    waiting = call()
    arrange(lambda db: db.fetch("UPDATE darkroom.workers SET lease_expires_at = now()"))
    lost = call()

    assert re.search(r"generate by gemini m-1; in flight for \d\.\d s, by worker here pid 1$", waiting)
    assert lost.endswith("never closed: no worker waits for its answer any more, and it may have been paid")


async def be_refused_by_provider(database: Database) -> str:
    await make_job(database)
    (claim,) = await claim_jobs(database)
    plan = CallPlan("gemini", "analyze", may_be_paid=True, model="m-1")
    opened = await database.run(lambda connection: open_call(connection, claim, plan))
    assert isinstance(opened, Admitted)
    refused = call_outcome(RequestRejectedError("gemini 400: the request was rejected"), is_paid=True)
    await database.run(lambda connection: close_call(connection, opened.intent, refused, {}))
    return claim.job_id


def test_call_that_failed_is_told_in_plain_words(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(be_refused_by_provider)

    (text,) = (one["text"] for one in explain(darkroom, job_id)["timeline"] if one["event"] == "call_closed")
    shown = darkroom("jobs", "show", job_id).out

    assert re.fullmatch(r"call \d+: failed in 0.0 s: gemini 400: the request was rejected", text)
    assert "Error" not in shown
    assert "gemini 400: the request was rejected" in shown


def test_deleted_job_is_explained_by_what_is_left(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(live_through_much)
    arrange(lambda db: db.fetch("DELETE FROM public.users"))
    arrange(lambda db: db.fetch("DELETE FROM darkroom.provider_calls"))

    explanation = explain(darkroom, job_id)

    assert explanation["status"] is None
    assert [event["event"] for event in explanation["timeline"]].count("claimed") == 4


def test_job_whose_history_is_gone_is_explained_too(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(lambda db: make_job(db, status="COMPLETED"))

    assert [event["event"] for event in explain(darkroom, job_id)["timeline"]] == ["submitted", "ended"]


def test_unknown_job_fails_with_one_line(darkroom: Darkroom) -> None:
    ran = darkroom("jobs", "explain", "nosuch")

    assert (ran.code, ran.err) == (1, "darkroom: job nosuch not found; `darkroom jobs list` shows the newest\n")


def test_job_whose_worker_died_says_that_it_waits_to_run_alone(darkroom: Darkroom, arrange: Arrange) -> None:
    first, job_id = arrange(make_job), arrange(make_job)
    arrange(lambda db: claim_jobs(db, most=2))
    arrange(lambda db: db.fetch("DELETE FROM darkroom.workers"))
    arrange(lambda db: rescue_lost_claims(db, None))
    arrange(make_worker)

    found = waits(darkroom, job_id)
    counts = darkroom("queue", "stats", "--json").json["statuses"]

    assert first != job_id
    assert found == {
        "alone": (
            "it waits to run alone in a process, because its worker died at ANALYZING, and it isn't known which of "
            "that worker's jobs killed it"
        ),
        "turn": "its turn: 1 before it",
    }
    assert [(one["status"], one["count"]) for one in counts] == [("suspect", 2)]
    assert "2 suspect" in darkroom("status").out


def test_waiting_job_says_for_what(darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    first, job_id = arrange(make_job), arrange(make_job)
    alone = waits(darkroom, job_id)
    stopped = [
        darkroom("queue", "pause", "--tier", "1k", "--reason", "too dear"),
        darkroom("costs", "--stop", "--reason", "runaway"),
    ]
    assert [(ran.code, ran.err) for ran in stopped] == [(0, ""), (0, "")]
    arrange(make_worker)
    paused = waits(darkroom, job_id)

    assert first != job_id
    assert alone.keys() == {"no_worker", "turn"}
    assert alone["turn"] == "its turn: 1 before it"
    assert paused.keys() == {"paused", "gate", "turn"}
    assert "too dear" in paused["paused"]
    assert "darkroom queue resume --tier 1k" in paused["paused"]
    assert "buying is stopped: runaway" in paused["gate"]


def test_running_and_lost_and_put_off_jobs_say_so(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    (claim,) = arrange(claim_jobs)
    running = waits(darkroom, job_id)
    arrange(lambda db: db.fetch("DELETE FROM darkroom.workers"))
    lost = waits(darkroom, job_id)
    delay = timedelta(minutes=2)
    arrange(lambda db: db.run(lambda connection: record(connection, claim, Retried(claim.stage, "down", delay))))
    put_off = waits(darkroom, job_id)

    assert running.keys() == {"running"}
    assert "by worker here pid 1" in running["running"]
    assert "its worker is dead" in lost["lost"]
    assert put_off["scheduled"].endswith("down")


def test_job_held_by_another_program_says_so(darkroom: Darkroom, arrange: Arrange, database_url: str) -> None:
    job_id = arrange(make_job)

    async def hold() -> "asyncpg.Connection[asyncpg.Record]":
        holder = await asyncpg.connect(**parse_postgres_url(database_url).asyncpg_arguments())
        await holder.execute("SET application_name = 'dawdler'; BEGIN")
        await holder.execute("SELECT * FROM public.image_enhancement_jobs FOR UPDATE")
        return holder

    with asyncio.Runner() as dawdling:
        holder = dawdling.run(hold())
        held = waits(darkroom, job_id)["held"]
        dawdling.run(holder.close())

    assert "(dawdler)" in held


def test_job_outside_the_queue_and_cancelled_job(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(lambda db: make_job(db, user_id=None))
    arrange(lambda db: db.fetch("DELETE FROM darkroom.job_queue"))
    outside = waits(darkroom, job_id)
    arrange(lambda db: set_status(db, job_id, "CANCELLED"))

    assert outside.keys() == {"unqueued"}
    assert explain(darkroom, job_id)["timeline"][-1]["event"] in {"ended", "refund"}
    assert arrange(make_user)


def test_advice_names_a_paused_queue_as_it_is_written(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET queue = 'GPU'"))
    darkroom("queue", "pause", "--queue", "GPU")

    assert "`darkroom queue resume --queue GPU`" in waits(darkroom, job_id)["paused"]
