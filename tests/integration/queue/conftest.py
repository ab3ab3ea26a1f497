"""What the queue's tests share: other programs' connections, and a look at the promises after each test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from models.database import Database
from tests.builders import money_violations

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
Eventually = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]

PATIENCE_S = 20


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Connect]:
    """Connections of another program: no settings of ours, no codecs, no patience. Closed at the end."""
    opened: list[asyncpg.Connection[asyncpg.Record]] = []

    async def open_one() -> "asyncpg.Connection[asyncpg.Record]":
        opened.append(await asyncpg.connect(database_url))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def foreign(connect: Connect) -> "asyncpg.Connection[asyncpg.Record]":
    """One such connection."""
    return await connect()


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds, and fail if it doesn't within seconds."""

    async def wait(condition: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110 - rows have no event to wait for
                await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def damage() -> None:
    """Ask for this to break promises on purpose: what follows a test isn't looked at."""


@pytest.fixture(autouse=True)
async def promises(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After every test the money is sound, and no finished job is queued."""
    yield
    if "damage" in request.fixturenames:
        return
    assert await money_violations(database) == []
    assert (
        await database.fetch(
            """SELECT q.job_id, j.status FROM darkroom.job_queue q
               JOIN darkroom.jobs j ON j.id = q.job_id AND j.type = q.job_type WHERE darkroom.is_terminal(j.status)"""
        )
        == []
    )
