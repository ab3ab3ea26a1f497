"""What work came to, whatever it raised: for loops that go on, and write it down."""

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def outcome_of(work: Awaitable[T]) -> T | Exception:
    """Do work that must not end the loop around it; return its result, or the error that it raised.

    This is the one place of the loops of schedulers and workers that catches everything. A fault in one pass, a fault
    of ours included, must end neither the loop nor its neighbours: whoever asks records it, with its tick or its loop.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the caller records it and goes on
        return error
