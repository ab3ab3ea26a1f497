"""MODIFY jobs whose input is a URL: fetched and decoded like an object; refused if the address is internal."""

import asyncio
from dataclasses import replace
from hashlib import sha256

import pytest

from config.tiers import Tier
from pipelines.errors import BadImageError
from pipelines.fetching import PictureFetcher
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Job
from pipelines.options import resolve
from pipelines.prompts import Purpose
from pipelines.public_client import FetchRefusedError
from pipelines.stage_context import StageContext
from pipelines.stages.generate import generate
from pipelines.storage.file import FileStorage
from tests.support.imaging_pictures import CANARY, telling_jpeg
from tests.support.scripted_provider import ScriptedProvider, echo
from tests.support.ungated import Ungated

LIMITS = DecodeLimits()


@pytest.fixture
async def context(tmp_path, pixels):
    job = Job(
        id="job1",
        job_type="modify",
        user_id="user1",
        tier=Tier.TIER_1K,
        input_key=None,
        image_id=None,
        source_key=None,
        options=resolve(None),
        prompt="a red door",
        purpose=Purpose.MODIFY,
    )
    return StageContext(
        job,
        [],
        Ungated(ScriptedProvider(echo, is_paid=False)),
        FileStorage(tmp_path, "https://pictures.example"),
        pixels,
        LIMITS,
        PictureFetcher(allow_loopback=True),
    )


def with_reference(context, **reference):
    options = resolve({"promptConfig": {"referenceImages": [reference]}})
    provider = Ungated(ScriptedProvider(echo))  # paid, so that it gets references
    return replace(context, provider=provider, job=replace(context.job, options=options))


async def run(context, body: bytes, *, reference: bool = False):
    """Serve a body, and run the stage on its URL; with `reference`, a pipeline names it as well."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"
        context = replace(context, job=replace(context.job, input_url=url))
        if reference:
            context = with_reference(context, url=url)
            await generate(context)
            return context.provider.provider.calls[-1].images
        return await generate(context)


async def test_picture_by_url_is_fetched_and_stored_without_its_metadata(context):
    generated = await run(context, telling_jpeg())

    data = await context.storage.get(generated.key)
    assert (generated.width_px, generated.height_px) == (1024, 768)
    assert CANARY not in data


@pytest.mark.parametrize("body", [b"<!doctype html><html>", b"", b"%!PS-Adobe", b"GIF89a"])
async def test_what_is_no_picture_is_refused_whatever_its_type_says(context, body):
    with pytest.raises(BadImageError):
        await run(context, body)


async def test_url_that_points_inside_is_refused(context):
    job = replace(context.job, input_url="http://169.254.169.254/latest/meta-data/")

    with pytest.raises(FetchRefusedError):
        await generate(replace(context, job=job, fetcher=PictureFetcher()))


async def test_reference_by_url_is_fetched_as_well(context):
    body = telling_jpeg()
    images = await run(context, body, reference=True)

    assert [image.data for image in images] == [body, body]


async def test_reference_that_points_inside_is_refused_and_its_place_named(context):
    await context.storage.put("users/user1/a.jpg", telling_jpeg(), "image/jpeg", sha256(telling_jpeg()).hexdigest())
    context = replace(context, job=replace(context.job, input_key="users/user1/a.jpg"), fetcher=PictureFetcher())
    context = with_reference(context, url="http://169.254.169.254/latest/meta-data/")

    with pytest.raises(FetchRefusedError, match=r"^promptConfig\.referenceImages\[0\]\.url is refused: its host"):
        await generate(context)
