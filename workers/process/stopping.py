"""The end of a process that is told to stop while it still opens what it needs."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_stopping(opening: Coroutine[Any, Any, T], stopping: asyncio.Event) -> T | None:
    """Return what was opened, or None if the process is told to stop before that: the database may never answer."""
    opened, told = asyncio.create_task(opening), asyncio.create_task(stopping.wait())
    await asyncio.wait((opened, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if opened.done():
        return opened.result()
    opened.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opened
    return None
