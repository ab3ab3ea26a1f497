"""Gauges that are read from the database: once for all who scrape at a time, and by none of them itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Final, TypeAlias

from config.logger import EventLogger
from config.outcome import outcome_of
from workers.metrics.values import Key

log = EventLogger(__name__)

FRESH_S: Final = 5.0
"""Seconds for which gauges are shown again without another look."""

WAIT_S: Final = 1.0
"""Seconds that a scrape waits for a look; then it is answered without these gauges."""

ReadGauges: TypeAlias = Callable[[], Awaitable[Mapping[Key, float]]]
"""A function that reads the gauges. It runs on the event loop of the process that opened the database."""


class CachedGauges:
    """The gauges of the last look. Asked on the event loop of the server, which may be another thread's."""

    def __init__(self, read: ReadGauges, loop: asyncio.AbstractEventLoop) -> None:
        """Store what reads the gauges, and on which event loop."""
        self._read = read
        self._loop = loop
        self._values: Mapping[Key, float] = {}
        self._read_at_s = float("-inf")
        self._reading: Future[Mapping[Key, float] | Exception] | None = None
        self._began_s = 0.0

    async def now(self) -> Mapping[Key, float]:
        """Return the gauges, at most FRESH_S old; empty while the database doesn't answer.

        The database is asked by one look at a time, however many scrapes there are, and however long it takes.
        """
        if time.monotonic() - self._read_at_s < FRESH_S:
            return self._values
        if self._reading is None:
            self._began_s = time.monotonic()
            self._reading = self._begin()
        reading = self._reading
        if reading is None:
            return {}
        left_s = self._began_s + WAIT_S - time.monotonic()
        if not reading.done() and left_s > 0:
            await asyncio.wait([asyncio.wrap_future(reading)], timeout=left_s)
        if reading.done() and self._reading is reading:
            self._take(reading)
        return self._values if time.monotonic() - self._read_at_s < FRESH_S else {}

    def _begin(self) -> Future[Mapping[Key, float] | Exception] | None:
        work = outcome_of(self._read())
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the event loop is closed: the process ends
            work.close()
            return None

    def _take(self, reading: Future[Mapping[Key, float] | Exception]) -> None:
        self._reading = None
        if reading.cancelled():  # the process ends
            return
        found = reading.result()
        if isinstance(found, Exception):
            log.warning("gauges_unread", error=str(found), error_type=type(found).__name__)
        else:
            self._values, self._read_at_s = found, time.monotonic()
