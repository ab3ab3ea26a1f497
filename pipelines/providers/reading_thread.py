"""The thread in which a process reads large answers, so that its event loop does other work meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import Any, Final, TypeVar

R = TypeVar("R")

AT_ONCE_BYTES: Final = 65_536
"""Answers of up to so many bytes are read at once, within 30 ms whatever they contain. Analyses have 2 kB."""


async def apart(size_bytes: int, function: Callable[..., R], *args: Any) -> R:
    """Call a function that reads an answer, in the thread unless the answer is small; return its result.

    The function must be made of short steps, each of which may hold the interpreter's lock for some 50 ms at most:
    the event loop goes on between them. If the caller is cancelled, the result is dropped.

    Args:
        size_bytes: size of what it reads.
        function: uses nothing of the event loop.
        *args: its arguments.
    """
    if size_bytes <= AT_ONCE_BYTES:
        return function(*args)
    call = partial(copy_context().run, function, *args)  # a line of the log names the job
    return await asyncio.get_running_loop().run_in_executor(_thread(), call)


@cache
def _thread() -> ThreadPoolExecutor:
    """Return the one thread: a second would only compete with it, and with the event loop, for the same lock."""
    return ThreadPoolExecutor(1, thread_name_prefix="answers")
