"""The page of one job: what became of it, its pictures, and what can be done about it."""

import asyncio
import hashlib
import io
import json
from functools import partial

import httpx
import pytest
from PIL import Image

from models.queue.transitions import Failed, record
from pipelines.settings import Settings
from pipelines.storage.backends import open_storage
from tests.support.builders import balance_of, claim_jobs, make_generation, make_image, make_job, make_user, set_status
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.job_facts import job_facts

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \u202e\x01" + "x" * 10_000

ANALYSIS = {
    "mainSubject": HOSTILE[:190],
    "imageStyle": "photo",
    "defects": {
        "isDark": True,
        "isBlurry": False,
        "hasNoise": True,
        "isLowResolution": False,
        "isOverexposed": False,
        "hasColorCast": False,
    },
    "lightingCondition": "dim",
    "cropping": {
        "isCroppingNeeded": True,
        "suggestedCrop": {"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.5},
        "cropReason": "bars",
    },
}
RESULT = {
    "enhancedUrl": "https://example.test/result.jpg",
    "enhancedWidth": 1024,
    "enhancedHeight": 768,
    "enhancedSizeBytes": 1000,
    "geminiModel": "a-model",
}
CROPPED = {
    "analysisResult": ANALYSIS,
    "analysisSource": "local",
    "wasCropped": True,
    "cropDimensions": {"x": 200, "y": 300, "w": 1000, "h": 750},
    "geminiPrompt": HOSTILE,
}


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "objects").mkdir()
    return open_storage((tmp_path / "objects").as_uri())


@pytest.fixture
def storage_url(tmp_path):
    return (tmp_path / "objects").as_uri()


def encoded(colour, size=(2000, 1500), orientation=1, kind="JPEG"):
    image = Image.new("RGB", size, colour)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a secret place"
    data = io.BytesIO()
    image.save(data, kind, exif=exif)
    return data.getvalue()


async def put(storage, key, data):
    await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())


async def make_done(database, storage, **columns):
    user = await make_user(database)
    image = await make_image(database, user)
    await put(storage, f"users/{user}/originals/{image}.jpg", encoded("red", (1500, 2000), orientation=6))
    key = f"users/{user}/enhanced/{image}.jpg"
    await put(storage, key, encoded("blue", (1024, 768)))
    return await make_job(
        database, user_id=user, image_id=image, status="COMPLETED", enhancedR2Key=key, **RESULT, **columns
    )


async def test_a_completed_job_shows_pictures_crop_figures_and_prompt(
    database, database_url, services, storage, storage_url
):
    job = await make_done(database, storage, **CROPPED)

    async with shown(database_url, services, storage_url=storage_url) as client:
        answer = await client.get(f"/jobs/{job}")
        page = read_page(answer.text)
        assert page.get("heading", f"Job {job}").tag == "h1"
        assert page.get("status", "Status").text == "COMPLETED"
        assert page.get("image", "Before")["src"] == f"/jobs/{job}/before"
        assert page.get("image", "After")["src"] == f"/jobs/{job}/after"
        page.get("slider", "Compare before and after")
        crop = page.get("figure", "Crop")
        assert "1,000 by 750 pixels are kept of 2,000 by 1,500" in crop.text
        frame = next(one for one in crop.all() if one.tag == "rect")
        assert [frame[name] for name in ("x", "y", "width", "height")] == ["200", "300", "1000", "750"]
        measured = page.get("region", "Measured").text
        assert "Dark, Noise" in measured
        assert "Width 1,024" in measured
        assert "{{7*7}}" in page.get("region", "Prompt").text
        assert "<img src=x" not in answer.text
        for name in ("Timeline", "Provider calls", "Ledger", "Actions"):
            page.get("table", name)
        assert not page.find("region", "Why it waits")
        assert not page.find("button", "Cancel job")
        assert not page.find("button", "Retry job")

        before = await client.get(f"/jobs/{job}/before")
        assert (before.headers["content-type"], before.headers["cache-control"]) == ("image/jpeg", "private")
        with Image.open(io.BytesIO(before.content)) as image:
            assert image.size == (1600, 1200)  # turned, and no longer than 1,600
            assert not image.getexif()
        assert b"secret" not in before.content
        after = await client.get(f"/jobs/{job}/after")
        with Image.open(io.BytesIO(after.content)) as image:
            assert image.size == (1024, 768)
        assert (await client.get(f"/jobs/{job}/after?n=2")).status_code == 404
        assert (await client.get(f"/jobs/{job}/after?n=-1")).status_code == 404


async def test_what_is_no_picture_is_never_sent(database, database_url, services, storage, storage_url):
    user = await make_user(database)
    texts = {"text": b"root:x:0:0", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cut": encoded("red")[:2000]}
    jobs = {}
    for name, data in texts.items():
        image = await make_image(database, user, key=f"users/{user}/originals/{name}.jpg")
        await put(storage, f"users/{user}/originals/{name}.jpg", data)
        jobs[name] = await make_job(database, user_id=user, image_id=image)
    outside = await make_job(
        database, user_id=user, image_id=await make_image(database, user, key="../../../../etc/passwd")
    )
    gone = await make_job(database, user_id=user)
    words = await make_generation(database, user_id=user)

    async with shown(database_url, services, storage_url=storage_url) as client:
        for job in jobs.values():
            assert (await client.get(f"/jobs/{job}/before")).status_code == 415
        for job in (outside, gone, words, "nosuch"):
            answer = await client.get(f"/jobs/{job}/before")
            assert answer.status_code == 404, job
            assert b"root" not in answer.content
        assert (await client.get(f"/jobs/{gone}/after")).status_code == 404
        large = Settings(max_image_pixels=1000)
    async with shown(database_url, services, storage_url=storage_url, settings=large) as client:
        image = await make_image(database, user, key=f"users/{user}/originals/large.jpg")
        await put(storage, f"users/{user}/originals/large.jpg", encoded("red"))
        job = await make_job(database, user_id=user, image_id=image)
        assert (await client.get(f"/jobs/{job}/before")).status_code == 415


async def test_an_input_by_url_is_fetched_from_public_addresses_only(database, database_url, services, storage_url):
    user = await make_user(database)
    job = await make_generation(database, user_id=user)
    await database.fetch(
        """UPDATE public.mcp_generation_jobs SET "inputImageUrl" = 'http://127.0.0.1:1/secret' WHERE id = $1""", job
    )
    async with shown(database_url, services, storage_url=storage_url) as client:
        assert (await client.get(f"/jobs/{job}/before")).status_code == 404


async def test_an_unknown_job_is_not_found(database_url, services):
    async with shown(database_url, services) as client:
        for url in ("/jobs/nosuch", "/jobs/a%20b", "/jobs/~!!", "/jobs/nosuch/retry", "/jobs/nosuch/events"):
            answer = await client.get(url)
            assert answer.status_code == 404, url
        assert read_page((await client.get("/jobs/nosuch")).text).get("heading", "Not found").tag == "h1"
        assert (await client.post("/jobs/nosuch/cancel")).status_code == 404


async def test_what_is_left_of_a_deleted_job_is_shown(database, database_url, services):
    job = await make_job(database)
    await claim_jobs(database)
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", job)

    async with shown(database_url, services) as client:
        page = read_page((await client.get(f"/jobs/{job}")).text)
        events = await read_events(client, f"/jobs/{job}/events")
    assert page.get("status", "Status").text == "deleted"
    assert [row[2] for row in page.get("table", "Ledger").rows()] == ["-2", "2"]
    assert [(kind, data["status"], data["url"]) for kind, _, data in events] == [("end", None, None)]


async def test_a_waiting_job_says_why_and_can_be_cancelled(database, database_url, services):
    user = await make_user(database)
    job = await make_job(database, user_id=user)

    async with shown(database_url, services) as client:
        page = read_page((await client.get(f"/jobs/{job}")).text)
        assert page.get("status", "Status").text == "PENDING"
        assert "no live worker takes from queue default" in page.get("region", "Why it waits").text
        assert "place 1" in page.get("region", "Why it waits").text
        page.get("button", "Cancel job")
        form = read_page((await client.get(f"/jobs/{job}/cancel")).text)
        form.get("textbox", "Reason")
        answer = await client.post(f"/jobs/{job}/cancel", data={"reason": HOSTILE[:900].replace("\x01", "")})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
        page = read_page((await client.get(f"/jobs/{job}")).text)
        assert page.get("status", "Status").text == "CANCELLED"
        assert page.get("table", "Actions").rows()[0][1:3] == ["tester", "job_cancel"]
        refused = read_page((await client.get(f"/jobs/{job}/cancel")).text)
        assert "is CANCELLED already" in refused.get("alert").text
    assert await balance_of(database, user) == 100


async def test_a_failed_job_is_retried_once_by_one_form(database, database_url, services):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    (claim,) = await claim_jobs(database)
    await database.commit(
        "fail", lambda connection: record(connection, claim, Failed("ANALYZING", HOSTILE[:300].replace("\x01", "")))
    )

    async with shown(database_url, services) as client:
        page = read_page((await client.get(f"/jobs/{job}")).text)
        assert page.get("status", "Status").text in {"FAILED", "REFUNDED"}
        assert "{{7*7}}" in page.get("region", "Error").text
        dialog = read_page((await client.get(f"/jobs/{job}/retry", headers={"HX-Request": "true"})).text)
        stages = [one.text for one in dialog.get("combobox", "From stage").find("option")]
        assert stages == ["the beginning", "ANALYZING", "CROPPING", "PROMPTING", "GENERATING"]
        dialog.get("combobox", "Model")
        dialog.get("button", "Retry job")
        values = dict(dialog.get("dialog", "Retry job").values())
        early = await client.post(f"/jobs/{job}/retry", data={**values, "from_stage": "GENERATING"})
        assert early.status_code == 422
        assert "has not finished ANALYZING" in read_page(early.text).get("alert").text
        answer = await client.post(f"/jobs/{job}/retry", data={**values, "reason": "again"})
        new = answer.headers["location"].removeprefix("/jobs/")
        page = read_page((await client.get(f"/jobs/{new}")).text)
        assert page.get("status", "Status").text == "PENDING"
        assert "is tried again as this one" in page.find("status")[0].text
        twice = await client.post(f"/jobs/{job}/retry", data=values)
        assert twice.status_code == 409
        assert "retried already" in read_page(twice.text).get("alert").text
        # who opens the form once more means it
        values = dict(read_page((await client.get(f"/jobs/{job}/retry")).text).get("main").values())
        assert (await client.post(f"/jobs/{job}/retry", data=values)).status_code == 303
    assert await database.fetchval("SELECT count(*) FROM public.image_enhancement_jobs") == 3


async def read_events(client, url, began=None, **headers):
    """Read a stream to its end: kind, id and data of each event. `began` is set at the first one."""
    found = []
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        event = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
            elif "event" in event:
                found.append((event["event"], event["id"], json.loads(event["data"])))
                if began is not None:
                    began.set()
                event = {}
    return found


async def test_a_stream_tells_of_each_change_and_ends(database, database_url, services):
    job = await make_job(database)

    async with shown(database_url, services) as client:
        began = [asyncio.Event() for _ in range(3)]
        watching = [asyncio.create_task(read_events(client, f"/jobs/{job}/events", one)) for one in began]
        async with asyncio.timeout(20):
            await asyncio.gather(*(one.wait() for one in began))
            listening = (
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
            while not await database.fetchval(listening):  # noqa: ASYNC110 - no event tells of another session
                await asyncio.sleep(0.05)
        assert await database.fetchval(listening) == 1
        await set_status(database, job, "CANCELLED")
        for events in await asyncio.gather(*watching):
            assert [kind for kind, _, _ in events][-2:] == ["progress", "end"]
            first, last = events[0][2], events[-1][2]
            assert (first["id"], first["type"], first["status"], first["place"]) == (job, "enhance", "PENDING", 1)
            assert [wait["kind"] for wait in first["waits"]] == ["no_worker", "turn"]
            assert first.keys() == last.keys() - {"url"}
            assert (last["status"], last["url"]) == ("CANCELLED", None)
        done = await client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": events[-1][1]})
        assert done.status_code == 204
        missed = await read_events(client, f"/jobs/{job}/events", **{"Last-Event-ID": events[0][1]})
        assert missed[-1][0] == "end"


async def test_streams_are_closed_without_an_end_when_the_dashboard_stops(database, database_url, services):
    job = await make_job(database)
    found = []

    async with shown(database_url, services) as client, httpx.AsyncClient(base_url=client.base_url) as other:
        url = f"/jobs/{job}/events"

        began = asyncio.Event()

        async def watch():
            found.extend(await read_events(other, url, began))

        task = asyncio.create_task(watch())
        async with asyncio.timeout(20):
            await began.wait()
    async with asyncio.timeout(5):
        await asyncio.gather(task, return_exceptions=True)
    assert "end" not in [kind for kind, _, _ in found]


async def test_the_page_of_a_job_reads_little(database, storage):
    waiting = await make_job(database)
    done = await make_done(database, storage, **CROPPED)
    for job in (waiting, done):
        _, cost = await cost_of(database, partial(job_facts, name=job))
        assert cost.buffers <= 2000
        assert cost.statements <= 15, cost
