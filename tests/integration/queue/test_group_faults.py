"""Groups that meet a refusal, a slow trigger, a held lock or a lost connection: what is written, once, in order."""

import asyncio
import itertools
import random

import pytest

from config.postgres_url import parse_postgres_url
from models import collector
from models.database import Database
from models.queue import groups
from models.queue.claims import FencedError
from models.queue.groups import GroupWriter
from models.queue.transitions import Checkpoint, Kept
from tests.integration.queue.test_groups import EVENTS, committed, completed, history_of, make_claims
from tests.support.builders import queue_row, waiting_for_locks
from tests.support.grouping import Lane, Write, facts_of, rows_of, write_all, write_one_by_one
from tests.support.patience import HANGS_AFTER_S
from tests.support.rules import STATEMENTS, refuse, run

__all__ = ["committed"]

FINISHED = ("ANALYZING", "CROPPING", "CHECKING")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Little patience with a database that is gone."""
    monkeypatch.setattr(collector, "DATABASE_GONE_S", 0.01)


async def refuse_some(database, kinds, when="true"):
    """Let a trigger do something else to each of some rows, by their ids."""
    cases = "".join(f"IF NEW.id = '{job}' AND ({when}) THEN {STATEMENTS[kind]} END IF;" for job, kind in kinds.items())
    await run(
        database,
        f"""CREATE FUNCTION public.app_rules() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN {cases} RETURN NEW; END $body$;
            CREATE TRIGGER app_rules BEFORE UPDATE ON public.image_enhancement_jobs
            FOR EACH ROW EXECUTE FUNCTION public.app_rules()""",
    )


@pytest.mark.parametrize(
    "what", ["three checkpoints", "checkpoints and completed", "artifact and completed", "retried"]
)
async def test_job_that_a_rule_refuses_is_left_as_it_is_alone_and_the_others_are_written(database, what):
    alone = await make_claims(database, len(STATEMENTS))
    *refused, first, second = await make_claims(database, len(STATEMENTS) + 2)
    kinds = dict(zip([claim.job_id for claim in alone], STATEMENTS, strict=True))
    await refuse_some(database, kinds | dict(zip([claim.job_id for claim in refused], STATEMENTS, strict=True)))
    writes = [Write(claim, event) for claim in (first, *refused, second) for event in EVENTS[what](claim)]

    errors = await write_all(GroupWriter(database), writes)

    of_jobs = {claim.job_id: [] for claim in (first, *refused, second)}
    for write, error in zip(writes, errors, strict=True):
        of_jobs[write.claim.job_id].append(error)
    assert of_jobs[first.job_id] + of_jobs[second.job_id] == [None] * 2 * len(EVENTS[what](first))
    for claim, twin in zip(refused, alone, strict=True):
        said = await write_one_by_one(database, [Write(twin, event) for event in EVENTS[what](twin)])
        (error,) = {of_jobs[claim.job_id][-1]}
        (expected,) = {next((one for one in said if one is not None), None)}
        assert type(error) is type(expected), (kinds[twin.job_id], error, expected)
        assert str(error).replace(claim.job_id, "") == str(expected).replace(twin.job_id, "")
        if "checkpoints" not in what:  # alone, others of a claim may be written, though one of them is refused
            assert await facts_of(database, claim) == await facts_of(database, twin), kinds[twin.job_id]


async def test_rule_of_the_commit_refuses_its_own_job_only(database):
    refused, other = await make_claims(database, 2)
    await refuse(database, "deferred", f"NEW.id = '{refused.job_id}'")
    left = await rows_of(database, refused)

    error, none = await write_all(GroupWriter(database), [Write(one, completed(one)) for one in (refused, other)])

    assert (error.sqlstate, none) == ("23000", None)
    assert await rows_of(database, refused) == left


async def test_job_that_a_rule_ends_in_another_way_is_over_and_no_late_write(database):
    """A trigger of the application's makes FAILED of COMPLETED: what was written alone counted as this run's end."""
    alone, grouped = await make_claims(database, 2)
    await run(
        database,
        """CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN NEW.status := 'FAILED'; RETURN NEW; END $$;
           CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
           FOR EACH ROW WHEN (NEW.status = 'COMPLETED') EXECUTE FUNCTION public.app_rule()""",
    )

    expected = await write_one_by_one(database, [Write(alone, completed(alone))])

    assert await write_all(GroupWriter(database), [Write(grouped, completed(grouped))]) == expected == [None]
    assert await facts_of(database, grouped) == await facts_of(database, alone)


async def test_slow_rule_of_one_job_lets_the_others_go_on_without_it(database, monkeypatch):
    monkeypatch.setattr(groups, "GROUP_S", 0.3)
    slow, other = await make_claims(database, 2)
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
            FOR EACH ROW WHEN (NEW.id = '{slow.job_id}') EXECUTE FUNCTION public.app_rule()""",
    )
    writer, waiting = GroupWriter(database), Lane()
    late = writer.add(slow, completed(slow), waiting=waiting)

    assert await write_all(writer, [Write(other, completed(other))]) == [None]

    assert not late.done()
    await asyncio.wait_for(late, HANGS_AFTER_S)
    assert await history_of(database, slow) == await history_of(database, other) == ["finished GENERATING"]


async def test_rule_that_waits_for_a_lock_lets_the_others_go_on_without_it(database, foreign, committed):
    waiting, other = await make_claims(database, 2)
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock(78); RETURN NEW; END $$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
            FOR EACH ROW WHEN (NEW.id = '{waiting.job_id}') EXECUTE FUNCTION public.app_rule()""",
    )
    await foreign.execute("SELECT pg_advisory_lock(78)")
    writer = GroupWriter(database)
    late = writer.add(waiting, completed(waiting), waiting=Lane())

    assert await write_all(writer, [Write(other, completed(other))]) == [None]

    assert not late.done()
    await foreign.execute("SELECT pg_advisory_unlock(78)")
    await asyncio.wait_for(late, HANGS_AFTER_S)
    assert committed[0] == "record_group"
    assert await history_of(database, waiting) == ["finished GENERATING"]


async def test_many_jobs_whose_rows_are_held_leave_connections_to_the_others(
    database, database_url, foreign, eventually
):
    """A worker has fewer connections than lanes."""
    few = Database(parse_postgres_url(database_url), most_connections=4)
    await few.open()
    *held, free = await make_claims(database, 13)
    writer = GroupWriter(few)
    async with foreign.transaction():
        await foreign.fetch(
            "SELECT FROM public.image_enhancement_jobs WHERE id = ANY ($1) FOR UPDATE", [one.job_id for one in held]
        )
        waiting = [writer.add(one, completed(one), waiting=Lane()) for one in held]
        await eventually(lambda: waiting_for_locks(database))
        assert await write_all(writer, [Write(free, completed(free))]) == [None]
        for _ in range(10):
            assert await waiting_for_locks(database) <= 2
            await asyncio.sleep(0.03)
        assert not any(one.done() for one in waiting)
    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.gather(*waiting)
    await few.close()


class Losing:
    """Ends the session of the next groups, from outside, after their commit or before it; then awaits `then`."""

    def __init__(self, monkeypatch, admin):
        self.times, self.is_after, self.then = 0, True, None
        commit, losing = Database.commit, self

        async def commit_and_lose(self, name, work, **options):
            async def lose(connection):
                if not losing.times:
                    return await work(connection)
                losing.times -= 1
                if not losing.is_after:
                    await connection.execute("BEGIN")
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                await work(connection)
                if losing.then is not None:
                    await losing.then()
                await admin.execute("SELECT pg_terminate_backend($1)", pid)
                await connection.fetchval("SELECT pg_sleep(10)")
                raise AssertionError("the session goes on")

            return await commit(self, name, lose if name == "record_group" else work, **options)

        monkeypatch.setattr(Database, "commit", commit_and_lose)


@pytest.fixture
async def losing(monkeypatch, connect):
    return Losing(monkeypatch, await connect())


IDEMPOTENT = (
    *("checkpoint", "checkpoint without a column", "two checkpoints, to a stage without a label", "three checkpoints"),
    *("artifact", "artifact and checkpoint"),
)


@pytest.mark.parametrize("table", ["enhancements", "generations"])
@pytest.mark.parametrize("is_after", [True, False], ids=["after the commit", "before the commit"])
async def test_group_whose_connection_is_lost_is_written_once(database, losing, table, is_after):
    claims = await make_claims(database, 2 * len(EVENTS), table)
    alone, grouped = claims[: len(EVENTS)], claims[len(EVENTS) :]
    lonely = [
        Write(claim, event) for claim, events in zip(alone, EVENTS.values(), strict=True) for event in events(claim)
    ]
    together = [
        Write(one, event) for one, events in zip(grouped, EVENTS.values(), strict=True) for event in events(one)
    ]
    await database.fetch("UPDATE darkroom.job_queue SET notified_at = now() - interval '1 minute'")
    assert set(await write_one_by_one(database, lonely)) == {None}
    losing.times, losing.is_after = 2, is_after

    errors = await write_all(GroupWriter(database), together)

    assert losing.times == 0
    for claim, twin, kind in zip(grouped, alone, EVENTS, strict=True):
        mine = {type(error) for write, error in zip(together, errors, strict=True) if write.claim is claim}
        assert mine == ({type(None)} if kind in IDEMPOTENT or not is_after else {FencedError}), kind
        assert await facts_of(database, claim) == await facts_of(database, twin), kind


@pytest.mark.parametrize("then", ["locked", "refused"])
async def test_group_that_was_committed_unheard_and_goes_alone_then_finishes_no_stage_twice(
    database, losing, foreign, committed, then
):
    claim, other = await make_claims(database, 2)
    held = foreign.transaction()

    async def meddle():
        if then == "locked":
            await held.start()
            await foreign.execute("SELECT FROM darkroom.job_queue WHERE job_id = $1 FOR UPDATE", claim.job_id)
        else:
            await refuse(database, "raise", f"NEW.id = '{other.job_id}'")
            futures.append(writer.add(other, completed(other), waiting=Lane()))

    losing.times, losing.then = 1, meddle
    writer = GroupWriter(database)
    futures = [writer.add(claim, event, waiting=Lane()) for event in EVENTS["three checkpoints"](claim)]
    async with asyncio.timeout(HANGS_AFTER_S):
        while "record_checkpoint" not in committed:  # noqa: ASYNC110 - alone, by another task
            await asyncio.sleep(0.01)
        if then == "locked":
            await held.commit()
        await asyncio.wait(futures)

    assert futures[0].exception() is None
    assert await history_of(database, claim) == [f"finished {stage}" for stage in FINISHED]
    assert (await queue_row(database, claim.job_id))["stage"] == "PROMPTING"


STAGES = [f"STEP_{number}" for number in range(7)]
RUNS = 12
NOT_LONG = 0.02


async def lock_now_and_then(random, foreign, claims, is_over):
    while not is_over.is_set():
        async with foreign.transaction():
            of = random.choice(["public.image_enhancement_jobs WHERE id", "darkroom.job_queue WHERE job_id"])
            held = [one.job_id for one in random.sample(claims, 3)]
            await foreign.execute(f"SELECT FROM {of} = ANY ($1) FOR UPDATE", held)
            await asyncio.sleep(random.uniform(0, 3 * NOT_LONG))
        await asyncio.sleep(random.uniform(0, 3 * NOT_LONG))


async def lose_now_and_then(random, losing, is_over):
    while not is_over.is_set():
        losing.times, losing.is_after = 1, random.random() < 0.5
        await asyncio.sleep(random.uniform(0, 10 * NOT_LONG))


@pytest.mark.parametrize("seed", range(3))
async def test_events_of_a_claim_are_written_in_order_up_to_the_first_that_is_refused(database, connect, losing, seed):
    """Whatever is locked, refused or lost meanwhile, and whenever the claim sends what."""
    chance = random.Random(seed)
    claims = await make_claims(database, RUNS)
    await database.fetch("UPDATE darkroom.job_queue SET stage = $1", STAGES[0])
    await refuse(database, "raise", """NEW."analysisSource" LIKE '%refused'""")
    writer, sent = GroupWriter(database), {}

    async def run_claim(claim):
        refused = chance.choice([None, None, *STAGES[:-1]])
        for stage, following in itertools.pairwise(STAGES):
            columns = {"analysisSource": f"{stage} {'refused' if stage == refused else 'fine'}"}
            event = Checkpoint(stage, following, 60, 1, columns, kept=Kept({"stage": stage}))
            sent[claim.job_id].append((stage, writer.add(claim, event, waiting=Lane())))
            if chance.random() < 0.6:
                await asyncio.sleep(chance.choice([0, 0, NOT_LONG]))
            if sent[claim.job_id][-1][1].done() and sent[claim.job_id][-1][1].exception():
                return  # as `RunningJob.send` does
        if refused is None:
            sent[claim.job_id].append(("GENERATING", writer.add(claim, completed(claim), waiting=Lane())))

    is_over = asyncio.Event()
    sent.update({claim.job_id: [] for claim in claims})
    disturbing = [
        asyncio.create_task(lock_now_and_then(chance, await connect(), claims, is_over)),
        asyncio.create_task(lose_now_and_then(chance, losing, is_over)),
    ]
    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.gather(*(run_claim(claim) for claim in claims))
        await asyncio.wait([future for those in sent.values() for _, future in those])
    is_over.set()
    await asyncio.gather(*disturbing)

    for claim in claims:
        stages = [stage for stage, _ in sent[claim.job_id]]
        written = [stage for stage, future in sent[claim.job_id] if future.exception() is None]
        assert written == stages[: len(written)]
        found = await history_of(database, claim)
        lost_answers = [one for _, one in sent[claim.job_id] if isinstance(one.exception(), FencedError)]
        # an end that was committed, and whose answer was lost, is fenced when it is written again
        expected = stages if lost_answers else written
        assert found == [f"finished {stage}" for stage in expected], (seed, found, written)
        kept = await database.fetch(
            "SELECT stage FROM darkroom.checkpoints WHERE job_id = $1 ORDER BY stage", claim.job_id
        )
        assert [row["stage"] for row in kept] == [stage for stage in expected if stage in STAGES]
