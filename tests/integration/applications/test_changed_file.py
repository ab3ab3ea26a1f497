"""A worker that runs while `db upgrade` records a changed file."""

import asyncio
import os
import subprocess

import asyncpg
from PIL import Image

from config.postgres_url import parse_postgres_url
from tests.integration.queue.conftest import eventually
from tests.support.frames_file import FILE
from tests.support.program import DARKROOM, darkroom

__all__ = ["eventually"]


async def test_worker_that_runs_is_started_anew_and_works_by_the_changed_file(
    services, redis_url, shop_url, tmp_path, eventually
):
    (tmp_path / "objects/uploads").mkdir(parents=True)
    Image.effect_noise((320, 240), 40).convert("RGB").save(tmp_path / "objects/uploads/photo.jpg")
    environment = {
        "DATABASE_URL": shop_url,
        "REDIS_URL": redis_url,
        "STORAGE_URL": (tmp_path / "objects").as_uri(),
        "PROVIDER": "local",
        "DARKROOM_WARM_CHILDREN": "0",
        "DARKROOM_PROCESSES": "1",
        "DARKROOM_LEARNED_CPU_S": "0",
    }
    path = tmp_path / "frames.toml"
    connection = await asyncpg.connect(**parse_postgres_url(shop_url).asyncpg_arguments())
    await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC; INSERT INTO customers VALUES (7)")

    async def upgrade(text):
        await asyncio.to_thread(path.write_text, text)
        told = os.environ | environment | {"DARKROOM_APPLICATION": str(path), "TOKENS": "managed"}
        command = [DARKROOM, "db", "upgrade"]
        await asyncio.to_thread(subprocess.run, command, env=told, check=True, capture_output=True)

    async def size_of_a_print():
        order = await connection.fetchval(
            "INSERT INTO orders (customer_id, photo_key, price) VALUES (7, 'uploads/photo.jpg', 0) RETURNING id"
        )
        printed = "SELECT print_size FROM orders WHERE id = $1 AND state = 'done'"
        await eventually(lambda: connection.fetchval(printed, order))
        return await connection.fetchval(printed, order)

    await upgrade(FILE)
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        assert await size_of_a_print() == "1024x768"
        first = await connection.fetchval("SELECT id FROM darkroom.workers")

        await upgrade(FILE.replace("$width || 'x' || $height", "$width || ' by ' || $height"))
        await eventually(lambda: connection.fetchval("SELECT id FROM darkroom.workers WHERE id <> $1", first))

        assert await size_of_a_print() == "1024 by 768"
        assert '"reason":"db upgrade recorded the applications anew"' in worker.said
    await connection.close()
