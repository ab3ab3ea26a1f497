"""A log line about what lasts: said at once, and then once a minute for as long as it does."""

import time

EVERY_S = 60.0


class RepeatedLine:
    """Says when a line about something that lasts is due."""

    def __init__(self) -> None:
        self._said_s: float | None = None
        self._since_s = 0.0

    def is_due(self) -> bool:
        """Say whether the line is due now; that it was said is noted."""
        now_s = time.monotonic()
        if self._said_s is None:
            self._since_s = now_s
        elif now_s - self._said_s < EVERY_S:
            return False
        self._said_s = now_s
        return True

    def end(self) -> float | None:
        """Note that it is over; return for how many seconds it lasted, or None if nothing was said."""
        if self._said_s is None:
            return None
        self._said_s = None
        return time.monotonic() - self._since_s
