"""Code that benchmarks share: temporary services that keep data durably, rows, and workers whose stages do nothing."""

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from config.tiers import PRICES_TOKENS
from models.schema.migrate import upgrade
from pipelines.settings import Settings
from workers.process.supervisor import WorkerProcesses
from workers.services.services import Services, embedded_services

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


GENERATIONS = """
INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
SELECT $1 || n, 'u' || n % 100 + 1, 'GENERATE', 'TIER_1K', 2, 'PENDING', $3::text, darkroom.utc_now()
FROM generate_series(1, $2::integer) n
"""

MODIFICATIONS = """
INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "inputImageR2Key",
    "updatedAt")
SELECT $1 || n, u.id, 'MODIFY', 'TIER_1K', 2, 'PENDING', $3::text,
    'users/' || u.id || '/originals/i' || n % 100 + 1 || '.jpg', darkroom.utc_now()
FROM generate_series(1, $2::integer) n, LATERAL (SELECT 'u' || n % 100 + 1 AS id) u
"""


class NoopWorkers(WorkerProcesses):
    """Worker processes whose stages do nothing."""

    ENTRY_POINT = "bench.noop_worker:main"


class SlowWorkers(WorkerProcesses):
    """Worker processes whose provider takes SLOW_S seconds, and writes its calls to the file SLOW_CALLS."""

    ENTRY_POINT = "tests.support.slow_worker:main"


@dataclass(frozen=True)
class Ground:
    settings: Settings
    services: Services

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(self.services.database_url)

    @contextlib.contextmanager
    def workers(
        self,
        processes: int,
        *,
        lanes: int | None = None,
        kind: type[WorkerProcesses] = NoopWorkers,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[WorkerProcesses]:
        workers = kind(self.settings, self.services, processes=processes, lanes=lanes)
        workers.environment |= environment or {}
        workers.start()
        try:
            assert workers.wait_ready(90), "the workers didn't start"
            yield workers
        finally:
            workers.stop()

    @contextlib.contextmanager
    def scheduler(self) -> Iterator[int]:
        """Run a scheduler during the context; yield its process id."""
        code = (
            "from pipelines.settings import load_settings\n"
            "from workers.services.services import embedded_services\n"
            "from workers.process.scheduler import run\n"
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
                "BROKER_URL": self.services.broker_url,
                "PROVIDER": "local",
                "LOG_LEVEL": "warning",
            },
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.terminate()
            process.communicate()


@contextlib.asynccontextmanager
async def ground(home: Path | None = None) -> AsyncIterator[Ground]:
    """Start embedded services with durable settings, and migrate their database. BROKER_URL may name another broker.

    Args:
        home: their new folder, which the caller removes; None: a temporary one.
    """
    os.environ["LOG_LEVEL"] = "warning"
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dkb", dir="/tmp")))
        settings = Settings(home=folder, broker_url=os.environ.get("BROKER_URL"))
        with embedded_services(settings) as services:
            await upgrade(services.database_url, prices=PRICES_TOKENS)
            connection = await asyncpg.connect(services.database_url)
            await connection.execute(USERS)
            await connection.close()
            yield Ground(settings, services)


async def until(condition: Callable[[], Awaitable[object]], what: str, *, within_s: float = 60) -> None:
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < within_s, f"{what} took over {within_s:g} s"
        await asyncio.sleep(0.05)


def percentiles(name: str, values_s: Sequence[float], unit: str = "s") -> str:
    """Return a table's line with the percentiles of some values."""
    ordered = sorted(values_s)
    p50, p95, p99 = (ordered[math.ceil(len(ordered) * part) - 1] for part in (0.5, 0.95, 0.99))
    return (
        f"{name:44} p50 {p50:6.2f} {unit}  p95 {p95:6.2f} {unit}  p99 {p99:6.2f} {unit}  "
        f"max {ordered[-1]:6.2f} {unit}  n={len(ordered)}"
    )


def run(main) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a coroutine function of any benchmark
    """Run a benchmark; SIGTERM ends it as Ctrl-C does, so that the processes that it started end, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    asyncio.run(main())
