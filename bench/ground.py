"""The ground that benchmarks stand on: durable services of their own, rows, and no-op workers."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from config.embedded.services import Services, embedded_services
from config.settings import PRICES_TOKENS, Settings
from models.migrate import upgrade
from workers.supervisor import WorkerProcesses

ROOT = Path(__file__).resolve().parent.parent

USERS = """
INSERT INTO public.users (id, email, "updatedAt")
SELECT 'u' || n, 'u' || n, darkroom.utc_now() FROM generate_series(1, 100) n;
INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
SELECT 'b' || n, 'u' || n, 100000000, darkroom.utc_now() FROM generate_series(1, 100) n;
INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
    "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
SELECT 'i' || n, 'u' || n, 'x', 'x', 'users/u' || n || '/originals/i' || n || '.jpg', 1, 1, 1, 'jpeg',
    darkroom.utc_now() FROM generate_series(1, 100) n;
"""

JOBS = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, 'i' || n % 100 + 1, 'u' || n % 100 + 1, 'TIER_1K', 2, 'PENDING', darkroom.utc_now()
FROM generate_series(1, $2::integer) n
"""


class NoopWorkers(WorkerProcesses):
    """Worker processes whose stages do nothing."""

    ENTRY_POINT = "bench.noop_worker:main"


@dataclass(frozen=True)
class Ground:
    settings: Settings
    services: Services

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(self.services.database_url)

    @contextlib.contextmanager
    def workers(self, processes: int, *, lanes: int = 16) -> Iterator[WorkerProcesses]:
        workers = NoopWorkers(self.settings, self.services, processes=processes, lanes=lanes)
        workers.start()
        try:
            assert workers.wait_ready(30), "the workers didn't start"
            yield workers
        finally:
            workers.stop()

    @contextlib.contextmanager
    def scheduler(self) -> Iterator[None]:
        code = (
            "from config.settings import load_settings\n"
            "from config.embedded.services import embedded_services\n"
            "from workers.scheduler.main import run\n"
            "settings = load_settings()\n"
            "with embedded_services(settings) as services:\n"
            "    run(settings, services, lambda: print('ready', flush=True))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ
            | {
                "DATABASE_URL": self.services.database_url,
                "REDIS_URL": self.services.redis_url,
                "PROVIDER": "local",
                "LOG_LEVEL": "warning",
            },
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.terminate()
            process.communicate()


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Embedded services with their ordinary, durable settings, in a folder of their own; a migrated database."""
    os.environ["LOG_LEVEL"] = "warning"
    with tempfile.TemporaryDirectory(prefix="dkb", dir="/tmp") as folder:
        settings = Settings(home=Path(folder))
        with embedded_services(settings) as services:
            await upgrade(services.database_url, prices=PRICES_TOKENS)
            connection = await asyncpg.connect(services.database_url)
            await connection.execute(USERS)
            await connection.close()
            yield Ground(settings, services)


def run(main) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a coroutine function of any benchmark
    asyncio.run(main())
