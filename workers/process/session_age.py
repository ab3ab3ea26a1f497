"""The session age: after a gap in our own database session, no worker may be treated as dead at once.

The argument for each number is in docs/decisions/0073-rescue-after-a-restart.md.
"""

from datetime import datetime, timedelta

BEAT_S = 1.0
RECONNECT_S = 0.25
"""Seconds between a failed heartbeat and the next try: PostgreSQL's return must be noticed at once."""

MOST_GAP = timedelta(seconds=5)
"""The longest pause between two heartbeats that doesn't end a session; half a lease if that is less.

When PostgreSQL stops, two thirds of every live lease remain. So no worker is treated as dead after a pause in which it
couldn't renew its lease.
"""

MOST_VALID_FOR = timedelta(seconds=3)
"""How long after a heartbeat a rescue may still begin; a third of a lease if that is less."""

SETTLING = timedelta(seconds=3)
"""How long after PostgreSQL's return no worker is rescued; a lease if that is less.

Live workers try to connect four times a second, end a try after 2 s, and renew their leases before anything else.
"""


class SessionAge:
    """The age of a process's session with PostgreSQL, known from reading the database's clock once a second."""

    def __init__(self, lease_s: float) -> None:
        lease = timedelta(seconds=lease_s)
        self._gap = min(MOST_GAP, lease / 2)
        self._valid_for = min(MOST_VALID_FOR, lease / 3)
        self._settling = min(SETTLING, lease)
        self._since: datetime | None = None
        self._last: datetime | None = None

    def beat(self, database_now: datetime) -> None:
        """Record that the database's clock was read, and its time."""
        if self._since is None or self._last is None or database_now - self._last > self._gap:
            self._since = database_now
        self._last = database_now

    def break_off(self) -> None:
        """Record that the session was lost."""
        self._since = None

    def settled_at(self) -> datetime | None:
        """Return the database's time by which every live worker has renewed its lease; None without a session."""
        return None if self._since is None else self._since + self._settling

    def rescue_not_after(self) -> datetime | None:
        """Return the database's time until which a rescue may begin; None if workers had no time to renew yet."""
        settled_at = self.settled_at()
        if settled_at is None or self._last is None or self._last < settled_at:
            return None
        return self._last + self._valid_for
