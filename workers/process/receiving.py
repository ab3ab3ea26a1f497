"""What processes that receive wake-ups share, whichever broker they use."""

import threading

MOST_WAITING = 64
"""Most wake-ups that wait in one queue: one for each process that may be idle is enough."""

DEAF_S = 60.0
"""Seconds until a broker that refuses to let its user wait is asked again; the worker's timer finds jobs meanwhile."""


class WakeUpsRefusedError(Exception):
    """Raised when the broker's user may not wait for wake-ups. A right is missing, so trying again doesn't help."""


class Lanes:
    """Whether this process has a free lane. A process without a free lane leaves wake-ups to other processes."""

    def __init__(self) -> None:
        self._are_free = threading.Event()
        self._are_free.set()

    def set_free(self, are_free: bool) -> None:  # noqa: FBT001 - a plain setter
        """Record whether this process has a free lane."""
        if are_free == self._are_free.is_set():
            return
        if are_free:
            self._are_free.set()
        else:
            self._are_free.clear()

    def wait(self, timeout_s: float) -> bool:
        """Wait until this process has a free lane; return False if it still has none after `timeout_s`."""
        return self._are_free.wait(timeout_s)
