"""The result or error of work, for code that must continue after any error and hand it on."""

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def outcome_of(work: Awaitable[T]) -> T | Exception:
    """Run work; return its result, or the error that it raised.

    An error in one pass of a loop, or in one write of many jobs, even a bug of ours, must end neither the loop nor the
    other jobs; the caller records it, or raises it where it belongs.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the caller records it and continues
        return error
