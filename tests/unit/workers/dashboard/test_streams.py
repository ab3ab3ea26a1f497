"""Streams: an event at once and after each change, nothing while the database is away, and an end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from models.connections import DatabaseLostError
from workers.dashboard import streams
from workers.dashboard.streams import changes


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0)


def reading(values: Sequence[str | Exception], stopping: asyncio.Event) -> Callable[[], Awaitable[str]]:
    """Return a function that returns these values, or raises them, one after the other, and stops the stream then."""
    left = list(values)

    async def read() -> str:
        value = left.pop(0)
        if not left:
            stopping.set()
        if isinstance(value, Exception):
            raise value
        return value

    return read


async def always() -> bool:
    return True


async def test_events_are_sent_at_once_and_after_changes_only() -> None:
    stopping = asyncio.Event()
    values = ["a", "a", DatabaseLostError("away"), "a", "b", "b", "a"]

    sent = [one.data async for one in changes(stopping, "overview", reading(values, stopping), always)]

    assert sent == ["a", "b", "a"]


async def test_stream_ends_once_whoever_looks_is_signed_out() -> None:
    stopping = asyncio.Event()
    answers = [True, False]

    async def is_current() -> bool:
        return answers.pop(0)

    sent = [one.data async for one in changes(stopping, "overview", reading(["a", "b", "c"], stopping), is_current)]

    assert sent == ["a"]
    assert not stopping.is_set()
