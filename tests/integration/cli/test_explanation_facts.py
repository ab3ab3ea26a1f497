"""The facts about a job's history and its waiting, which the command line turns into words."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from models.database import Database
from models.history.timeline import RefusedEnd
from models.queue import claims
from models.queue.pause_records import Pause
from models.queue.transitions import Retried, record
from models.queue.waiting import QueuedJob, UnlabelledEnd
from models.schema.server import IdleSession
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_job, make_user, make_worker, queue_row, set_status
from tests.support.calling import Arrange
from tests.support.patience import HANGS_AFTER_S
from workers.operations.explaining import CallEnd, Explanation, Refused, explain_job
from workers.operations.pauses import set_paused
from workers.operations.shut_providers import ShutProvider
from workers.operations.waiting import Unqueued, Waiting
from workers.operations.watching import Look, watch_jobs
from workers.process.compose import open_runtime
from workers.process.runtime import Runtime
from workers.services.services import Services

AGE = """UPDATE public.image_enhancement_jobs SET "createdAt" = "createdAt" - $2::interval WHERE id = $1"""
MINUTE = timedelta(minutes=1)

Explain = Callable[[str], Explanation]


@pytest.fixture
def with_runtime(arrange: Arrange, database_url: str, redis_url: str, tmp_path: Path) -> Callable[..., object]:
    """Do something with a runtime, on the settings that are given."""
    services = Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url,
        storage_url=tmp_path.as_uri(),
        is_embedded=False,
    )

    def run(work: Callable[[Runtime], Awaitable[object]], **settings: object) -> object:
        async def opened(_database: Database) -> object:
            async with open_runtime(Settings(home=tmp_path, **settings), services) as runtime:
                return await work(runtime)

        return arrange(opened)

    return run


@pytest.fixture
def waits(with_runtime) -> Callable[..., dict[str, Waiting]]:
    def run(job_id: str, **settings: object) -> dict[str, Waiting]:
        explanation = with_runtime(lambda runtime: explain_job(runtime, job_id), **settings)
        return {one.kind: one for one in explanation.waits}

    return run


def test_who_watches_jobs_is_told_why_those_wait_that_are_not_new(arrange, with_runtime):
    old, new = arrange(make_job), arrange(make_job)
    arrange(lambda db: db.fetch(AGE, old, MINUTE))
    arrange(lambda db: db.fetch(AGE, new, -MINUTE))  # however long the look takes to come
    with_runtime(lambda runtime: set_paused(runtime, [("tier", "TIER_1K")], is_paused=True, actor="ann", reason="bill"))

    async def first_look(runtime: Runtime) -> Look:
        async with contextlib.aclosing(watch_jobs(runtime, [old, new])) as looks:
            return await anext(looks)

    look = with_runtime(first_look)

    assert [one.job_id for one in look.jobs] == [old, new]
    assert look.waits.keys() == {old}
    assert (look.waits[old].kind, look.waits[old].by.reason) == ("paused", "bill")


def test_job_that_is_put_off_waits_until_its_time_and_no_longer_than_it_may(arrange, waits):
    job_id = arrange(make_job)
    (claim,) = arrange(claim_jobs)
    put_off = Retried(claim.stage, "down", timedelta(hours=2))
    arrange(lambda db: db.run(lambda connection: record(connection, claim, put_off)))
    row = arrange(lambda db: queue_row(db, job_id))

    patient, impatient = waits(job_id), waits(job_id, max_wait_s=3600)

    assert patient["scheduled"].until == row["scheduled_at"]
    assert isinstance(patient["scheduled"].by, QueuedJob)
    assert patient["scheduled"].by.last_error == "down"
    assert "max_wait" not in patient
    assert impatient["max_wait"].until == row["created_at"] + timedelta(hours=1)


def test_running_job_waits_until_its_deadline_for_the_worker_that_has_it(arrange, waits):
    job_id = arrange(make_job)
    arrange(claim_jobs)

    (running,) = waits(job_id).values()

    assert running.kind == "running"
    assert running.until == arrange(lambda db: queue_row(db, job_id))["deadline_at"]
    assert (running.by.host, running.by.pid) == ("here", 1)


def test_paused_job_waits_for_whoever_paused_it_without_an_end(arrange, with_runtime, waits):
    job_id = arrange(lambda db: make_job(db, tier="TIER_2K"))
    with_runtime(
        lambda runtime: set_paused(runtime, [("tier", "TIER_2K")], is_paused=True, actor="ada", reason="too dear")
    )

    paused = waits(job_id)["paused"]

    assert isinstance(paused.by, Pause)
    assert (paused.until, paused.by.name, paused.by.actor, paused.by.reason) == (
        None,
        "tier:TIER_2K",
        "ada",
        "too dear",
    )


def test_job_behind_others_says_how_many_and_where_no_worker_is(arrange, waits):
    arrange(make_job)
    job_id = arrange(make_job)

    alone = waits(job_id)
    arrange(make_worker)
    with_worker = waits(job_id)

    assert list(alone) == ["no_worker", "turn"]
    assert alone["turn"].by.before_it == 1
    assert list(with_worker) == ["turn"]


def test_provider_that_takes_no_call_is_a_fact_with_its_reason(arrange, with_runtime, waits):
    job_id = arrange(make_job)
    with_runtime(
        lambda runtime: set_paused(runtime, [("provider", "local")], is_paused=True, actor="ada", reason="broken")
    )

    gate = waits(job_id)["gate"]
    (shut,) = gate.by

    assert gate.until is None  # until an operator resumes it
    assert isinstance(shut, ShutProvider)
    assert shut.is_stopped
    assert shut.name == "local"
    assert "broken" in shut.reason
    assert shut.wait_s > 0


def test_job_whose_row_is_held_waits_for_the_session_that_idles(arrange, waits):
    job_id = arrange(make_job)

    async def hold(database: Database) -> dict[str, Waiting]:
        holder = await database.connect_direct()
        try:
            await holder.execute("BEGIN; SELECT FROM public.image_enhancement_jobs FOR UPDATE")
            return await asyncio.to_thread(waits, job_id), holder.get_server_pid()
        finally:
            holder.terminate()

    found, pid = arrange(hold)

    assert isinstance(found["held"].by, IdleSession)
    assert found["held"].by.pid == pid


async def is_advised(database: Database) -> bool:
    """Return whether a transaction holds the lock by which `DAWDLES` shows that it has begun."""
    return await database.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND granted"
    )


DAWDLES = """
CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock(8);
    WHILE NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NEW;
END $body$;
CREATE TRIGGER dawdle BEFORE UPDATE ON public.image_enhancement_jobs FOR EACH ROW EXECUTE FUNCTION public.dawdle()"""
"""Lets an UPDATE of a job wait, as it does on a busy machine, until nobody holds the advisory lock 7."""


def test_job_that_a_worker_is_about_to_claim_is_held_by_no_other_program(arrange, waits, monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_S", HANGS_AFTER_S)
    job_id = arrange(make_job)

    async def claim_slowly(database: Database) -> dict[str, Waiting]:
        await database.run(lambda connection: connection.execute(DAWDLES))
        holder = await database.connect_direct()
        try:
            await holder.execute("SELECT pg_advisory_lock(7)")
            claiming = asyncio.create_task(claim_jobs(database))
            async with asyncio.timeout(HANGS_AFTER_S):
                while not await is_advised(database):  # noqa: ASYNC110 - locks ring nothing
                    await asyncio.sleep(0.01)
            found = await asyncio.to_thread(waits, job_id)
        finally:
            holder.terminate()
        assert [claim.job_id for claim in await claiming] == [job_id]
        return found

    assert "held" not in arrange(claim_slowly)


def test_job_outside_the_queue_is_taken_in_once_its_row_has_been_silent(arrange, waits):
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch("DELETE FROM darkroom.job_queue"))
    pending = waits(job_id)["unqueued"]
    arrange(lambda db: set_status(db, job_id, "PROCESSING"))
    processing = waits(job_id)["unqueued"]
    too_old = waits(job_id, max_wait_s=0.001)["unqueued"]

    assert isinstance(pending.by, Unqueued)
    assert (pending.until, pending.by.is_processing, pending.by.ends_because) == (None, False, None)
    assert processing.by.is_processing
    assert processing.until is not None
    assert processing.until > processing.now
    assert too_old.by.ends_because == "too old"


def test_end_without_its_label_is_a_fact_of_both_timeline_and_waits(arrange, with_runtime):
    user_id = arrange(make_user)
    job_id = arrange(lambda db: make_job(db, user_id=user_id))

    async def refuse(database: Database) -> None:
        await database.fetch("DELETE FROM darkroom.job_queue")
        await database.fetch(
            """INSERT INTO darkroom.refused_ends (job_type, job_id, user_id, label, reason, words, owed)
               VALUES ('enhance', $1, $2, 'FAILED', 'broke', 'not so', 2)""",
            job_id,
            user_id,
        )

    arrange(refuse)

    explanation = with_runtime(lambda runtime: explain_job(runtime, job_id))

    refused = [event.fact for event in explanation.timeline if event.event == "refused"]
    assert [one.part for one in refused if isinstance(one, Refused)] == ["label", "refund"]
    assert isinstance(refused[0].end, RefusedEnd)
    (wait,) = explanation.waits
    assert wait.kind == "end_refused"
    assert isinstance(wait.by, UnlabelledEnd)
    assert (wait.by.label, wait.by.words, wait.by.owed) == ("FAILED", "not so", 2)


def test_answer_after_a_rescue_is_late_and_one_before_it_is_not(arrange, with_runtime):
    job_id = arrange(make_job)

    async def call(database: Database) -> None:
        await database.fetch(
            """INSERT INTO darkroom.stage_runs (job_type, job_id, event, attempt, at)
               VALUES ('enhance', $1, 'rescued', 1, now() - interval '1 minute')""",
            job_id,
        )
        await database.fetch(
            """INSERT INTO darkroom.provider_calls
                   (job_type, job_id, user_id, attempt, provider, purpose, outcome, may_be_paid, started_at,
                    finished_at)
               SELECT 'enhance', $1, 'u', 1, 'local', 'generate', 'answered', true, now() - interval '5 minutes', ended
               FROM unnest(ARRAY[now() - interval '4 minutes', now()]) ended""",
            job_id,
        )

    arrange(call)

    explanation = with_runtime(lambda runtime: explain_job(runtime, job_id))

    ends = [event.fact for event in explanation.timeline if isinstance(event.fact, CallEnd)]
    assert [one.is_late for one in ends] == [False, True]
