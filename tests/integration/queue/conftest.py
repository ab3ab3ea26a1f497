"""Fixtures of the queue's tests: connections of other programs, and a check of the promises after each test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from tests.support.patience import HANGS_AFTER_S
from tests.support.promises import damage, promises

__all__ = ["damage", "promises"]

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
Eventually = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]


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
        async with asyncio.timeout(HANGS_AFTER_S):
            while not await condition():  # noqa: ASYNC110 - rows have no event to wait for
                await asyncio.sleep(0.02)

    return wait
