"""Ids with characters that a key can't contain, from the row to the file that `--out` writes."""

import asyncio
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from pipelines.keys import encoded_id
from tests.support.builders import PRICE, balance_of, job_row, money_violations
from tests.support.fleet import Fleet, eventually
from tests.support.forked import ForkedSlowWorkers
from tests.support.imaging_pictures import encoded, photo

IDS = [
    *(
        "auth0|5f7c",
        "cm...",
        "Jörg Müller",
        "фото",
        "a/b",
        "a:b",
        "a b",
        "..",
        ".",
        ".hidden",
        "=",
        "a=2Fb",
        "~put-x",
        "",
    ),
    *("x" * 200, "|" * 200, "ü" * 100, "a%2Fb+c?#"),
]


async def insert_user(fleet: Fleet, user_id: str) -> None:
    await fleet.database.fetch(
        """WITH made AS (INSERT INTO public.users (id, email, "updatedAt") VALUES ($1, $1 || '@example.test', now())
                         RETURNING id)
           INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
           SELECT 'b' || md5(id), id, 100, now() FROM made""",
        user_id,
    )


def write_foreign(fleet: Fleet, key: str, data: bytes) -> str:
    """Store a file as another program does, whatever its name."""
    path = fleet.folder / "objects" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return key


async def insert_enhancement(fleet: Fleet, one: str, original: str) -> None:
    await fleet.database.fetch(
        """INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
               "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
           VALUES ($1, $1, 'x', 'x', $2, 64, 48, 1, 'jpg', now())""",
        one,
        original,
    )
    await fleet.database.fetch(
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           VALUES ($1, $1, $1, 'TIER_1K', 2, 'PENDING', now())""",
        one,
    )


async def insert_generation(fleet: Fleet, job_id: str, user_id: str, kind: str, input_key: str | None = None) -> None:
    await fleet.database.fetch(
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt,
               "inputImageR2Key", "updatedAt")
           VALUES ($1, $2, $3::text::public."McpJobType", 'TIER_1K', 2, 'PENDING', 'a hut', $4, now())""",
        job_id,
        user_id,
        kind,
        input_key,
    )


async def all_ended(fleet: Fleet) -> bool:
    return not await fleet.database.fetchval("SELECT count(*) FROM darkroom.job_queue")


async def test_jobs_with_every_id_complete_and_their_urls_lead_to_their_objects(fleet):
    data = encoded(photo(64, 48), "JPEG")
    for number, one in enumerate(IDS):
        await insert_user(fleet, one)
        await insert_enhancement(fleet, one, write_foreign(fleet, f"elsewhere/{number}/IMG 1 (ü)+%20[x]..jpg", data))
        await insert_generation(fleet, one, one, "MODIFY", write_input(fleet, one, data))
        await insert_generation(fleet, f"{number}|", one, "GENERATE")
    fleet.start(2, kind=ForkedSlowWorkers)

    await eventually(lambda: all_ended(fleet), "the end of all jobs")

    for one in IDS:
        rows = await fleet.database.fetch('SELECT * FROM darkroom.jobs WHERE "userId" = $1', one)
        assert [(row["status"], row["errorMessage"]) for row in rows] == [("COMPLETED", None)] * 3, one
        for row in rows:
            kind = {"enhance": "users", "modify": "mcp-modified", "generate": "mcp-generated"}[row["type"]]
            assert row["key"].startswith(f"{kind}/{encoded_id(one)}/")
            path = Path(unquote(urlsplit(row["url"]).path))
            assert path == fleet.folder / "objects" / row["key"]
            assert len(await fleet.storage.get(row["key"])) == row["sizeBytes"]
        assert await balance_of(fleet.database, one) == 100 - 3 * PRICE["TIER_1K"]
    assert len({row["key"] for row in await fleet.database.fetch("SELECT key FROM darkroom.jobs")}) == 3 * len(IDS)
    assert await money_violations(fleet.database) == []
    recorded = {row["key"] for row in await fleet.database.fetch("SELECT key FROM darkroom.objects")}
    assert recorded == {row["key"] for row in await fleet.database.fetch("SELECT key FROM darkroom.jobs")}


def write_input(fleet: Fleet, user_id: str, data: bytes) -> str:
    """Store an input as a program does that writes ids as they are, where that names this user alone."""
    is_raw = not set("/=") & set(user_id) and user_id not in {"", ".", ".."} and len(user_id.encode()) <= 200
    return write_foreign(fleet, f"mcp-input/{user_id if is_raw else encoded_id(user_id)}/my input.jpg", data)


async def test_no_user_reaches_into_the_raw_folder_of_another_whose_id_goes_on(fleet):
    data = encoded(photo(64, 48), "JPEG")
    for user_id in ("a", "a/b", "c", "c=2Fd", "c/d"):
        await insert_user(fleet, user_id)
    inputs = {
        "inner": ("a", "mcp-input/a/b/x.jpg", "REFUNDED"),  # may be of a/b
        "outer": ("a/b", "mcp-input/a/b/x.jpg", "REFUNDED"),  # may be of a
        "own": ("a", "mcp-input/a/other/x.jpg", "COMPLETED"),
        "encoded": ("c/d", "mcp-input/c=2Fd/x.jpg", "COMPLETED"),
        "raw": ("c=2Fd", "mcp-input/c=2Fd/x.jpg", "REFUNDED"),  # is of c/d
    }
    for job_id, (user_id, key, _) in inputs.items():
        await insert_generation(fleet, job_id, user_id, "MODIFY", write_foreign(fleet, key, data))
    fleet.start(1, kind=ForkedSlowWorkers)

    await eventually(lambda: all_ended(fleet), "the end of all jobs")

    rows = {job_id: await job_row(fleet.database, job_id) for job_id in inputs}
    assert {job_id: row["status"] for job_id, row in rows.items()} == {
        job_id: status for job_id, (_, _, status) in inputs.items()
    }
    assert all("not yours" in row["errorMessage"] for row in rows.values() if row["status"] == "REFUNDED")


@pytest.mark.proof
async def test_command_line_takes_an_odd_user_from_the_picture_to_the_file(fleet, tmp_path):
    user_id = "auth0|5f/7c ü..[red]"
    await insert_user(fleet, user_id)
    fleet.start(1, kind=ForkedSlowWorkers)
    picture = tmp_path / "holiday.jpg"
    picture.write_bytes(encoded(photo(64, 48), "JPEG"))

    async def darkroom(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("darkroom")), *arguments),
            env={**fleet.environment, "PATH": "/usr/bin:/bin", "DARKROOM_HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return out.decode()

    for command in (
        ("enhance", str(picture), "--tier", "1k"),
        ("modify", str(picture), "make it blue", "--tier", "1k"),
        ("generate", "a hut", "--tier", "1k"),
    ):
        out = tmp_path / command[0]
        await darkroom(*command, "--user", user_id, "--out", str(out))
        (written,) = out.iterdir()
        assert written.suffix == ".jpg"

    job, *others = await fleet.database.fetch("SELECT id, key FROM darkroom.jobs ORDER BY type")
    assert len(others) == 2
    assert user_id in (await darkroom("jobs", "show", job["id"], "--json"))
    shown = await darkroom("jobs", "show", job["id"])
    assert job["key"].rpartition("/")[2] in shown.replace("\n", "").replace(" ", "")


async def test_longer_id_is_refused_before_anything_is_charged(fleet):
    long = "ü" * 100 + "x"
    await insert_user(fleet, long)
    await insert_user(fleet, "short")

    with pytest.raises(asyncpg.StringDataRightTruncationError, match="userId has 201 bytes; the limit is 200"):
        await insert_generation(fleet, "job", long, "GENERATE")
    with pytest.raises(asyncpg.StringDataRightTruncationError, match="id has 201 bytes; the limit is 200"):
        await insert_generation(fleet, long, "short", "GENERATE")
    with pytest.raises(asyncpg.StringDataRightTruncationError, match="imageId has 201 bytes; the limit is 200"):
        await insert_enhancement(fleet, long, "x")

    assert await fleet.database.fetchval("SELECT count(*) FROM darkroom.jobs") == 0
    assert await fleet.database.fetchval("SELECT count(*) FROM public.token_transactions") == 0
