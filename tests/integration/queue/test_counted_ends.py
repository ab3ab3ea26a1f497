"""What a worker counts of ends: each once, after its commit, as the database has it."""

import asyncio
from datetime import timedelta

import pytest

from config.masking import SecretMask
from models.connections import DatabaseLostError
from models.queue.groups import GroupWriter
from models.queue.rescue import end_overdue_jobs, rescue_lost_claims
from models.queue.transitions import Completed, Failed, Released, Retried, Snoozed, record
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_worker,
    set_mode,
    set_status,
)
from tests.support.counted import counted
from workers.metrics.recording import Recording
from workers.running.job import Ending, RunningJob
from workers.running.outcomes import Outcome
from workers.running.record import Recorder

DONE = Completed("GENERATING", 1_500, {"outputWidth": 9})
FAILED = Failed("GENERATING", "too large", 20)
ENDS = ("jobs_finished_total", "attempts_ended_total", "fenced_writes_total", "refunds_total", "refunded_tokens_total")
COMPLETED = {("jobs_finished_total", "generate", "TIER_1K", "COMPLETED"): 1}
REFUNDED = {
    ("jobs_finished_total", "generate", "TIER_1K", "REFUNDED"): 1,
    ("refunds_total",): 1,
    ("refunded_tokens_total",): 2,
}


@pytest.fixture
def recording():
    return Recording()


@pytest.fixture
def recorder(database, recording):
    return Recorder(database, GroupWriter(database), SecretMask([]), recording)


async def claimed(database, **columns):
    return await make_claim(database, "generations", **columns)


def attempt(how):
    return {("attempts_ended_total", "GENERATING", how): 1}


@pytest.mark.parametrize(
    ("end", "tier", "expected"),
    [
        (DONE, "TIER_1K", COMPLETED),
        (FAILED, "TIER_1K", REFUNDED),
        (FAILED, "FREE", {("jobs_finished_total", "generate", "FREE", "FAILED"): 1}),
        (Retried("GENERATING", "busy", timedelta(hours=1), 20), "TIER_1K", attempt("retried")),
        (Snoozed("GENERATING", "busy", timedelta(hours=1), 20), "TIER_1K", attempt("snoozed")),
        (Released("GENERATING", 20), "TIER_1K", attempt("released")),
    ],
    ids=["completed", "refunded", "failed", "retried", "snoozed", "released"],
)
@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["answered", "answer lost"])
async def test_end_is_counted_once_as_the_database_has_it(
    database, recorder, recording, monkeypatch, end, tier, expected, is_answer_lost
):
    claim = await claimed(database, tier=tier)
    if is_answer_lost:
        lose_first_answer(database, monkeypatch, {"record_group", "record_failed"})

    await recorder.record(RunningJob(claim), Outcome(end))

    assert counted(recording, *ENDS) == expected


def lose_first_answer(database, monkeypatch, names):
    """Let the first commit with one of some names be committed and its answer be lost."""
    commit, lost = database.commit, []

    async def losing(name, work, **options):
        found = await commit(name, work, **options)
        if name in names and not lost:
            lost.append(name)
            raise DatabaseLostError(ConnectionResetError("the answer got lost"))
        return found

    monkeypatch.setattr(database, "commit", losing)


async def test_refund_that_the_producer_charged_is_counted_by_what_was_paid(database, recorder, recording):
    await set_mode(database, "producer")
    claim = await claimed(database, tier="TIER_4K")

    await recorder.record(RunningJob(claim), Outcome(FAILED))

    assert counted(recording, "refunded_tokens_total") == {("refunded_tokens_total",): 10}
    assert await balance_of(database, claim.user_id) == 110


async def test_result_whose_job_is_told_to_stop_while_it_is_committed_is_counted(
    database, recorder, recording, monkeypatch
):
    claim = await claimed(database)
    job = RunningJob(claim)
    commit = database.commit

    async def stopping(name, work, **options):
        found = await commit(name, work, **options)
        if name == "record_group" and job.told_to_end() is None:
            job.end(Ending.SHUTDOWN)
        return found

    monkeypatch.setattr(database, "commit", stopping)
    job.task = asyncio.create_task(recorder.record(job, Outcome(DONE)))

    await job.task

    assert (await job_row(database, claim.job_id))["status"] == "COMPLETED"
    assert counted(recording, *ENDS) == COMPLETED


async def test_late_write_is_fenced_and_ends_no_job(database, recorder, recording):
    claim = await claimed(database)
    await set_status(database, claim.job_id, "CANCELLED")

    await recorder.record(RunningJob(claim), Outcome(DONE))

    assert counted(recording, *ENDS) == attempt("fenced") | {("fenced_writes_total",): 1}


async def test_job_that_housekeeping_ended_is_counted_there_alone(database, recorder, recording):
    claim = await claimed(database)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '2 days', run_at = NULL")
    of_housekeeping = Recording()

    assert await end_overdue_jobs(database, 3_600, on_end=of_housekeeping.job_settled) == 1
    await recorder.record(RunningJob(claim), Outcome(FAILED))

    assert counted(of_housekeeping, *ENDS) == REFUNDED
    assert counted(recording, *ENDS) == {}


async def test_rescue_counts_what_it_made_due_and_what_it_ended(database, recording):
    worker = await make_worker(database)
    for _ in range(2):
        await make_generation(database)
    await claim_jobs(database, worker, most=2)
    await database.fetch(
        "UPDATE darkroom.job_queue SET attempts = max_attempts WHERE id = (SELECT min(id) FROM darkroom.job_queue)"
    )
    await database.fetch("DELETE FROM darkroom.workers")

    await rescue_lost_claims(database, None, on_rescue=recording.job_rescued)

    assert counted(recording, *ENDS) == REFUNDED | attempt("rescued")


async def test_wait_is_counted_at_the_first_claim_only(database):
    job_id = await make_generation(database)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '90 seconds'")
    (first,) = await claim_jobs(database)
    await database.run(lambda connection: record(connection, first, Released("GENERATING")))
    (second,) = await claim_jobs(database)

    assert (first.job_id, first.tier, second.first_wait_s) == (job_id, "TIER_1K", None)
    assert first.first_wait_s is not None
    assert 90 <= first.first_wait_s < 390


async def test_stage_is_counted_with_its_outcome_and_time(database, recorder, recording):
    claim = await claimed(database)

    await recorder.record(RunningJob(claim), Outcome(FAILED))

    assert counted(recording, "stage_seconds") == {("stage_seconds", "generate", "GENERATING", "failed"): 1}
    assert recording.values.read()["stage_seconds", ("generate", "GENERATING", "failed"), "sum"] == pytest.approx(0.02)
