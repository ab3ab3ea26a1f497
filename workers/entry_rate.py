"""The rate at which jobs enter the queue, as one worker measures it.

If it is above a limit, frequent looks cost less than notifications.
"""

from collections import deque
from typing import Final

WINDOW_S: Final = 0.4
DENSE_COUNT: Final = 9
"""Jobs within the window from which on the rate counts as high: 22 a second.

A NOTIFY makes all commits wait for one lock, so at a high rate workers look for jobs instead of asking for one.
"""

DENSE_LOOK_S: Final = 0.02
"""Seconds between the looks of a worker with free lanes while the rate is high."""


class EntryRate:
    """Compares the number of jobs that have ever entered the queue with that number a window (WINDOW_S) earlier."""

    def __init__(self) -> None:
        """Create the measurement, without any number yet."""
        self._seen: deque[tuple[float, int]] = deque()

    def is_dense(self, now_s: float, entered: int) -> bool:
        """Store how many jobs have entered by now.

        Return whether at least DENSE_COUNT may have entered within the last window.

        All jobs since the newest look that is at least a window old count as entered within it. A worker that hasn't
        looked for long may therefore look often for one window, until it knows the rate.

        Args:
            now_s: time of a monotonic clock.
            entered: how many jobs have ever entered, in all processes.
        """
        self._seen.append((now_s, entered))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        return entered - self._seen[0][1] >= DENSE_COUNT
