"""Checks that what a failure leaves is freed at once, and not by a later garbage collection."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.patience import HANGS_AFTER_S

Picture = NDArray[np.uint8]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Collect no garbage during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def require_freed(work: Callable[[Picture], Awaitable[object]]) -> None:
    """Run work on a picture, in a task of its own, and fail if anything holds the picture afterwards."""

    async def run() -> "weakref.ref[Picture]":
        picture = np.zeros(1_000_000, np.uint8)
        held = weakref.ref(picture)
        await work(picture)
        return held

    held = await asyncio.create_task(run())
    async with asyncio.timeout(HANGS_AFTER_S):
        while (picture := held()) is not None:
            del picture
            await asyncio.sleep(0.01)
