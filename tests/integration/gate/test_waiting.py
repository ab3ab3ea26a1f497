"""Calls that wait in their process for a free place at a provider, and jobs that are claimed only if they can call."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from config.masking import SecretMask
from models.connections import DatabaseLostError
from models.queue.transitions import Released
from pipelines.deadline import Deadline
from pipelines.errors import BrokenAnswerError, ThrottledError
from pipelines.settings import Settings
from tests.integration.gate.test_gate import attempt, close
from tests.integration.gate.test_sending import PROMPT, scripted
from tests.support.builders import (
    claim_jobs,
    make_claim,
    make_image,
    make_job,
    make_user,
    make_worker,
    queue_row,
    waiting_for_locks,
)
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S, within
from tests.support.scripted_provider import asking_again
from workers.gate import places
from workers.gate.gate import Gate
from workers.gate.refusals import PassedOverError, SentBackError
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running import row_deadlines
from workers.running.claim_loop import ClaimLoop
from workers.running.job import RunningJob, Tally
from workers.running.outcomes import outcome_of
from workers.running.row_deadlines import RowDeadlines

ONE = "gemini/concurrency=1,gemini/first_concurrency=1"
RULES = {"concurrency": 1, "first_concurrency": 1}


class Buying:
    """A process whose jobs make generate calls, which end when a test lets them."""

    def __init__(self, database, limits=ONE, **hooks):
        self.database, self.may_end = database, asyncio.Event()

        self.error = None

        async def answer(_call):
            await self.may_end.wait()
            if self.error is not None:
                raise self.error

        self.provider = scripted(answer, **hooks)
        self.gate = Gate(database, [self.provider], self.provider, Settings(provider_limits=limits))
        self.tasks = []

    def call(self, claim):
        task = asyncio.create_task(self.gate.for_job(RunningJob(claim), most_paid_calls=3).generate(PROMPT, [], 8, 1.0))
        self.tasks.append(task)
        return task

    async def calls(self, number):
        async with asyncio.timeout(HANGS_AFTER_S):
            while self.provider.sent < number:  # noqa: ASYNC110 - counted by the provider
                await asyncio.sleep(0.01)


@pytest.fixture
async def buying(database):
    """Make processes; what they still do ends with the test."""
    made = []

    def make(*arguments, **hooks):
        made.append(Buying(database, *arguments, **hooks))
        return made[-1]

    yield make
    for process in made:
        for task in process.tasks:
            task.cancel()
        await asyncio.gather(*process.tasks, return_exceptions=True)


async def occupy(database):
    """Let another process's call take the only place."""
    claim = await make_claim(database)
    return await attempt(database, claim, rules=RULES)


async def free(database, opened):
    await close(database, opened, "neutral", rules=RULES)


async def waits(process, task):
    """Wait until a call waits for a place, as a look that was refused tells."""
    async with asyncio.timeout(HANGS_AFTER_S):
        while not process.gate._places["gemini"]._waiting:  # noqa: ASYNC110 - another task's
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not task.done()


async def test_call_waits_in_its_process_until_another_of_it_ends_and_prepares_no_picture_before(database, buying):
    prepared = []

    async def note(call):
        prepared.append(call)

    process = buying(preparing=note)
    first = process.call(await make_claim(database))
    await process.calls(1)
    second = process.call(await make_claim(database))
    await waits(process, second)
    assert len(prepared) == 1

    process.may_end.set()
    await asyncio.gather(first, second)

    assert process.provider.sent == len(prepared) == 2
    events = await database.fetch("SELECT event FROM darkroom.stage_runs WHERE event <> 'claimed'")
    assert events == []


@pytest.fixture
def looks(monkeypatch):
    """Count the looks at the provider's cell."""
    made, look = [], places.places_now

    async def counted(*arguments, **options):
        made.append(options)
        return await look(*arguments, **options)

    monkeypatch.setattr(places, "places_now", counted)
    return made


async def test_calls_within_a_second_are_counted_on_from_one_look(database, buying, looks, monkeypatch):
    monkeypatch.setattr(places, "LOOK_S", 30)
    process = buying("gemini/concurrency=2,gemini/first_concurrency=2")
    process.may_end.set()
    for _ in range(5):
        await process.call(await make_claim(database))

    assert (len(looks), await process.gate.callable_jobs(0, 2)) == (1, 2)


async def test_process_whose_call_met_a_429_claims_no_more_jobs_for_the_provider(database, buying, monkeypatch):
    monkeypatch.setattr(places, "LOOK_S", 30)
    process = buying("gemini/concurrency=64,gemini/first_concurrency=64")
    process.error = ThrottledError("not now", retry_after=timedelta(seconds=60))
    call = process.call(await make_claim(database))
    await process.calls(1)
    process.may_end.set()
    with pytest.raises(ThrottledError):
        await call

    assert await process.gate.callable_jobs(0, 40) == 0


async def test_look_from_before_a_failed_call_is_not_counted_on(database, buying, looks, monkeypatch):
    monkeypatch.setattr(places, "LOOK_S", 30)
    gate, look, has_seen, may_return = buying().gate, places.places_now, asyncio.Event(), asyncio.Event()

    async def slow(*arguments, **options):
        now = await look(*arguments, **options)
        has_seen.set()
        await may_return.wait()
        return now

    monkeypatch.setattr(places, "places_now", slow)
    asked = asyncio.create_task(gate.callable_jobs(0, 1))
    await has_seen.wait()
    gate._places["gemini"].forget()
    may_return.set()
    await asked

    await gate.callable_jobs(0, 1)

    assert len(looks) == 2


async def test_process_that_lacks_places_sees_at_once_that_ended_calls_raised_the_ceiling(
    database, buying, monkeypatch
):
    monkeypatch.setattr(places, "LOOK_S", 30)  # only the lack makes it look
    process = buying("gemini/concurrency=8,gemini/first_concurrency=2")
    calls = [process.call(await make_claim(database)) for _ in range(2)]
    await process.calls(2)
    process.may_end.set()
    await asyncio.gather(*calls)

    assert [await process.gate.callable_jobs(0, wanted) for wanted in (2, 8)] == [2, 4]


async def test_refused_call_makes_its_process_look_before_the_next_is_prepared(database, buying, monkeypatch):
    monkeypatch.setattr(places, "LOOK_S", 30)  # the process relies on its own count
    prepared = []

    async def note(call):
        prepared.append(call)

    process = buying(preparing=note)
    process.may_end.set()
    await process.call(await make_claim(database))
    opened = await occupy(database)
    first = process.call(await make_claim(database))
    await waits(process, first)
    second = process.call(await make_claim(database))
    await waits(process, second)
    assert len(prepared) == 2
    monkeypatch.setattr(places, "LOOK_S", 0.1)
    process.gate._places["gemini"]._woken.set()
    await free(database, opened)

    await asyncio.gather(first, second)

    assert process.provider.sent == 3


async def test_call_waits_for_a_place_that_another_process_holds(database, buying):
    process, opened = buying(), await occupy(database)
    call = process.call(await make_claim(database))
    await waits(process, call)
    await free(database, opened)
    process.may_end.set()

    with within(2):
        await call


async def test_prepared_call_whose_place_another_process_took_waits_first_and_is_prepared_once(database, buying):
    taken, prepared = [], []

    async def take(call):
        prepared.append(call)
        if not taken:
            taken.append(await occupy(database))

    process = buying(preparing=take)
    first = process.call(await make_claim(database))
    async with asyncio.timeout(HANGS_AFTER_S):
        while not taken:  # noqa: ASYNC110 - set by the call
            await asyncio.sleep(0.01)
    await waits(process, first)
    behind = process.call(await make_claim(database))
    await free(database, taken[0])
    await process.calls(1)
    assert len(prepared) == 1

    process.may_end.set()
    await asyncio.gather(first, behind)


async def test_wait_counts_against_no_deadline(database, buying):
    process, opened = buying(), await occupy(database)
    process.may_end.set()

    async def within_half_a_second():
        with Deadline(0.5):
            return await process.call_here(claim)

    claim = await make_claim(database)
    process.call_here = lambda one: process.gate.for_job(RunningJob(one), most_paid_calls=3).generate(
        PROMPT, [], 8, 1.0
    )
    call = asyncio.create_task(within_half_a_second())
    process.tasks.append(call)
    await waits(process, call)
    await asyncio.sleep(0.8)
    await free(database, opened)

    await call


async def test_deadline_in_the_row_of_a_claim_that_waits_is_moved(database, buying, monkeypatch):
    monkeypatch.setattr(row_deadlines, "LOOK_S", 0.1)
    process, rows = buying(), RowDeadlines(database)
    await occupy(database)
    (claim,) = await _claimed(database, deadline_s=1)

    async def with_a_minute():
        with Deadline(60) as deadline:
            rows.follow(claim, deadline)
            await process.gate.for_job(RunningJob(claim), most_paid_calls=3).generate(PROMPT, [], 8, 1.0)

    call = asyncio.create_task(with_a_minute())
    process.tasks.append(call)
    await waits(process, call)

    async def is_moved():
        return (await queue_row(database, claim.job_id))["deadline_at"] > datetime.now(UTC) + timedelta(seconds=50)

    await eventually(is_moved, 5)


async def _claimed(database, **options):
    await make_job(database)
    return await claim_jobs(database, **options)


async def test_kill_switch_ends_a_wait(database, buying):
    process = buying()
    await occupy(database)
    call = process.call(await make_claim(database))
    await waits(process, call)
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}')""")

    with within(2), pytest.raises(PassedOverError, match="buying is stopped"):
        async with asyncio.timeout(HANGS_AFTER_S):
            await call
    assert process.provider.sent == 0


@pytest.mark.parametrize("pause", ["queue:default", "type:enhance", "tier:TIER_1K"])
async def test_pause_of_a_job_sends_it_back_while_it_waits(database, buying, pause):
    process = buying()
    await occupy(database)
    call = process.call(await make_claim(database))
    await waits(process, call)
    await database.fetch(
        "INSERT INTO darkroom.settings (key, value) VALUES ('pauses', jsonb_build_object($1::text, '{}'::jsonb))", pause
    )

    with within(2), pytest.raises(SentBackError):
        async with asyncio.timeout(HANGS_AFTER_S):
            await call


async def test_job_goes_back_when_only_other_processes_get_places(database, buying, monkeypatch):
    monkeypatch.setattr(places, "ELSEWHERE_S", 1.0)
    monkeypatch.setattr(places, "LOOK_S", 0.1)
    process, opened = buying(), await occupy(database)
    claims = [await make_claim(database) for _ in range(2)]
    call = process.call(claims[0])
    await waits(process, call)
    async with database.connection() as connection, connection.transaction():
        # another process's next call begins in the moment in which the one before ends
        await connection.execute("SELECT FROM darkroom.lock_cell('provider', 'gemini', 'epoch')")
        await connection.execute(
            "SELECT darkroom.change_cell(l, l.used + 1, l.state) FROM darkroom.cell('provider', 'gemini', 'epoch') l"
        )

    with pytest.raises(SentBackError, match="another process has places"):
        async with asyncio.timeout(HANGS_AFTER_S):
            await call
    assert opened.intent


async def test_job_goes_back_when_only_this_processs_limit_refuses_it(database, buying, monkeypatch):
    monkeypatch.setattr(places, "ELSEWHERE_S", 0.5)
    wide = {"concurrency": 9, "first_concurrency": 1}
    opened = await attempt(database, await make_claim(database), rules=wide)
    await close(database, opened, rules=wide)  # the ceiling is 2
    await attempt(database, await make_claim(database), rules=wide)
    process = buying()

    with pytest.raises(SentBackError):
        async with asyncio.timeout(HANGS_AFTER_S):
            await process.call(await make_claim(database))


async def test_job_waits_on_while_nobody_has_a_place(database, buying, monkeypatch):
    monkeypatch.setattr(places, "ELSEWHERE_S", 0.2)
    monkeypatch.setattr(places, "LOOK_S", 0.1)
    process = buying()
    await occupy(database)
    call = process.call(await make_claim(database))
    await asyncio.sleep(1)

    assert not call.done()


async def test_job_that_is_sent_back_is_released(database):
    job = RunningJob(await make_claim(database))

    async def refused():
        raise SentBackError("another process has places", retry_after=timedelta(0))

    outcome = await outcome_of(job, refused(), SecretMask([]))

    assert (type(outcome.end), outcome.error) == (Released, None)


async def test_lost_database_ends_a_wait_with_its_own_error(database, buying, monkeypatch):
    async def lost(*_, **__):
        raise DatabaseLostError(OSError("gone"))

    process = buying()
    claim = await make_claim(database)
    monkeypatch.setattr(places, "places_now", lost)

    with pytest.raises(DatabaseLostError):
        await process.call(claim)


async def test_cancelled_wait_leaves_its_place_to_the_next(database, buying):
    process, opened = buying(), await occupy(database)
    first, second = process.call(await make_claim(database)), process.call(await make_claim(database))
    await waits(process, first)
    first.cancel()
    await free(database, opened)
    process.may_end.set()

    with within(3):
        await second
    assert process.provider.sent == 1


class Worker:
    """A claim loop whose jobs make one call each."""

    def __init__(self, database, worker_id, process):
        self.jobs, self._process = [], process
        settings = Settings(lanes=16, queues=["default"], poll_s=0.1)
        self.loop = ClaimLoop(
            *(settings, database, worker_id, self._run),
            lanes=Lanes(),
            session_age=lambda: SessionAge(15),
            callable_jobs=process.gate.callable_jobs,
        )
        process.gate.when_a_call_ends(self.loop.call_ended)
        process.tasks.append(asyncio.create_task(self.loop.run()))

    async def _run(self, job):
        self.jobs.append(job)
        try:
            await self._process.gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 8, 1.0)
        except asyncio.CancelledError:
            if job.told_to_end() is None:
                raise


async def jobs(database, number):
    user = await make_user(database, balance=1000)
    image = await make_image(database, user)
    for _ in range(number):
        await make_job(database, user_id=user, image_id=image)


async def test_no_more_jobs_are_claimed_than_can_be_called(database, buying):
    await jobs(database, 12)
    process = buying("gemini/concurrency=7,gemini/first_concurrency=4")
    worker = Worker(database, await make_worker(database), process)
    await process.calls(4)
    await asyncio.sleep(1.2)  # two looks more
    at_first = len(worker.jobs)

    process.may_end.set()
    await process.calls(12)

    assert (at_first, len(worker.jobs)) == (4, 12)


async def test_job_that_waits_is_given_no_grace_when_the_process_stops(database, buying):
    taken = []

    async def take(_call):
        taken.append(await occupy(database))

    await jobs(database, 1)
    process = buying(preparing=take)
    worker = Worker(database, await make_worker(database), process)
    async with asyncio.timeout(HANGS_AFTER_S):
        while not taken:  # noqa: ASYNC110 - set by a job
            await asyncio.sleep(0.01)
    await waits(process, worker.jobs[0].task)

    with within(2):
        await worker.loop.stop(30)

    assert (worker.jobs[0].task.done(), process.provider.sent) == (True, 0)


async def test_free_provider_limits_no_claims(database, buying):
    process = buying(is_paid=False, name="local")

    assert await process.gate.callable_jobs(100, 1) is None


async def test_paused_free_provider_lets_no_jobs_be_claimed_until_it_is_resumed(database, buying):
    gate = buying(is_paid=False, name="local").gate
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('pauses', '{"provider:local": {"actor": "ann"}}')""")
    assert [await gate.callable_jobs(0, 1), await gate.callable_jobs(0, 1)] == [0, 0]

    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")

    assert await gate.callable_jobs(0, 1) is None


async def test_jobs_on_their_way_to_a_call_take_places(database, buying):
    gate = buying("gemini/concurrency=64,gemini/first_concurrency=16").gate

    assert [await gate.callable_jobs(awaiting, 1) for awaiting in (0, 10, 18, 40)] == [18, 8, 0, 0]


async def test_kill_switch_lets_no_jobs_be_claimed(database, buying):
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}')""")

    assert await buying().gate.callable_jobs(0, 1) == 0


@pytest.mark.parametrize("is_recording", [False, True], ids=["waits for a row", "records its end"])
async def test_job_that_needs_no_place_soon_is_not_awaited(database, is_recording):
    tally = Tally()
    job = RunningJob(await make_claim(database), tally)
    before = tally.awaiting_call
    if not is_recording:
        job.leave_lane()
    with job.recording() if is_recording else contextlib.nullcontext():
        assert (before, tally.awaiting_call) == (1, 0)
    job.take_lane()
    assert tally.awaiting_call == 1
    job.count_out()
    assert (tally.awaiting_call, tally.outside_lanes) == (0, 0)


async def test_stop_after_a_bought_broken_answer_sends_the_job_back(database):
    job = RunningJob(await make_claim(database))
    broken = asking_again(BrokenAnswerError, "text and no picture")

    def answer(call):
        job.shut_down(has_grace=True)
        return broken(call)

    provider = scripted(answer)
    gate = Gate(database, [provider], provider, Settings(provider_limits=ONE))
    with pytest.raises(SentBackError):
        await gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 8, 1.0)
    assert provider.sent == 1


async def test_call_that_is_taken_back_counts_as_this_processs_own_and_frees_its_place_at_once(
    database, buying, monkeypatch
):
    monkeypatch.setattr(places, "LOOK_S", 30)  # only what this process knows of lets it look
    process = buying()
    claims = [await make_claim(database) for _ in range(2)]
    known = process.gate._places["gemini"]
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT darkroom.lock_cell('provider', 'gemini', 'epoch')")
        cancelled = process.call(claims[0])
        async with asyncio.timeout(HANGS_AFTER_S):
            while not await waiting_for_locks(database):  # noqa: ASYNC110 - another session's
                await asyncio.sleep(0.01)
        waiting = process.call(claims[1])
        await waits(process, waiting)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await asyncio.sleep(0.1)  # the place is looked for, and isn't free yet
    process.may_end.set()

    async with asyncio.timeout(HANGS_AFTER_S):
        await waiting
    assert await database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE NOT was_sent") == 1
    assert (await known.now(needed=99)).admitted == known._own == 2
