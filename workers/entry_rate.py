"""How densely jobs enter the queue, seen by one worker: then looking often costs less than being woken often."""

from collections import deque
from typing import Final

WINDOW_S: Final = 0.4
DENSE_COUNT: Final = 9
"""So many jobs within the window are dense: 22 a second. A NOTIFY costs its commit the lock that all of them share."""

DENSE_LOOK_S: Final = 0.02
"""How long a worker with free lanes waits between looks while jobs enter densely."""


class EntryRate:
    """Compares how many jobs have ever entered, as of now, with what was seen a window ago."""

    def __init__(self) -> None:
        """Begin without a memory."""
        self._seen: deque[tuple[float, int]] = deque()

    def is_dense(self, now_s: float, entered: int) -> bool:
        """Note how many have entered; say whether at least DENSE_COUNT of them may have within the last window.

        What entered since the newest look that is a window old counts as entered within it: a worker that hasn't
        looked for long looks often for one window, and then knows.

        Args:
            now_s: of a monotonic clock.
            entered: how many jobs have ever entered, in the fleet.
        """
        self._seen.append((now_s, entered))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        return entered - self._seen[0][1] >= DENSE_COUNT
