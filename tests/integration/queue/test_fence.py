"""The fence: a worker whose claim was lost writes nothing, in both job tables (promise I2)."""

import asyncio
from datetime import timedelta

import pytest

from models.applications.registry import table_of
from models.database import prepare_connection
from models.gate.provider_calls import CallPlan, generations, open_call
from models.history.artifacts import record_artifact
from models.queue import transitions
from models.queue.claims import ClaimLostError
from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import (
    Checkpoint,
    Completed,
    Failed,
    HandedOver,
    Released,
    Retried,
    Snoozed,
    record,
)
from tests.support.builders import (
    all_rows,
    claim_jobs,
    job_row,
    make_artifact,
    make_claim,
    make_pipeline,
    make_user,
    queue_row,
    set_status,
    waiting_for_locks,
)

SECOND = timedelta(seconds=1)
COLUMNS = {"enhancements": {"enhancedWidth": 9}, "generations": {"outputWidth": 9}}
CHECKPOINT_COLUMNS = {"enhancements": {"analysisSource": "seen"}, "generations": {}}


def transitions_of(table, pipeline_id=None):
    columns = COLUMNS[table]
    return {
        "checkpoint": Checkpoint("ANALYZING", "CROPPING", 60, 5, CHECKPOINT_COLUMNS[table], {"seen": True}),
        "completed": Completed("GENERATING", 5, columns, {"seen": True}, pipeline_id),
        "failed": Failed("GENERATING", "late"),
        "retried": Retried("GENERATING", "late", SECOND),
        "snoozed": Snoozed("GENERATING", "late", SECOND),
        "released": Released("GENERATING"),
        "handed over": HandedOver("GENERATING", "gpu"),
    }


KINDS = list(transitions_of("enhancements"))


async def rescue(database):
    not_after = await database.fetchval("SELECT clock_timestamp() + interval '3 seconds'")
    return await rescue_lost_claims(database, not_after)


async def lose_by_rescue(database, claim):
    await database.fetch("DELETE FROM darkroom.workers")
    assert (await rescue(database)).requeued == 1


async def lose_to_another_worker(database, claim):
    await lose_by_rescue(database, claim)
    (second,) = await claim_jobs(database)
    assert second.job_id == claim.job_id


async def lose_to_the_same_worker(database, claim):
    await database.run(lambda connection: record(connection, claim, Released(claim.stage)))
    await claim_jobs(database, claim.worker_id)


async def lose_by_cancel(database, claim):
    await set_status(database, claim.job_id, "CANCELLED")


async def lose_by_foreign_reset(database, claim):
    await set_status(database, claim.job_id, "PENDING")


async def lose_by_delete(database, claim):
    await database.fetch(f"DELETE FROM {table_of(claim.job_type).name} WHERE id = $1", claim.job_id)


async def lose_by_completion(database, claim):
    completed = transitions_of("enhancements" if claim.job_type == "enhance" else "generations")["completed"]
    await database.run(lambda connection: record(connection, claim, completed))


WAYS = {
    function.__name__: function
    for function in (
        lose_by_rescue,
        lose_to_another_worker,
        lose_to_the_same_worker,
        lose_by_cancel,
        lose_by_foreign_reset,
        lose_by_delete,
        lose_by_completion,
    )
}


@pytest.fixture(params=COLUMNS)
def table(request):
    return request.param


@pytest.mark.parametrize("lose", WAYS.values(), ids=WAYS)
async def test_lost_claim_writes_no_row_anywhere(database, table, lose):
    claim = await make_claim(database, table)
    pipeline = await make_pipeline(database, claim.user_id)
    await lose(database, claim)
    rows = await all_rows(database)

    for transition in transitions_of(table, pipeline).values():
        with pytest.raises(ClaimLostError):
            await database.run(lambda connection, transition=transition: record(connection, claim, transition))
    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: record_artifact(connection, claim, make_artifact()))

    assert await all_rows(database) == rows


async def test_lost_claim_opens_no_provider_call(database, table):
    claim = await make_claim(database, table)
    await lose_to_another_worker(database, claim)
    rows = await all_rows(database)

    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: open_call(connection, claim, CallPlan("p", "generate", may_be_paid=True)))

    assert await all_rows(database) == rows


@pytest.mark.parametrize("kind", KINDS)
async def test_held_claim_writes(database, table, kind):
    claim = await make_claim(database, table)

    status = await database.run(lambda connection: record(connection, claim, transitions_of(table)[kind]))

    assert status == (await job_row(database, claim.job_id))["status"]
    assert status == {"checkpoint": "PROCESSING", "completed": "COMPLETED", "failed": "REFUNDED"}.get(kind, "PENDING")


async def test_held_claim_opens_a_provider_call_that_counts(database, table):
    claim = await make_claim(database, table)

    await database.run(lambda connection: open_call(connection, claim, CallPlan("p", "generate", may_be_paid=True)))

    (calls,) = await database.run(lambda connection: generations(connection, [claim]))
    assert [call.may_be_paid for call in calls] == [True]


async def test_claim_of_one_table_is_no_key_to_a_job_of_the_same_id_in_the_other(database, foreign):
    user = await make_user(database)
    claim = await make_claim(database, "enhancements", user_id=user)
    await foreign.execute(
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
           VALUES ($1, $2, 'GENERATE', 'FREE', 0, 'PENDING', 'x', now())""",
        claim.job_id,
        user,
    )

    await database.run(lambda connection: record(connection, claim, transitions_of("enhancements")["completed"]))

    assert await database.fetchval("SELECT status::text FROM public.mcp_generation_jobs") == "PENDING"


FENCE = "AND q.lease_token IS NOT DISTINCT FROM job.lease_token"
"""The fence of the statement that writes; the statement that locks the rows before it has the same."""


@pytest.fixture
def without_fence(monkeypatch):
    """Remove the fence from the statement that writes, so that only the locked one is left, and its lock too."""
    build, lock = transitions.transition_statement, transitions.lock_statement

    def built(table, parts):
        text = build(table, parts)
        assert text.count(FENCE) == 1
        return text.replace(FENCE, "")

    def unlocked(table, condition, *, skip):
        text = lock(table, condition, skip=skip)
        assert text.count(" FOR UPDATE OF q") == 1
        return text.replace(" FOR UPDATE OF q", "")

    monkeypatch.setattr(transitions, "transition_statement", built)
    monkeypatch.setattr(transitions, "lock_statement", unlocked)


async def race_a_zombie(database, connect, eventually, claim, transition):
    """Let a zombie begin to write before its claim is taken, and go on after."""
    zombie, taker = await connect(), await connect()
    await prepare_connection(zombie)
    transaction = taker.transaction()
    await transaction.start()
    # as a rescue does: job row, then queue row
    await taker.execute(f"SELECT FROM {table_of(claim.job_type).name} WHERE id = $1 FOR NO KEY UPDATE", claim.job_id)
    await taker.execute(
        "UPDATE darkroom.job_queue SET lease_token = gen_random_uuid(), attempts = attempts + 1 WHERE id = $1", claim.id
    )
    writing = asyncio.create_task(record(zombie, claim, transition))
    await eventually(lambda: waiting_for_locks(database))
    await transaction.commit()
    await writing


@pytest.mark.parametrize("kind", KINDS)
async def test_zombie_that_waited_for_its_successor_writes_nothing(database, connect, eventually, table, kind):
    claim = await make_claim(database, table)
    before = await job_row(database, claim.job_id)

    with pytest.raises(ClaimLostError):
        await race_a_zombie(database, connect, eventually, claim, transitions_of(table)[kind])

    assert await job_row(database, claim.job_id) == before


async def test_zombie_gets_through_a_fence_that_is_not_locked(
    database, connect, eventually, table, damage, without_fence
):
    claim = await make_claim(database, table)

    await race_a_zombie(database, connect, eventually, claim, transitions_of(table)["completed"])

    # what the lock is for: without it the tests above see a zombie write
    assert (await job_row(database, claim.job_id))["status"] == "COMPLETED"


@pytest.mark.parametrize("kind", KINDS)
async def test_claim_that_waited_for_a_cancel_writes_nothing(database, connect, eventually, table, kind):
    claim = await make_claim(database, table)
    worker, canceller = await connect(), await connect()
    await prepare_connection(worker)
    transaction = canceller.transaction()
    await transaction.start()
    await canceller.execute(
        f"UPDATE {table_of(claim.job_type).name} SET status = 'CANCELLED' WHERE id = $1", claim.job_id
    )
    writing = asyncio.create_task(record(worker, claim, transitions_of(table)[kind]))
    await eventually(lambda: waiting_for_locks(database))

    await transaction.commit()

    with pytest.raises(ClaimLostError):
        await writing
    assert (await job_row(database, claim.job_id))["status"] == "CANCELLED"


@pytest.mark.parametrize("kind", KINDS)
async def test_claim_that_waited_for_a_cancel_taken_back_writes(database, connect, eventually, table, kind):
    claim = await make_claim(database, table)
    worker, canceller = await connect(), await connect()
    await prepare_connection(worker)
    transaction = canceller.transaction()
    await transaction.start()
    await canceller.execute(
        f"UPDATE {table_of(claim.job_type).name} SET status = 'CANCELLED' WHERE id = $1", claim.job_id
    )
    writing = asyncio.create_task(record(worker, claim, transitions_of(table)[kind]))
    await eventually(lambda: waiting_for_locks(database))

    await transaction.rollback()

    assert await writing == (await job_row(database, claim.job_id))["status"]


async def test_claim_that_waited_for_a_foreign_edit_keeps_the_edit(database, connect, eventually):
    claim = await make_claim(database)
    worker, editor = await connect(), await connect()
    await prepare_connection(worker)
    transaction = editor.transaction()
    await transaction.start()
    await editor.execute("""UPDATE public.image_enhancement_jobs SET "isAnonymous" = true""")
    writing = asyncio.create_task(record(worker, claim, transitions_of("enhancements")["checkpoint"]))
    await eventually(lambda: waiting_for_locks(database))

    await transaction.commit()

    assert await writing == "PROCESSING"
    row = await database.fetchrow('SELECT "isAnonymous", "analysisSource" FROM public.image_enhancement_jobs')
    assert tuple(row) == (True, "seen")


async def test_job_whose_queue_row_was_removed_by_hand_is_lost_to_its_claim(database, table, damage):
    claim = await make_claim(database, table)
    await database.fetch("DELETE FROM darkroom.job_queue")

    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: record(connection, claim, Failed("GENERATING", "late")))

    assert await queue_row(database, claim.job_id) is None
    assert (await job_row(database, claim.job_id))["status"] == "PROCESSING"


async def test_statement_with_the_fence_keeps_working_when_another_tool_adds_a_column(database, connect):
    worker = await connect()
    await prepare_connection(worker)
    await claim_jobs(database)  # plans are made
    for table in COLUMNS:
        claim = await make_claim(database, table)
        await record(worker, claim, transitions_of(table)["checkpoint"])

        await database.fetch(f"ALTER TABLE {table_of(claim.job_type).name} ADD COLUMN later integer DEFAULT 3")

        await record(worker, claim, transitions_of(table)["completed"])
        assert (await job_row(database, claim.job_id))["status"] == "COMPLETED"
        assert (await make_claim(database, table)).stage


async def test_guards_keep_working_in_a_session_when_another_tool_adds_a_column(database, foreign):
    first, second = await make_claim(database), await make_claim(database)
    cancel = "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1"
    await foreign.execute(cancel, first.job_id)

    await database.fetch("ALTER TABLE public.image_enhancement_jobs ADD COLUMN later integer")
    await foreign.execute(cancel, second.job_id)

    assert (await job_row(database, second.job_id))["status"] == "CANCELLED"
