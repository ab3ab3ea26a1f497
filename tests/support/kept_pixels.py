"""Pixel children that several tests use, since starting one takes longer than most tests of a provider or a stage."""

from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest
from typing_extensions import override

from pipelines.imaging.pixel_child import PixelChild
from pipelines.imaging.pool import PixelPool


class KeptPool(PixelPool):
    """A pool of one test, whose children are those of earlier tests."""

    kept: ClassVar[list[PixelChild]] = []

    @override
    def _new_child(self) -> PixelChild:
        if not self.kept:
            return super()._new_child()
        self._children.append(self.kept.pop())
        return self._children[-1]

    @override
    async def close(self) -> None:
        self.kept.extend(self._children)
        self._children.clear()
        self._idle.clear()


@pytest.fixture(scope="session")
def kept_children() -> Iterator[None]:
    """End the children after the last test."""
    yield
    for child in KeptPool.kept:
        child.close()
        child.join()


@pytest.fixture
async def pixels(kept_children: None) -> AsyncIterator[PixelPool]:
    """A pool of one child, which may have worked for another test before."""
    async with KeptPool(size=1) as pool:
        yield pool
