"""A log line about a lasting condition: due when the condition begins, and then once a minute until it ends."""

import time

EVERY_S = 60.0


class RepeatedLine:
    """Decides when a log line about a lasting condition is due."""

    def __init__(self) -> None:
        self._said_s: float | None = None
        self._since_s = 0.0

    def is_due(self) -> bool:
        """Return whether the line is due now; if so, it counts as logged."""
        now_s = time.monotonic()
        if self._said_s is None:
            self._since_s = now_s
        elif now_s - self._said_s < EVERY_S:
            return False
        self._said_s = now_s
        return True

    def end(self) -> float | None:
        """End the condition; return how many seconds it lasted, or None if no line about it was logged."""
        if self._said_s is None:
            return None
        self._said_s = None
        return time.monotonic() - self._since_s
