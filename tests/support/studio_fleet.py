"""A database with nothing but the tables of `studio`, a storage with its uploads, and workers that drain it."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from PIL import Image

from config.postgres_url import parse_postgres_url
from pipelines.settings import Settings
from pipelines.storage.backends import open_storage
from tests.integration.studio.conftest import make_database
from tests.support import studio_worker
from tests.support.fleet import eventually
from tests.support.forked import ForkedWorkers, PreloadedWorkers
from tests.support.patience import HANGS_AFTER_S
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services

PRICES = {"1K": 2, "2K": 5, "4K": 10}

UPLOADS = {
    "uploads/u1/shirt.png": ("PNG", (96, 64), "red"),
    "uploads/u1/model.jpg": ("JPEG", (80, 120), "blue"),
}


class StudioWorkers(PreloadedWorkers):
    """The supervisor, and processes whose provider does what prompts say."""

    ENTRY_POINT = "tests.support.studio_worker:main"


class ForkedStudioWorkers(ForkedWorkers):
    """Such processes without supervisor and dramatiq."""

    OPENS = studio_worker.OPENS


class Studio:
    """A database of studio's alone, its storage, its producer's connection, and its workers."""

    def __init__(self, url: str, redis_url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.storage = open_storage((folder / "objects").as_uri())
        self.notes = folder / "calls"
        self.notes.touch()
        self.services = Services(
            database_url=url,
            database_direct_url=url,
            redis_url=redis_url,
            broker_url=redis_url,
            storage_url=(folder / "objects").as_uri(),
            is_embedded=False,
        )
        self._workers: list[PreloadedWorkers | ForkedWorkers] = []

    def start(self, processes: int = 1, *, kind: type = StudioWorkers, **settings: Any) -> PreloadedWorkers:
        """Start worker processes of four lanes; `stop` stops them."""
        made = Settings(home=self.folder, **settings)
        workers = kind(made, self.services, processes=processes, lanes=4)
        workers.environment |= {
            "SLOW_CALLS": str(self.notes),
            "LOG_LEVEL": "warning",
            "DARKROOM_WARM_CHILDREN": "0",
            "DARKROOM_LEARNED_CPU_S": "0",
            **{f"DARKROOM_{name.upper()}": str(value) for name, value in settings.items()},
        }
        workers.start()
        self._workers.append(workers)
        assert workers.wait_ready(HANGS_AFTER_S), "the workers didn't start"
        return workers

    def stop(self) -> None:
        """Stop all workers."""
        for workers in self._workers:
            workers.stop(timeout_s=10)
        self._workers.clear()

    async def put(self, key: str, data: bytes, content_type: str = "image/png") -> None:
        """Store an object as a producer does."""
        await self.storage.put(key, data, content_type, hashlib.sha256(data).hexdigest())

    async def put_uploads(self) -> None:
        """Store the pictures of the users' files."""
        for key, (form, size, colour) in UPLOADS.items():
            data = io.BytesIO()
            Image.new("RGB", size, colour).save(data, form)
            await self.put(key, data.getvalue(), f"image/{form.lower()}")

    def count(self, what: str, job: str) -> list[int]:
        """Return how often each of a job's pictures was asked for (`call`) or came (`picture`), by their numbers."""
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        numbers = [int(number) for kind, of_job, number in lines if (kind, of_job) == (what, job)]
        return [numbers.count(number) for number in range(1, max(numbers, default=0) + 1)]


class Producer:
    """One connection of a program of studio's, and what it sees."""

    def __init__(self, studio: Studio, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.studio = studio
        self.connection = connection
        self.execute, self.fetch = connection.execute, connection.fetch
        self.fetchrow, self.fetchval = connection.fetchrow, connection.fetchval

    async def user(self, balance: int = 100) -> str:
        """Insert a user; return the id, which no other test has."""
        user = f"u{uuid4().hex[:8]}"
        await self.execute(
            """INSERT INTO users (_id, email, "tokenBalance") VALUES ($1, $1 || '@example.org', $2)""", user, balance
        )
        return user

    async def file(self, user: str, key: str, *, category: str = "product_image", kind: str = "PNG") -> str:
        """Store a real picture under a key, and insert the file's row; return its id."""
        data = io.BytesIO()
        Image.effect_noise((96, 64), 40).convert("RGB").save(data, kind)
        await self.studio.put(key, data.getvalue(), f"image/{kind.lower()}")
        return await self.fetchval(
            'INSERT INTO files ("userId", category, "storageId") VALUES ($1, $2, $3) RETURNING _id',
            *(user, category, key),
        )

    async def order(self, user: str, says: str = "", *, size: str = "1K", count: int = 1, **columns: Any) -> str:
        """Insert a generation whose prompt tells the provider what to do; return its id."""
        job = f"g{uuid4().hex[:8]}"
        chosen = {"size": size, "count": count} | columns.pop("parameters", {})
        row = {
            "_id": job,
            "userId": user,
            "prompt": f"<{job}> {says}",
            "parameters": json.dumps(chosen),
            "tokensUsed": PRICES[size] * count,
            **columns,
        }
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await self.execute(f"INSERT INTO generations ({names}) VALUES ({places})", *row.values())
        return job

    async def set(self, job: str, **columns: Any) -> None:
        """Write columns of a generation."""
        names = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(columns, 2))
        await self.execute(f"UPDATE generations SET {names} WHERE _id = $1", job, *columns.values())

    async def row(self, job: str) -> dict[str, Any]:
        """Return a generation's row."""
        found = await self.fetchrow("SELECT * FROM generations WHERE _id = $1", job)
        return {} if found is None else dict(found)

    async def status(self, job: str) -> str:
        """Return its label."""
        return await self.fetchval("SELECT status FROM generations WHERE _id = $1", job)

    async def ended(self, job: str) -> dict[str, Any]:
        """Wait until a generation is over; failed attempts are followed by the next at once. Return its row."""

        async def is_over() -> bool:
            await self.execute(
                "UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying' AND job_id = $1", job
            )
            return not await self.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE job_id = $1", job)

        await eventually(is_over, f"the end of {job}")
        return await self.row(job)

    async def is_asked(self, job: str, number: int = 1) -> int:
        """Wait until the provider is asked for a picture of a job; return the id of the process that asks."""

        async def asked() -> Any:
            if sum(self.studio.count("call", job)[number - 1 : number]) == 0:
                return None
            return await self.holder(job)

        return await eventually(asked, f"call {number} of {job}")

    async def holder(self, job: str) -> int | None:
        """Return the id of the process that works on a job."""
        return await self.fetchval(
            "SELECT w.pid FROM darkroom.job_queue q JOIN darkroom.workers w ON w.id = q.worker_id WHERE q.job_id = $1",
            job,
        )

    async def balance(self, user: str) -> int:
        """Return a user's tokens."""
        return await self.fetchval("""SELECT "tokenBalance" FROM users WHERE _id = $1""", user)

    async def entries(self, user: str) -> list[tuple[str, int]]:
        """Return kind and amount of each change of a user's balance after its opening, in order."""
        rows = await self.fetch(
            """SELECT kind, amount FROM darkroom.token_entries
               WHERE application = 'studio' AND user_id = $1 AND kind <> 'opening' ORDER BY id""",
            user,
        )
        return [tuple(row) for row in rows]

    async def usage(self, job: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the lines of a job in `usage`, in order, each with its metadata but for the job's id."""
        rows = await self.fetch(
            """SELECT action, metadata - 'generationId' AS metadata FROM usage
               WHERE metadata ->> 'generationId' = $1 ORDER BY timestamp, action DESC""",
            job,
        )
        return [(row["action"], json.loads(row["metadata"])) for row in rows]

    async def results(self, job: str) -> list[dict[str, Any]]:
        """Return the rows of `files` that were made for a job, by the numbers of the pictures."""
        rows = await self.fetch(
            """SELECT * FROM files WHERE category = 'generated_image' AND "storageId" LIKE '%/' || $1 || '-%'
               ORDER BY "storageId" """,
            job,
        )
        return [dict(row) for row in rows]

    async def outcomes(self, job: str) -> list[str]:
        """Return how the provider calls of a job ended, in order."""
        rows = await self.fetch("SELECT outcome FROM darkroom.provider_calls WHERE job_id = $1 ORDER BY id", job)
        return [row["outcome"] for row in rows]

    async def violations(self) -> list[str]:
        """Return what an audit finds."""
        return [str(dict(row)) for row in await self.fetch("SELECT * FROM darkroom.money_violations")]


@pytest.fixture(scope="module")
def studio(services: EmbeddedInstance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A database, a storage and workers for the tests of a module."""
    url = parse_postgres_url(services.database_url)
    name = f"studio_{uuid4().hex[:12]}"
    asyncio.run(make_database(url, name))
    made = Studio(url.with_database(name).text(), services.redis_url, tmp_path_factory.mktemp("studio"))
    asyncio.run(made.put_uploads())
    with _restored_environment():
        yield made
        made.stop()
    asyncio.run(_drop(url.asyncpg_arguments(), name))


@pytest.fixture
async def producer(studio: Studio) -> AsyncIterator[Producer]:
    """A connection of the test's own. After the test the money is sound, and no finished generation is queued."""
    connection = await asyncpg.connect(studio.url)
    made = Producer(studio, connection)
    yield made
    assert await made.violations() == []
    assert (
        await made.fetch(
            """SELECT q.job_id FROM darkroom.job_queue q JOIN generations g ON g._id = q.job_id
               WHERE g.status IN ('completed', 'failed', 'cancelled')"""
        )
        == []
    )
    await connection.close()


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)


async def _drop(arguments: dict[str, Any], name: str) -> None:
    admin = await asyncpg.connect(**arguments)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
