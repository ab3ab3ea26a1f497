"""The real SQL with one part removed: each time the auditor, which reads only tables, finds the broken promise.

Unchanged, the SQL breaks none. tests/model/variants.py has the same faults, for every order of events.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest

from models.collector import Collector
from models.database import prepare_connection
from models.gate.provider_calls import CallPlan, open_call, open_calls
from models.queue import groups, transitions
from models.queue.claims import ClaimLostError
from models.queue.groups import GroupWriter
from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import HELD, Checkpoint, Completed, JobRef, Retried, record, record_without_claim
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.job import Prompt
from pipelines.settings import Settings
from tests.support.builders import (
    PRICE,
    claim_jobs,
    make_claim,
    make_image,
    make_job,
    make_user,
    new_id,
    waiting_for_locks,
)
from tests.support.grouping import Write, write_all
from tests.support.patience import HANGS_AFTER_S
from tests.support.scripted_provider import ScriptedProvider
from workers.gate.gate import Gate
from workers.running.job import RunningJob

SIGNATURE = "^[0-9a-f]{8}-"
"""Writers sign with their lease token, which the row's workflowRunId names for the claim that holds it."""

AUDIT = f"""
SELECT promise, finding FROM darkroom.money_violations
UNION ALL
SELECT 'I3', format('job %s was never charged', j.id) FROM public.image_enhancement_jobs j
WHERE j."tokensCost" > 0 AND NOT EXISTS (SELECT FROM darkroom.job_money m WHERE m.job_id = j.id AND m.kind = 'charge')
UNION ALL
SELECT 'I2', format('job %s was written by %s and is held by %s', j.id, s.signature, j."workflowRunId")
FROM public.image_enhancement_jobs j, LATERAL (VALUES (j."geminiModel"), (j."errorMessage")) s (signature)
WHERE s.signature ~ '{SIGNATURE}' AND s.signature <> j."workflowRunId"
UNION ALL
SELECT 'I1', format('job %s was tried %s times of %s', j.id, r.tries, j."maxRetries" + 1)
FROM public.image_enhancement_jobs j, LATERAL (
    SELECT count(*) FILTER (WHERE h.event = 'claimed') - count(*) FILTER (WHERE h.event IN ('released', 'snoozed'))
        AS tries FROM darkroom.stage_runs h WHERE h.job_id = j.id) r
WHERE r.tries > j."maxRetries" + 1
UNION ALL
SELECT 'I5', format('job %s was completed and is %s', j.id, j.status) FROM public.image_enhancement_jobs j
WHERE j.status <> 'COMPLETED' AND j."processingCompletedAt" IS NOT NULL
UNION ALL
SELECT 'I6', format('attempt %s of job %s buys after attempt %s began', c.attempt, c.job_id, h.attempt)
FROM darkroom.provider_calls c JOIN darkroom.stage_runs h ON h.job_id = c.job_id AND h.event = 'claimed'
WHERE h.attempt > c.attempt AND h.at < c.started_at
UNION ALL
SELECT 'I6', format('job %s buys for a stage that hasn''t begun: its row is at %s', c.job_id, q.stage)
FROM darkroom.provider_calls c JOIN darkroom.job_queue q ON q.job_id = c.job_id
WHERE c.purpose = 'generate' AND q.stage <> 'GENERATING' AND q.attempts = c.attempt
"""


@dataclass
class World:
    """What a schedule works with, and how it breaks what it runs on."""

    database: object
    connect: Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
    eventually: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
    monkeypatch: pytest.MonkeyPatch
    is_broken: bool

    async def alter_function(self, name, find, put):
        """Replace a part of a function of ours in this test's database."""
        text = await self.database.fetchval(f"SELECT pg_get_functiondef('darkroom.{name}'::regproc)")
        assert text.count(find) == 1
        if self.is_broken:
            await self.database.fetch(text.replace(find, put))

    def alter_statement(self, find, put, *, kind):
        """Replace a part of the statement that writes one kind of transition."""
        self._alter("transition_statement", find, put, lambda _table, parts: kind in parts)

    def alter_locking(self, find, put):
        """Replace a part of the statement by which a claim locks its rows before it writes."""
        self._alter("lock_statement", find, put, lambda _table, condition, *, skip: condition == HELD and not skip)

    def _alter(self, name, find, put, is_meant):
        build = getattr(transitions, name)

        def built(*args, **options):
            text = build(*args, **options)
            if not is_meant(*args, **options):
                return text
            assert text.count(find) == 1
            return text.replace(find, put)

        if self.is_broken:
            self.monkeypatch.setattr(transitions, name, built)

    async def rescued(self, claim):
        """Take a claim away and give the job to another worker, whose claim is returned."""
        await self.database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 s'")
        assert (await self.rescue()).requeued == 1
        (second,) = await claim_jobs(self.database)
        assert second.job_id == claim.job_id
        return second

    async def rescue(self):
        not_after = await self.database.fetchval("SELECT clock_timestamp() + interval '3 seconds'")
        return await rescue_lost_claims(self.database, not_after)

    async def write(self, claim, transition):
        """Write as a worker that believes in its claim; say whether it took effect."""
        try:
            await self.database.run(lambda connection: record(connection, claim, transition))
        except ClaimLostError:
            return False
        return True


def completed_by(claim):
    return Completed("GENERATING", 1, {"geminiModel": str(claim.lease_token)})


ANY_LEASE = "$3::uuid IS NOT NULL"
"""In place of the fence: true of every token."""

FENCE = "AND q.lease_token IS NOT DISTINCT FROM job.lease_token"
"""The fence of the statement that writes."""


FENCE_OF_ANY = """AND EXISTS (SELECT FROM writes w JOIN darkroom.job_queue h ON h.id = w.queue_id
                           WHERE h.lease_token = w.lease_token)"""
"""In its place: some claim of the group holds its job."""


def remove_fence(world, kind):
    """Remove both fences of a claim's write: when its rows are locked, and when they are written."""
    world.alter_locking(HELD, ANY_LEASE)
    world.alter_statement(FENCE, "", kind=kind)


async def no_fence(world):
    """A zombie goes on after another has its job, and sets it back."""
    remove_fence(world, "waits")
    zombie = await make_claim(world.database)
    await world.rescued(zombie)
    await world.write(zombie, Retried("ANALYZING", str(zombie.lease_token), timedelta(hours=1)))


async def fence_that_is_joined_and_not_locked(world):
    """A zombie's statement begins, and waits for the row, while its job is given to another."""
    world.alter_locking(" FOR UPDATE OF q", "")
    world.alter_statement(FENCE, "", kind="completed")
    claim = await make_claim(world.database)
    zombie, taker = await world.connect(), await world.connect()
    for connection in (zombie, taker):
        await prepare_connection(connection)
    async with taker.transaction():
        job_ref = JobRef(claim.job_type, claim.job_id, claim.id)
        died = Retried(claim.stage, "its worker died", timedelta(), event="rescued")
        await record_without_claim(taker, job_ref, died, HELD, claim.lease_token)
        await taker.execute(
            """WITH taken AS (UPDATE darkroom.job_queue SET status = 'processing', worker_id = gen_random_uuid(),
                                  lease_token = gen_random_uuid(), attempts = attempts + 1 RETURNING *)
               UPDATE public.image_enhancement_jobs j SET status = 'PROCESSING', "workflowRunId" = lease_token::text
               FROM taken WHERE j.id = taken.job_id"""
        )
        writing = asyncio.create_task(record(zombie, claim, completed_by(claim)))
        await world.eventually(lambda: waiting_for_locks(world.database))
    await asyncio.wait([writing])
    assert world.is_broken == (writing.exception() is None)


async def completion_by_id_alone(world):
    """A zombie completes the job that another is working on."""
    remove_fence(world, "completed")
    zombie = await make_claim(world.database)
    await world.rescued(zombie)
    await world.write(zombie, completed_by(zombie))


async def refund_outside_the_transaction(world):
    """Whoever cancels dies after the commit, before the transaction that would refund."""
    await world.alter_function("follow", "PERFORM darkroom.refund(unpaid);", "NULL;")
    job = await make_job(world.database)
    canceller = await world.connect()
    await canceller.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)
    canceller.terminate()


async def rescue_without_attempt(world):
    """A job with two attempts kills a worker at each stage."""
    world.alter_statement("CASE WHEN held.kind = 'retried' THEN 0 ELSE 1 END", "1", kind="waits")
    await make_job(world.database, maxRetries=1)
    for stage, following in (("ANALYZING", "CROPPING"), ("CROPPING", "PROMPTING"), ("PROMPTING", "GENERATING")):
        for claim in await claim_jobs(world.database):
            assert await world.write(claim, Checkpoint(stage, following, 60, 1))
        await world.database.fetch("DELETE FROM darkroom.workers")
        await world.rescue()


async def charge_after_insert(world):
    """A job is cancelled between its producer's two transactions."""
    await world.alter_function("enter", "charged := darkroom.charge(jobs, prices);", "NULL;")
    user = await make_user(world.database)
    job = await make_job(world.database, user_id=user)
    await world.database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")
    if world.is_broken:
        await world.database.fetch(
            """SELECT darkroom.charge(ARRAY[ROW('enhance', $1, $2, 'TIER_1K', $3, 'ANALYZING', 4, now())
                                            ::darkroom.entering], darkroom.setting('prices'))""",
            job,
            user,
            PRICE["TIER_1K"],
        )


async def intent_without_fence(world):
    """A zombie buys after another has its job."""
    await world.alter_function("open_call", " AND q.lease_token = open_call.lease_token", "")
    zombie = await make_claim(world.database)
    await world.rescued(zombie)
    plan = CallPlan("p", "generate", may_be_paid=True)
    opening = world.database.run(lambda connection: open_call(connection, zombie, plan))
    assert world.is_broken == (not isinstance(*await asyncio.gather(opening, return_exceptions=True), ClaimLostError))


async def intent_of_a_group_without_fence(world):
    """A zombie buys after another has its job, together with a call whose claim holds."""
    await world.alter_function("open_calls", "AND q.lease_token = (c.call ->> 'lease_token')::uuid", "")
    zombie = await make_claim(world.database)
    await world.rescued(zombie)
    holding = await make_claim(world.database)
    plan = CallPlan("p", "analyze", may_be_paid=True)  # the stage of both
    opening = world.database.run(lambda connection: open_calls(connection, [(zombie, plan), (holding, plan)]))
    assert [opened is None for opened in await opening] == [not world.is_broken, False]


async def no_status_guard(world):
    """A foreign program cancels a job that is completed."""
    await world.alter_function("guard_enhancement", "THEN NEW ELSE OLD END", "THEN NEW ELSE NEW END")
    claim = await make_claim(world.database)
    assert await world.write(claim, completed_by(claim))
    await world.database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")


async def balance_read_without_a_lock(world):
    """Two producers submit at once, and the user can pay for one."""
    await world.alter_function("held_balances", 'ORDER BY b."userId" FOR NO KEY UPDATE', 'ORDER BY b."userId"')
    await world.alter_function("require_booked", "IF booked IS DISTINCT FROM wanted", "IF false")  # it would notice
    user = await make_user(world.database, balance=PRICE["TIER_1K"])
    image = await make_image(world.database, user)
    insert = """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status,
                    "updatedAt") VALUES ($1, $2, $3, 'TIER_1K', $4, 'PENDING', now())"""
    values = (image, user, PRICE["TIER_1K"])
    first, second = await world.connect(), await world.connect()
    async with first.transaction():
        await first.execute(insert, new_id("j"), *values)
        inserting = asyncio.create_task(second.execute(insert, new_id("j"), *values))
        await world.eventually(lambda: waiting_for_locks(world.database))
    await asyncio.wait([inserting])
    assert world.is_broken == (inserting.exception() is None)


async def fence_of_a_group(world):
    """A zombie completes its job beside another claim of its process, which holds."""
    build = groups.transition_statement

    def built(*args, **options):
        text = build(*args, **options)
        assert text.count(FENCE) == 1
        return text.replace(FENCE, FENCE_OF_ANY)

    if world.is_broken:
        world.monkeypatch.setattr(groups, "transition_statement", built)
    zombie = await make_claim(world.database)
    await world.rescued(zombie)
    other = await make_claim(world.database)
    writes = [Write(zombie, completed_by(zombie)), Write(other, completed_by(other))]
    zombies, others = await write_all(GroupWriter(world.database), writes)
    assert (world.is_broken, None) == (zombies is None, others)


async def fused_across_a_paid_call(world):
    """A run doesn't wait for its checkpoint before it buys."""

    async def saved(_self):
        pass

    if world.is_broken:
        world.monkeypatch.setattr(RunningJob, "saved", saved)
    await buy_while_the_checkpoint_is_held(world)


async def future_done_before_the_commit(world):
    """Whoever waits for a group goes on when its statement is sent."""
    send = Collector._send

    async def send_late(self, group):
        for item in group:
            if isinstance(item.work, groups._Entry) and not item.done.done():
                item.done.set_result(None)
        await send(self, group)

    if world.is_broken:
        world.monkeypatch.setattr(Collector, "_send", send_late)
    await buy_while_the_checkpoint_is_held(world)


async def buy_while_the_checkpoint_is_held(world):
    """Another program holds the row into which the checkpoint of the stage before goes, and the process dies then."""
    claim, holder = await make_claim(world.database), await world.connect()
    await holder.execute("BEGIN")
    await holder.execute("SELECT FROM public.image_enhancement_jobs FOR NO KEY UPDATE")
    job, provider = RunningJob(claim), ScriptedProvider(name="gemini")
    job.send(GroupWriter(world.database), Checkpoint("ANALYZING", "GENERATING", 60, 1))
    gate = Gate(world.database, [provider], provider, Settings())
    prompt = Prompt("Make it better.", ALL_CORRECTIONS)
    buying = asyncio.create_task(gate.for_job(job, most_paid_calls=3).generate(prompt, [], 64, 1.0))
    if not world.is_broken:
        await world.eventually(lambda: waiting_for_locks(world.database))
        assert provider.sent == 0
        await holder.execute("COMMIT")
    async with asyncio.timeout(HANGS_AFTER_S):
        await buying
    assert provider.sent == 1


SCHEDULES = {
    fence_of_a_group: "I2",
    fused_across_a_paid_call: "I6",
    future_done_before_the_commit: "I6",
    no_fence: "I2",
    fence_that_is_joined_and_not_locked: "I2",
    completion_by_id_alone: "I2",
    refund_outside_the_transaction: "I3",
    rescue_without_attempt: "I1",
    charge_after_insert: "I3",
    intent_without_fence: "I6",
    intent_of_a_group_without_fence: "I6",
    no_status_guard: "I5",
    balance_read_without_a_lock: "I7",
}


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize(("schedule", "promise"), SCHEDULES.items(), ids=[one.__name__ for one in SCHEDULES])
async def test_auditor_catches_what_is_broken_and_passes_what_is_whole(
    database, connect, eventually, monkeypatch, damage, schedule, promise, is_broken
):
    await schedule(World(database, connect, eventually, monkeypatch, is_broken))

    findings = await database.fetch(AUDIT)

    assert {row["promise"] for row in findings} == ({promise} if is_broken else set()), findings
