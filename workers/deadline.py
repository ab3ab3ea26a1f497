"""Deadlines that stand still while a job waits for something that others hold, such as a place at a provider."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

_CURRENT: Final[ContextVar[tuple[asyncio.Timeout, ...]]] = ContextVar("current deadlines", default=())
"""The deadlines around the code that runs, the outermost first."""


@asynccontextmanager
async def deadline(within_s: float) -> AsyncIterator[asyncio.Timeout]:
    """Limit the time of a block as `asyncio.timeout` does, not counting the time of `deadlines_paused` within it.

    Raises:
        TimeoutError: the block took longer.
    """
    async with asyncio.timeout(within_s) as timeout:
        token = _CURRENT.set((*_CURRENT.get(), timeout))
        try:
            yield timeout
        finally:
            _CURRENT.reset(token)


@contextmanager
def deadlines_paused() -> Iterator[float]:
    """Let all deadlines around a block stand still until the block ends.

    Yield how many seconds the outermost is still away, 0 if there is none.
    """
    loop = asyncio.get_running_loop()
    left = [
        (timeout, end_s - loop.time())
        for timeout in _CURRENT.get()
        if not timeout.expired() and (end_s := timeout.when()) is not None
    ]
    for timeout, _ in left:
        timeout.reschedule(None)
    try:
        yield max(0.0, left[0][1]) if left else 0.0
    finally:
        for timeout, left_s in left:
            timeout.reschedule(loop.time() + left_s)
