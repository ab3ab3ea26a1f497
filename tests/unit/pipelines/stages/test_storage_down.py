"""A storage that is unreachable for a while costs no attempt, and no picture that is made already."""

import asyncio

import pytest
from tenacity import stop_after_attempt, wait_none

from config.tiers import Tier
from pipelines.errors import InvalidOptionsError, StorageUnavailableError
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Job
from pipelines.options import resolve
from pipelines.prompts import Purpose
from pipelines.providers.local.provider import LocalProvider
from pipelines.stage_context import StageContext
from pipelines.stages import generate as generating
from pipelines.stages import objects, results
from pipelines.storage.file import FileStorage
from tests.support.imaging_pictures import encoded, photo
from tests.support.patience import HANGS_AFTER_S
from tests.support.scripted_provider import ScriptedProvider
from tests.support.ungated import Ungated

LIMITS = DecodeLimits()


class FailingStorage(FileStorage):
    """Refuses some uploads and reads, then takes and gives."""

    failures = 0
    unreadable = 0
    was_repeated: asyncio.Event
    error: Exception = StorageUnavailableError("the object storage doesn't answer")

    async def put(self, key, data, content_type, sha256):
        if self.failures:
            self.failures -= 1
            if self.failures % 10 == 0:
                self.was_repeated.set()
            raise self.error
        await super().put(key, data, content_type, sha256)

    async def get(self, key, **limits):
        if self.unreadable:
            self.unreadable -= 1
            raise self.error
        return await super().get(key, **limits)


def counting(pixels):
    """Return the local engine, counting what would be paid."""
    local = LocalProvider(pixels, LIMITS)
    drawing = ScriptedProvider(
        lambda call: local.generate(call.prompt, call.images, call.long_side_px, call.aspect), is_paid=False
    )
    return Ungated(drawing)


@pytest.fixture
async def context(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr(results, "UPLOAD_WAIT", wait_none())
    monkeypatch.setattr(objects, "READ_WAIT", wait_none())
    key = "users/user1/originals/image1.png"
    job = Job("job1", "enhance", "user1", Tier.TIER_1K, key, "image1", None, resolve(None), purpose=Purpose.ENHANCE)
    storage = FailingStorage(tmp_path, "https://pictures.example")
    storage.was_repeated = asyncio.Event()
    (tmp_path / key).parent.mkdir(parents=True)
    (tmp_path / key).write_bytes(encoded(photo(), "PNG"))
    return StageContext(job, [], counting(pixels), storage, pixels, LIMITS)


async def test_upload_is_repeated_until_the_storage_is_back_and_nothing_is_bought_again(context):
    context.storage.failures = 20

    generated = await generating.generate(context)

    assert len(await context.storage.get(generated.key)) == generated.size_bytes
    assert (context.provider.provider.sent, context.storage.failures) == (1, 0)


async def test_picture_is_read_again_until_the_storage_is_back(context):
    context.storage.unreadable = 20

    await generating.generate(context)

    assert context.storage.unreadable == 0


async def test_picture_that_stays_unreadable_ends_the_attempt(context, monkeypatch):
    monkeypatch.setattr(objects, "READ_STOP", stop_after_attempt(5))
    context.storage.unreadable = 20

    with pytest.raises(StorageUnavailableError):
        await generating.generate(context)

    assert (context.provider.provider.sent, context.storage.unreadable) == (0, 15)


async def test_upload_that_never_works_goes_on_until_the_stage_is_ended(context):
    context.storage.failures = 10**9
    stage = asyncio.create_task(generating.generate(context))
    async with asyncio.timeout(HANGS_AFTER_S):
        await context.storage.was_repeated.wait()

    stage.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage

    assert context.provider.provider.sent == 1


async def test_upload_that_is_refused_for_good_is_not_repeated(context):
    context.storage.failures, context.storage.error = 2, InvalidOptionsError("no object key")

    with pytest.raises(InvalidOptionsError):
        await generating.generate(context)

    assert context.storage.failures == 1
