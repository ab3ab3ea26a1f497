"""The result or error of work, for loops that must continue after any error and record it."""

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def outcome_of(work: Awaitable[T]) -> T | Exception:
    """Run work; return its result, or the error that it raised.

    This is the only place in the loops of schedulers and workers that catches every error. An error in one pass, even a
    bug of ours, must end neither the loop nor other loops; the caller records it, with its tick or its loop.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the caller records it and continues
        return error
