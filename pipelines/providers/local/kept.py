"""Results that were made along with analyses, kept until they are asked for."""

import asyncio
from typing import Final

from pipelines.providers.local.findings import Enhanced
from pipelines.providers.provider import EncodedImage

KEPT_BYTES: Final = 32_000_000
"""Results of one process hold at most so many bytes: about 20 of 2048 px. A result is asked for some tenths of a second
after its analysis, so that few are held at a time."""

KEPT_S: Final = 60.0
"""After so many seconds a result is dropped: its job was cancelled, or goes on elsewhere."""


class KeptResults:
    """Results by picture and long side. The oldest are dropped when there are too many; whoever misses one makes it."""

    def __init__(self) -> None:
        self._results: dict[tuple[bytes, int], tuple[Enhanced, asyncio.TimerHandle]] = {}
        self._held_bytes = 0

    def keep(self, image: EncodedImage, long_side_px: int, result: Enhanced) -> None:
        """Keep the result of a picture."""
        key = (image.sha256, long_side_px)
        self._drop(key)
        self._results[key] = result, asyncio.get_running_loop().call_later(KEPT_S, self._drop, key)
        self._held_bytes += len(result.data)
        while self._held_bytes > KEPT_BYTES:
            self._drop(next(iter(self._results)))

    def take(self, image: EncodedImage, long_side_px: int) -> Enhanced | None:
        """Return the result of a picture, and keep it no longer; None if there is none."""
        return self._drop((image.sha256, long_side_px))

    def clear(self) -> None:
        """Drop all results."""
        for key in list(self._results):
            self._drop(key)

    def _drop(self, key: tuple[bytes, int]) -> Enhanced | None:
        result, timer = self._results.pop(key, (None, None))
        if result is None or timer is None:
            return None
        timer.cancel()
        self._held_bytes -= len(result.data)
        return result
