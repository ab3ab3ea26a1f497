"""Real worker processes on real services, with a provider that a test can slow down."""

import asyncio
import hashlib
import io
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.database import Database
from pipelines.settings import Settings
from pipelines.storage.backends import open_storage
from tests.support.builders import make_image, make_user
from tests.support.forked import PreloadedWorkers
from tests.support.patience import HANGS_AFTER_S, is_within
from workers.process.supervisor import WorkerProcesses
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services


async def eventually(claim: Callable[[], Awaitable[Any]], what: str = "it", *, within_s: float = HANGS_AFTER_S) -> Any:
    """Wait until `claim` returns something true, and return that.

    `within_s` is given where a time is promised; a busy machine has as much longer as `is_within` says.
    """
    began_s = time.monotonic()
    while True:
        if value := await claim():
            return value
        if not is_within(time.monotonic() - began_s, within_s):
            pytest.fail(f"{what} didn't happen within {within_s:g} s")
        await asyncio.sleep(0.05)


class SlowWorkers(PreloadedWorkers):
    ENTRY_POINT = "tests.support.slow_worker:main"


class Fleet:
    """The worker processes of one test, its storage, and the calls that its provider got."""

    def __init__(self, database: Database, services: Services, folder: Path) -> None:
        self.database = database
        self.services = services
        self.storage = open_storage((folder / "objects").as_uri())
        self.calls_path = folder / "calls"
        self.calls_path.touch()
        self.folder = folder
        self._workers: list[WorkerProcesses] = []

    def start(self, processes: int = 1, *, slow_s: float = 0.0, kind: type[WorkerProcesses] = SlowWorkers, **settings):
        os.environ |= {"SLOW_S": str(slow_s), "SLOW_CALLS": str(self.calls_path), "LOG_LEVEL": "warning"}
        os.environ["DARKROOM_WARM_CHILDREN"] = "0"  # most tests need none, and all of them would wait for two
        made = Settings(home=self.folder, **settings)
        workers = kind(made, self.services, processes=processes, lanes=4)
        for name, value in settings.items():
            workers.environment[f"DARKROOM_{name.upper()}"] = str(value)
        return self.add(workers)

    def add(self, workers: WorkerProcesses) -> WorkerProcesses:
        """Start workers; they are stopped with the others."""
        workers.start()
        self._workers.append(workers)
        assert workers.wait_ready(HANGS_AFTER_S), "the workers didn't start"
        return workers

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which any process of Darkroom uses this test's services."""
        return {
            "DATABASE_URL": self.services.database_url,
            "REDIS_URL": self.services.redis_url,
            "BROKER_URL": self.services.broker_url,
            "STORAGE_URL": self.services.storage_url,
            "PROVIDER": "local",
            "DARKROOM_WARM_CHILDREN": "0",
        }

    def calls(self, what: str) -> int:
        return sum(line.split()[1] == what for line in self.calls_path.read_text().splitlines())

    def stop(self) -> None:
        for workers in self._workers:
            workers.stop(timeout_s=10)

    async def holder_pid(self, job_id: str) -> int | None:
        return await self.database.fetchval(
            "SELECT w.pid FROM darkroom.job_queue q JOIN darkroom.workers w ON w.id = q.worker_id WHERE q.job_id = $1",
            job_id,
        )

    async def stored_picture(self, *, size: tuple[int, int] = (640, 480), **user: Any) -> tuple[str, str]:
        """Make a user and a picture whose object exists; return both ids."""
        user_id = await make_user(self.database, **user)
        image_id = await make_image(self.database, user_id)
        data = io.BytesIO()
        Image.effect_noise(size, 40).convert("RGB").save(data, "JPEG", quality=90)
        key = f"users/{user_id}/originals/{image_id}.jpg"
        await self.storage.put(key, data.getvalue(), "image/jpeg", hashlib.sha256(data.getvalue()).hexdigest())
        return user_id, image_id


@pytest.fixture
async def fleet(
    database: Database,
    database_url: str,
    services: EmbeddedInstance,
    fleet_broker_url: str,
    tmp_path: Path,
) -> AsyncIterator[Fleet]:
    environment = dict(os.environ)
    os.environ["DARKROOM_LEARNED_CPU_S"] = "0"  # what networks do is tested where they are
    fleet = Fleet(
        database,
        Services(
            database_url=database_url,
            database_direct_url=database_url,
            redis_url=services.redis_url,
            broker_url=fleet_broker_url,
            storage_url=(tmp_path / "objects").as_uri(),
            is_embedded=False,
        ),
        tmp_path,
    )
    yield fleet
    await asyncio.to_thread(fleet.stop)
    os.environ.clear()
    os.environ.update(environment)
