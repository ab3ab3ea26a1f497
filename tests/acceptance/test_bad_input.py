"""Jobs with users' broken pictures and names, run to their end by a real worker with the local engine."""

import asyncio
import hashlib
import io
import os
from pathlib import Path

import psutil
from PIL import Image

from tests.support.builders import (
    balance_of,
    job_row,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
)
from tests.support.fleet import eventually
from tests.support.forked import ForkedWorkers
from tests.support.imaging_pictures import animated_gif, encoded, jpeg_claiming, oriented, photo, png_bomb
from workers.process.supervisor import WorkerProcesses
from workers.services.postgres import postgres_programs

GIGABYTE = 1024**3

REFUSED = {
    "text": (b"this is no picture\n" * 100, "picture"),
    "nothing": (b"", "empty"),
    "truncated": (encoded(photo(300, 200), "JPEG")[:2000], "truncated"),
    "png of 30,000 x 30,000": (png_bomb(30_000), "64,000,000"),
    "jpeg claiming 12,000 x 12,000": (jpeg_claiming(12_000, 12_000), "64,000,000"),
    "postscript": (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "PostScript"),
    "html": (b"<!doctype html><html><body>404</body></html>", "HTML"),
    "too many bytes": (encoded(photo(64, 48), "JPEG") + b"\0" * 25_000_000, "25,000,000"),
}

ACCEPTED = {
    "16-bit grey": encoded(Image.linear_gradient("L").convert("I;16"), "PNG"),
    "cmyk": encoded(photo(64, 48).convert("CMYK"), "JPEG"),
    "palette with transparency": encoded(photo(64, 48).convert("P"), "PNG", transparency=0),
    "animated gif": animated_gif(),
    "1 x 1": encoded(photo(1, 1), "PNG"),
    "20,000 x 1": encoded(photo(20_000, 1), "PNG"),
    **{f"orientation {number}": oriented(photo(64, 48), number, "JPEG") for number in range(1, 9)},
}


def peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that a process has had resident."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


async def submit(fleet, data: bytes) -> tuple[str, str]:
    """Store bytes as an original of a new user, whatever they are; return the ids of user and job."""
    user = await make_user(fleet.database, balance=10)
    image = await make_image(fleet.database, user)
    key = f"users/{user}/originals/{image}.jpg"
    await fleet.storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())
    return user, await make_job(fleet.database, user_id=user, image_id=image)


async def finished(fleet, job):
    async def is_over():
        row = await job_row(fleet.database, job)
        return row if row["status"] not in {"PENDING", "PROCESSING"} else None

    return await eventually(is_over, f"the end of {job}")


async def test_every_odd_picture_ends_as_promised_and_the_worker_lives(fleet):
    fleet.start(1, kind=WorkerProcesses)
    workers = {row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers")}
    refused = {name: await submit(fleet, data) for name, (data, _) in REFUSED.items()}
    accepted = {name: await submit(fleet, data) for name, data in ACCEPTED.items()}

    for name, (user, job) in refused.items():
        row = await finished(fleet, job)
        assert (name, row["status"]) == (name, "REFUNDED"), row["errorMessage"]
        assert REFUSED[name][1] in row["errorMessage"], f"{name}: {row['errorMessage']}"
        assert await balance_of(fleet.database, user) == 10
    for name, (user, job) in accepted.items():
        row = await finished(fleet, job)
        assert (name, row["status"]) == (name, "COMPLETED"), row["errorMessage"]
        assert max(row["width"], row["height"]) == 1024
        with Image.open(io.BytesIO(await fleet.storage.get(row["key"]))) as picture:
            assert (picture.format, picture.size) == ("JPEG", (row["width"], row["height"]))
            assert not picture.getexif()
        assert await balance_of(fleet.database, user) == 8

    assert {row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers")} == workers
    processes = [psutil.Process(pid) for pid in workers]
    processes += [child for process in processes for child in process.children(recursive=True)]
    assert max(map(peak_bytes, processes)) < GIGABYTE
    assert await money_violations(fleet.database) == []


async def test_picture_without_object_is_refunded_and_says_which_key(fleet):
    fleet.start(1, kind=ForkedWorkers)
    user = await make_user(fleet.database, balance=10)
    image = await make_image(fleet.database, user, key=f"users/{user}/originals/gone.jpg")
    job = await make_job(fleet.database, user_id=user, image_id=image)

    row = await finished(fleet, job)

    assert row["status"] == "REFUNDED"
    assert f"users/{user}/originals/gone.jpg" in row["errorMessage"]


async def test_what_is_anothers_is_refunded_and_says_not_yours(fleet):
    fleet.start(1, kind=ForkedWorkers)
    _, image = await fleet.stored_picture()
    thief = await make_user(fleet.database, balance=10)
    job = await make_job(fleet.database, user_id=thief, image_id=image)

    row = await finished(fleet, job)

    assert (row["status"], "not yours" in row["errorMessage"]) == ("REFUNDED", True)
    assert await balance_of(fleet.database, thief) == 10


async def test_text_to_image_is_refused_honestly(fleet):
    fleet.start(1, kind=ForkedWorkers)
    job = await make_generation(fleet.database)

    row = await finished(fleet, job)

    assert row["status"] == "REFUNDED"
    assert "not configured" in row["errorMessage"]


async def test_psql_alone_gets_a_job_done(fleet):
    """A producer that knows nothing but SQL: user, balance, picture, job."""
    fleet.start(1, kind=ForkedWorkers)
    data = io.BytesIO()
    photo(800, 600).save(data, "JPEG")
    key = "users/alone/originals/photo.jpg"
    await fleet.storage.put(key, data.getvalue(), "image/jpeg", hashlib.sha256(data.getvalue()).hexdigest())
    script = """
        CREATE ROLE application;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO application;
        SET ROLE application;
        INSERT INTO users (id, email, "updatedAt") VALUES ('alone', 'a@example.test', now());
        INSERT INTO user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b1', 'alone', 7, now());
        INSERT INTO enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
            "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
        VALUES ('photo', 'alone', 'photo', 'x', 'users/alone/originals/photo.jpg', 800, 600, 1, 'jpeg', now());
        INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
        VALUES ('cmjob', 'photo', 'alone', 'TIER_2K', 5, 'PENDING', now());
    """
    psql = await asyncio.create_subprocess_exec(
        *(str(postgres_programs() / "psql"), fleet.services.database_url, "-q", "-v", "ON_ERROR_STOP=1"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    await psql.communicate(script.encode())

    row = await finished(fleet, "cmjob")

    full = await fleet.database.fetchrow("SELECT * FROM public.image_enhancement_jobs WHERE id = 'cmjob'")
    assert (psql.returncode, row["status"]) == (0, "COMPLETED")
    results = ("enhancedUrl", "enhancedR2Key", "enhancedWidth", "enhancedHeight", "enhancedSizeBytes", "geminiPrompt")
    results += ("geminiModel", "geminiTemp", "processingStartedAt", "processingCompletedAt", "workflowRunId")
    results += ("analysisResult", "analysisSource")
    assert [name for name in results if full[name] is None] == []
    assert (full["currentStage"], full["errorMessage"], full["enhancedWidth"]) == (None, None, 2048)
    assert len(await fleet.storage.get(full["enhancedR2Key"])) == full["enhancedSizeBytes"]
    assert await balance_of(fleet.database, "alone") == 2
