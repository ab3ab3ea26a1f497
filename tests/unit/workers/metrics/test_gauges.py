"""Gauges that are read for scrapes: by one look at a time, and left out while nothing answers."""

import asyncio
import time

import pytest

from models.connections import DatabaseLostError
from tests.support.fleet import eventually
from workers.metrics import gauges as gauges_module
from workers.metrics.gauges import CachedGauges
from workers.metrics.health import HealthCheck, Readiness

KEY = ("workers_live", (), "")


class Source:
    """Reads as a test says, and counts how often."""

    def __init__(self):
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error = None

    async def read(self):
        self.reads += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return {KEY: float(self.reads)}


@pytest.fixture
def source():
    return Source()


@pytest.fixture
async def cached(source):
    return CachedGauges(source.read, asyncio.get_running_loop())


async def test_many_scrapes_are_one_look(source, cached):
    found = await asyncio.gather(*(cached.now() for _ in range(20)))

    assert found == [{KEY: 1.0}] * 20
    assert await cached.now() == {KEY: 1.0}
    assert source.reads == 1


async def test_gauges_are_left_out_while_nothing_answers_and_asked_for_once(source, cached, monkeypatch):
    monkeypatch.setattr(gauges_module, "FRESH_S", 0.0)
    monkeypatch.setattr(gauges_module, "WAIT_S", 0.05)
    source.answers.clear()

    assert await asyncio.gather(*(cached.now() for _ in range(5))) == [{}] * 5
    began_s = time.monotonic()
    assert [await cached.now() for _ in range(100)] == [{}] * 100  # nobody waits for a look that takes long
    assert time.monotonic() - began_s < 5
    assert source.reads == 1

    monkeypatch.setattr(gauges_module, "FRESH_S", 60.0)
    source.answers.set()
    assert await eventually(cached.now) == {KEY: 1.0}


async def test_error_of_a_look_leaves_the_gauges_out_until_the_next(source, cached):
    source.error = DatabaseLostError(OSError("gone"))
    assert await cached.now() == {}
    source.error = None

    assert await cached.now() == {KEY: 2.0}


async def test_process_is_ready_once_all_of_its_parts_are():
    readiness = Readiness(parts=2)

    async def look(status="ok"):
        return [HealthCheck("database", status, status)]

    async def statuses():
        return {one.name: one.status for one in await readiness.now()}

    assert await statuses() == {"starting": "fail"}
    readiness.add(look)
    assert await statuses() == {"starting": "fail", "database": "ok"}
    readiness.add(lambda: look("fail"), look)
    assert await statuses() == {"database": "fail"}
