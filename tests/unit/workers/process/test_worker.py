"""A worker process that waits for its database."""

import asyncio

import psutil

from pipelines.settings import Settings
from tests.unit.pipelines.imaging.test_imaging_pool import until
from workers.process.wake_up import Lanes
from workers.process.worker import WorkerProcess


def pixel_children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if "imaging/child.py" in " ".join(child.cmdline())}


async def test_worker_that_waits_for_its_database_has_started_its_pixel_children(tmp_path):
    nowhere = Settings(
        home=tmp_path,
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1",
        provider=("local",),
        warm_children=1,
    )
    of_other_tests = pixel_children()
    process = WorkerProcess(nowhere, Lanes(), end=lambda: None)
    starting = asyncio.create_task(process.start())
    try:
        await until(lambda: len(pixel_children() - of_other_tests) == 1)

        assert not starting.done()
    finally:
        await process.stop()

    assert pixel_children() <= of_other_tests
