"""Streams of events to pages: a stream sends what is read at once, and again after each change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from asyncpg import PostgresError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request

from models.connections import ContentionError, DatabaseLostError
from workers.dashboard.state import dashboard_of

LOOK_S: Final = 1.0
"""Seconds between two looks, and so between two events of a stream."""

COMMENT_S: Final = 15
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def signed_in(request: Request) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether whoever sent a request may still see what it asked for."""
    return partial(dashboard_of(request).operators.is_current, request.state.access)


async def until_over(stopping: asyncio.Event, is_current: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the dashboard stops, or whoever looks isn't signed in any more."""
    while not stopping.is_set() and await is_current():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await stopping.wait()


def stream(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """Return the answer that sends events, and a comment each COMMENT_S while there are none."""
    return EventSourceResponse(events, headers=HEADERS, ping=COMMENT_S, sep="\n")


async def changes(
    stopping: asyncio.Event,
    event: str,
    read: Callable[[], Awaitable[str]],
    is_current: Callable[[], Awaitable[bool]],
) -> AsyncIterator[ServerSentEvent]:
    """Yield what `read` returns, at once and after each change.

    While the database can't be read nothing is sent; the pages say why.

    Args:
        stopping: ends the stream once it is set.
        event: the events' name.
        read: returns their data.
        is_current: tells whether whoever looks is still signed in; otherwise the stream ends.
    """
    sent: str | None = None
    while not stopping.is_set():
        found = sent
        with contextlib.suppress(DatabaseLostError, ContentionError, PostgresError):
            if not await is_current():
                return
            found = await read()
        if found is not None and found != sent:
            yield ServerSentEvent(data=found, event=event)
            sent = found
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await stopping.wait()
