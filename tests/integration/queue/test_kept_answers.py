"""Bought pictures whose process stops before they are finished: they are stored as they came, and not bought again."""

import asyncio
import contextlib
import errno
import hashlib
import io
import signal
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from config.masking import SecretMask
from models.connections import ContentionError
from models.gate.provider_calls import record_unusable
from models.queue.groups import GroupWriter
from pipelines.errors import StorageUnavailableError
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.keys import ANSWERS
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.settings import Settings
from pipelines.storage.file import FileStorage
from tests.support import imaging_tasks as tasks
from tests.support.builders import (
    balance_of,
    job_row,
    make_generation,
    make_image,
    make_job,
    make_user,
    make_worker,
    set_status,
)
from tests.support.fake_gemini import odd
from tests.support.fake_gemini.server import FakeGemini
from tests.support.kept_pixels import KeptPool, kept_children
from tests.support.patience import HANGS_AFTER_S
from tests.support.running import make_stages
from tests.support.scripted_provider import ScriptedProvider
from workers.gate.gate import Gate
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running.claim_loop import ClaimLoop
from workers.running.record import Recorder
from workers.running.runner import Runner

__all__ = ["kept_children"]

BALANCE, PRICE = 100, 2
LIMITS = DecodeLimits()
ANSWERED = ("answered", True)


class House:
    """A database, a storage and a provider, and the workers that live on them one after the other."""

    def __init__(self, database, folder):
        self.database, self.folder = database, folder
        self.storage = FileStorage(folder)
        self.provider = ScriptedProvider(name="gemini", model="m")
        self.settings = Settings(lanes=8, queues=["default"], poll_s=0.1)
        self.stages = self.loop = None
        self._workers = 0

    def provider_with(self, _pixels):
        """Return the provider that a worker opens."""
        return self.provider

    @contextlib.asynccontextmanager
    async def worker(self, *, is_busy=False):
        """A worker with one pixel child, which is busy until the worker has stopped if `is_busy`."""
        self._workers += 1
        is_over = self.folder / f"over-{self._workers}"
        async with KeptPool(size=1) as pixels:
            await pixels.run(tasks.pid)
            busy = asyncio.create_task(pixels.run(tasks.wait_for_file, str(is_over))) if is_busy else None
            await asyncio.sleep(0)
            provider = self.provider_with(pixels)
            async with self._loop(pixels, provider):
                yield pixels
            await provider.aclose()
            is_over.touch()
            if busy is not None:
                await busy

    @contextlib.asynccontextmanager
    async def _loop(self, pixels, provider):
        writer, mask = GroupWriter(self.database), SecretMask([])
        self.stages = make_stages(self.database, writer, self.folder, None, mask)
        self.stages._pixels, self.stages._storage = pixels, self.storage
        self.stages._provider_for = Gate(self.database, [provider], provider, self.settings).for_job
        self.loop = loop = ClaimLoop(
            self.settings,
            self.database,
            await make_worker(self.database),
            Runner(self.stages, Recorder(self.database, writer, mask)).run_job,
            lanes=Lanes(),
            session_age=lambda: SessionAge(15),
        )
        looking = asyncio.create_task(loop.run())
        try:
            yield
        finally:
            await loop.stop(0.1)
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    async def buy(self, eventually, *, jobs=1, user=None):
        """Submit jobs, and stop their worker when each has its answer and none is finished; return their ids."""
        ids = [await make_generation(self.database, user_id=user) for _ in range(jobs)]

        async def have_answered():
            return await self.calls() == [ANSWERED] * jobs

        async with self.worker(is_busy=True):
            await eventually(have_answered)
        assert await self.statuses(ids) == ["PENDING"] * jobs
        return ids

    async def complete(self, ids, eventually):
        """Let another worker complete jobs, at once also after a failed attempt."""

        async def are_over():
            await self.database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
            return not await self.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

        async with self.worker():
            await eventually(are_over)
        assert await self.statuses(ids) == ["COMPLETED"] * len(ids)

    async def statuses(self, ids):
        return [(await job_row(self.database, one))["status"] for one in ids]

    async def calls(self):
        rows = await self.database.fetch("SELECT outcome, may_be_paid FROM darkroom.provider_calls ORDER BY id")
        return [tuple(row) for row in rows]

    async def keys(self, ids):
        """Return the keys of the jobs' results, of all objects that are recorded, and of all that are stored."""
        results = await self.database.fetch(
            'SELECT "outputImageR2Key" AS key FROM public.mcp_generation_jobs WHERE id = ANY ($1)', ids
        )
        recorded = await self.database.fetch("SELECT key FROM darkroom.objects")
        stored = [one for folder in (ANSWERS, "mcp-generated/") for one in await self.storage.list_objects(folder)]
        return {row["key"] for row in results}, {row["key"] for row in recorded}, {one.key for one in stored}

    async def kept(self):
        """Return the key of the only kept answer."""
        (one,) = await self.storage.list_objects(ANSWERS)
        return one.key

    async def sweep(self, days, **fields):
        """Collect orphans as a scheduler does, so many days later."""
        settings = Settings(**fields)
        engine = PeriodicEngine(self.database, self.storage, settings, periodic_tasks(settings))
        return await engine.run_extra("collect-orphans", datetime.now(UTC) + timedelta(days=days))


@pytest.fixture
async def house(database, tmp_path, kept_children):
    return House(database, tmp_path)


async def test_pictures_that_wait_for_a_child_when_their_process_stops_are_bought_once(house, eventually):
    user = await make_user(house.database, balance=BALANCE)
    ids = await house.buy(eventually, jobs=3, user=user)
    kept = await house.keys(ids)

    await house.complete(ids, eventually)

    results, recorded, stored = await house.keys(ids)
    assert len(kept[2]) == len(results) == 3
    assert kept[1] == kept[2]
    assert recorded == stored == results
    assert house.provider.sent == 3
    assert await house.calls() == [ANSWERED] * 3
    assert await house.database.fetchval("SELECT sum(cost_usd) FROM darkroom.provider_calls") == 3 * 0.25
    assert await balance_of(house.database, user) == BALANCE - 3 * PRICE
    for key in results:
        header = read_header(await house.storage.get(key), LIMITS)
        assert max(header.width_px, header.height_px) == 1024
    made = await house.database.fetch("SELECT model, temperature FROM darkroom.artifacts")
    assert {tuple(one) for one in made} == {("m", 0.4)}


async def test_run_that_is_cut_off_again_leaves_the_answer_to_the_next_one(house, eventually):
    ids = await house.buy(eventually)
    key = await house.kept()
    for _ in range(2):
        async with house.worker(is_busy=True):
            await asyncio.sleep(0.5)
        assert await house.kept() == key

    await house.complete(ids, eventually)

    assert house.provider.sent == 1


async def test_answer_is_finished_although_the_budget_is_spent(house, eventually):
    ids = await house.buy(eventually)
    house.settings = Settings(lanes=8, queues=["default"], poll_s=0.1, budgets="total_calls=1")

    await house.complete(ids, eventually)

    assert await house.calls() == [ANSWERED]


@pytest.fixture
def gemini(house):
    """Let workers call a server that answers as Gemini does: its pictures are looked at before they are finished."""
    with FakeGemini() as server:
        settings = Settings(gemini_api_key="key", gemini_base_url=server.url)
        house.provider_with = lambda pixels: GeminiProvider(settings, pixels, LIMITS)
        yield server


async def cut_off_in_the_look(house, server, eventually):
    """Stop a worker whose only child is busy, once the server has answered."""
    ids = [await make_generation(house.database)]

    async def has_come():
        return server.calls and not server._in_flight

    async with house.worker(is_busy=True):
        await eventually(has_come)
        await asyncio.sleep(0.5)
    return ids


async def test_picture_that_nobody_has_looked_at_is_looked_at_by_the_next_run(house, gemini, eventually):
    ids = await cut_off_in_the_look(house, gemini, eventually)
    calls = await house.database.fetch("SELECT outcome, images, output_units FROM darkroom.provider_calls")

    await house.complete(ids, eventually)

    assert [tuple(call) for call in calls] == [("answered", 1, 1120)]
    assert gemini.count("generate") == 1
    results, recorded, stored = await house.keys(ids)
    assert recorded == stored == results


async def test_picture_that_turns_out_to_miss_the_request_is_not_finished_and_goes(house, gemini, eventually):
    small = odd.with_picture(Image.linear_gradient("L").resize((64, 64)))
    gemini.answer = lambda _request: small
    ids = await cut_off_in_the_look(house, gemini, eventually)
    gemini.answer = None

    await house.complete(ids, eventually)

    assert gemini.count("generate") == 2
    errors = await house.database.fetch("SELECT error FROM darkroom.stage_runs WHERE event = 'retried'")
    assert "wrong size: 64 x 64" in errors[0]["error"]
    results, recorded, stored = await house.keys(ids)
    assert recorded == stored == results


async def test_misses_that_only_the_next_run_sees_count_as_others(house, gemini, eventually):
    small = odd.with_picture(Image.linear_gradient("L").resize((64, 64)))
    gemini.answer = lambda _request: small
    (job_id,) = await cut_off_in_the_look(house, gemini, eventually)

    async def is_over():
        await house.database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
        return not await house.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

    async with house.worker():
        await eventually(is_over)

    assert await house.statuses([job_id]) == ["REFUNDED"]
    assert gemini.count("generate") == 2
    assert await house.calls() == [("WrongSizeError", True)] * 2
    problems = await house.database.fetch("SELECT problem, images, cost_usd FROM darkroom.provider_calls ORDER BY id")
    assert problems[0] == problems[1]
    assert "wrong size: 64 x 64" in problems[0]["problem"]
    row = await house.database.fetchval('SELECT "errorMessage" FROM public.mcp_generation_jobs')
    assert "it came twice, so it isn't bought a third time" in row


async def test_miss_is_recorded_although_the_database_is_locked_at_first(house, gemini, eventually, monkeypatch):
    monkeypatch.setattr("workers.running.run.DATABASE_GONE_S", 0.1)
    small = odd.with_picture(Image.linear_gradient("L").resize((64, 64)))
    gemini.answer = lambda _request: small
    ids = await cut_off_in_the_look(house, gemini, eventually)
    gemini.answer, refused = None, []

    async def refuse_once(*arguments, **parts):
        if not refused:
            refused.append(parts)
            raise ContentionError("locked")
        await record_unusable(*arguments, **parts)

    monkeypatch.setattr("workers.running.kept_answers.record_unusable", refuse_once)
    monkeypatch.setattr("models.database_retries.CONTENTION_RETRY_S", 0)
    await house.complete(ids, eventually)

    assert refused
    assert await house.calls() == [("WrongSizeError", True), ANSWERED]


async def test_broken_answer_is_decoded_once_and_another_is_bought(house, eventually):
    def broken(call):
        data = house.provider._answer(call, None).value.data
        return data[:400] + bytes(200)

    house.provider._scripts["generate"] = [broken, None]
    ids = [await make_generation(house.database)]

    await house.complete(ids, eventually)

    assert house.provider.sent == 2
    assert await house.calls() == [("BrokenAnswerError", True), ANSWERED]
    events = await house.database.fetch("SELECT event, error FROM darkroom.stage_runs WHERE error IS NOT NULL")
    assert [(one["event"], "no usable picture" in one["error"]) for one in events] == [("retried", True)]
    results, recorded, stored = await house.keys(ids)
    assert recorded == stored == results


def finishing_by(pixels, monkeypatch, work):
    """Let a worker do other work where it would finish a picture."""
    run = pixels.run

    async def run_other(function, *arguments, **limits):
        if function.__qualname__ == "finish":
            return await work(run)
        return await run(function, *arguments, **limits)

    monkeypatch.setattr(pixels, "run", run_other)


@pytest.mark.parametrize("failure", ["killed", OSError(errno.ENOMEM, "no memory"), MemoryError(), RuntimeError("bug")])
async def test_answer_that_the_machine_could_not_finish_is_finished_by_the_next_attempt(
    house, eventually, monkeypatch, failure
):
    ids, failed = [await make_generation(house.database)], []

    async def is_retried():
        return await house.database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'retried'")

    async def fail(run):
        failed.append(run)
        if failure == "killed":
            return await run(tasks.end_by, signal.SIGKILL)
        raise failure

    async with house.worker() as pixels:
        finishing_by(pixels, monkeypatch, fail)
        await eventually(is_retried)
    await house.complete(ids, eventually)

    assert len(failed) == 1
    assert house.provider.sent == 1


@pytest.mark.parametrize("damage", ["removed", "changed", "of another release"])
async def test_answer_that_is_gone_or_damaged_is_bought_again(house, eventually, damage):
    ids = await house.buy(eventually)
    path = house.folder / await house.kept()
    if damage == "removed":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(path.read_bytes().replace(b'"m"', b'"n"', 1))
    else:
        path.write_bytes(b"{}\n" + bytes(path.stat().st_size - 3))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        await house.database.fetch("UPDATE darkroom.objects SET sha256 = $1", sha256)

    await house.complete(ids, eventually)

    assert await house.calls() == [ANSWERED] * 2
    assert (await house.keys(ids))[0] <= (await house.keys(ids))[2]


async def test_answer_of_other_words_is_not_taken(house, eventually):
    ids = await house.buy(eventually)
    await house.database.fetch("UPDATE public.mcp_generation_jobs SET prompt = 'a dog'")

    await house.complete(ids, eventually)

    assert [call.prompt.words for call in house.provider.calls] == ["a cat", "a dog"]
    await house.sweep(2)
    assert (await house.sweep(3))["removed"] == 1
    results, recorded, stored = await house.keys(ids)
    assert recorded == stored == results


async def test_answer_of_another_crop_is_not_taken(house, eventually, monkeypatch):
    user = await make_user(house.database, balance=BALANCE)
    image, file = await make_image(house.database, user), io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(file, "JPEG")
    data = file.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    await house.storage.put(f"users/{user}/originals/{image}.jpg", data, "image/jpeg", sha256)
    await make_job(house.database, user_id=user, image_id=image)
    has_begun = asyncio.Event()

    async def hang(_run):
        has_begun.set()
        await asyncio.Event().wait()

    async def is_over():
        return not await house.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

    async with house.worker() as pixels:
        finishing_by(pixels, monkeypatch, hang)
        await asyncio.wait_for(has_begun.wait(), HANGS_AFTER_S)
    crop = {"x": 0, "y": 0, "w": 200, "h": 400}
    columns = '"wasCropped" = true, "cropDimensions" = $1::jsonb'
    await house.database.fetch(f"UPDATE public.image_enhancement_jobs SET {columns}", crop)

    async with house.worker():
        await eventually(is_over)

    generated = [call for call in house.provider.calls if call.purpose == "generate"]
    assert [call.images[0].box for call in generated] == [None, PixelBox(0, 0, 200, 400)]
    columns = 'status::text, "enhancedWidth", "enhancedHeight"'
    row = await house.database.fetchrow(f"SELECT {columns} FROM public.image_enhancement_jobs")
    assert tuple(row) == ("COMPLETED", 512, 1024)


@pytest.mark.parametrize(("orphans", "is_removed"), [(None, True), ("delete", True), ("report", False)])
@pytest.mark.parametrize("end", ["cancelled", "refunded", "deleted"])
async def test_answer_of_a_job_that_ends_otherwise_goes_also_from_tables_of_another_tool(
    house, eventually, end, orphans, is_removed
):
    await house.database.fetch("DELETE FROM darkroom.alembic_version WHERE version_num LIKE 'application%'")
    user = await make_user(house.database, balance=BALANCE)
    (job_id,) = await house.buy(eventually, user=user)
    await house.sweep(2, orphans=orphans)
    before = await house.sweep(3, orphans=orphans)
    if end == "deleted":
        await house.database.fetch("DELETE FROM public.mcp_generation_jobs")
    else:
        await set_status(house.database, job_id, end.upper())
    async with house.worker():
        await asyncio.sleep(0.5)
    await house.sweep(4, orphans=orphans)

    await house.sweep(5, orphans=orphans)

    assert before["reported"] == before["removed"] == 0
    assert (await house.storage.list_objects(ANSWERS) == []) is is_removed
    assert house.provider.sent == 1
    assert await balance_of(house.database, user) == BALANCE


async def test_nothing_is_kept_of_a_job_that_is_cancelled_while_it_waits_for_a_child(house, eventually):
    job_id = await make_generation(house.database)

    async def has_answered():
        return await house.calls() == [ANSWERED]

    async def has_ended():
        return not house.loop._running

    async with house.worker(is_busy=True):
        await eventually(has_answered)
        await set_status(house.database, job_id, "CANCELLED")
        house.loop.lose(house.loop.held_tokens())
        await eventually(has_ended)

    assert await house.keys([job_id]) == ({None}, set(), set())


class Slow(FileStorage):
    """A storage that takes no answers, fails at first, or takes none before it has been asked to take so many."""

    fails = 0
    hangs = False
    puts = 0
    puts_wanted = 0

    async def put(self, key, data, content_type, sha256):
        self.puts += 1
        while self.puts < self.puts_wanted:  # noqa: ASYNC110 - other puts
            await asyncio.sleep(0.01)
        if self.hangs:
            await asyncio.sleep(600)
        if self.fails:
            self.fails -= 1
            raise StorageUnavailableError("slow down")
        await super().put(key, data, content_type, sha256)


async def test_storage_that_refuses_at_first_is_asked_again(house, eventually):
    house.storage = Slow(house.folder)
    house.storage.fails = 1

    ids = await house.buy(eventually)
    await house.complete(ids, eventually)

    assert house.provider.sent == 1


async def test_answers_of_all_lanes_are_stored_at_once(house, eventually, monkeypatch):
    for module in ("claim_loop", "kept_answers"):  # a busy machine may need more time for 64 files
        monkeypatch.setattr(f"workers.running.{module}.ANSWER_S", 20)
    house.settings = Settings(lanes=64, queues=["default"], poll_s=0.1)
    house.storage = Slow(house.folder)
    house.storage.puts_wanted = 64

    await house.buy(eventually, jobs=64)

    assert len(await house.storage.list_objects(ANSWERS)) == 64


async def test_process_stops_in_time_although_the_storage_hangs_and_the_picture_is_bought_again(house, eventually):
    house.storage = Slow(house.folder)
    house.storage.hangs = True
    ids = await house.buy(eventually)
    house.storage.hangs = False

    await house.complete(ids, eventually)

    assert house.provider.sent == 2


async def test_stage_that_is_run_again_after_the_database_was_locked_buys_nothing(house, eventually, monkeypatch):
    refused = []

    async def complete(ids):
        add = house.stages._objects.add

        async def refuse_once(new):
            if not refused:
                refused.append(new)
                raise ContentionError("locked")
            await add(new)

        monkeypatch.setattr(house.stages._objects, "add", refuse_once)

        async def are_over():
            return await house.statuses(ids) == ["COMPLETED"]

        await eventually(are_over)

    async with house.worker():
        await complete([await make_generation(house.database)])

    assert refused
    assert house.provider.sent == 1


async def test_stage_that_is_cut_off_before_it_is_run_again_keeps_its_answer(house, eventually, monkeypatch):
    monkeypatch.setattr("workers.running.run.DATABASE_GONE_S", 600)
    ids, has_refused = [await make_generation(house.database)], asyncio.Event()

    async with house.worker():
        add = house.stages._objects.add

        async def refuse_once(new):
            if not has_refused.is_set():
                has_refused.set()
                raise ContentionError("locked")
            await add(new)

        monkeypatch.setattr(house.stages._objects, "add", refuse_once)
        await asyncio.wait_for(has_refused.wait(), HANGS_AFTER_S)
    assert await house.kept()

    await house.complete(ids, eventually)

    assert house.provider.sent == 1


async def test_answer_that_is_being_kept_when_the_process_stops_is_stored(house, eventually, monkeypatch):
    ids, is_storing = [await make_generation(house.database)], asyncio.Event()
    put = house.storage.put

    async def put_once_the_grace_is_over(*arguments):
        is_storing.set()
        await house.loop._grace_over.wait()
        await asyncio.sleep(0.3)  # until the runs are ended that have nothing to store
        await put(*arguments)

    async def hang(_run):
        await asyncio.Event().wait()

    async with house.worker() as pixels:
        house.stages._deadlines_s = {"GENERATING": 1}
        finishing_by(pixels, monkeypatch, hang)
        house.storage.put = put_once_the_grace_is_over
        await asyncio.wait_for(is_storing.wait(), HANGS_AFTER_S)
        house.loop.end_grace(0)
    house.storage.put = put
    assert await house.kept()

    await house.complete(ids, eventually)

    assert house.provider.sent == 1
