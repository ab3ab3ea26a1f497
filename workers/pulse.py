"""How long our own session with PostgreSQL has lasted without a gap: who had a gap may rescue nobody."""

from datetime import datetime, timedelta

MOST_GAP = timedelta(seconds=5)
"""Two beats further apart end a session, or half a lease if that is less: when PostgreSQL stops, two thirds of every
live lease are left, so that after a pause in which others couldn't renew we can't take them for dead."""

MOST_VALID_FOR = timedelta(seconds=3)
"""How long after a beat a rescue may still begin, or a third of a lease if that is less."""


class Pulse:
    """Beats once a second with the database's clock."""

    def __init__(self, lease_s: float) -> None:
        self._lease = timedelta(seconds=lease_s)
        self._gap = min(MOST_GAP, self._lease / 2)
        self._valid_for = min(MOST_VALID_FOR, self._lease / 3)
        self._since: datetime | None = None
        self._last: datetime | None = None

    def beat(self, database_now: datetime) -> None:
        """Note a successful look at the database."""
        if self._since is None or self._last is None or database_now - self._last > self._gap:
            self._since = database_now
        self._last = database_now

    def break_off(self) -> None:
        """Note that the session was lost."""
        self._since = None

    def rescue_not_after(self) -> datetime | None:
        """Return the database's time until which a rescue is valid; None if our session is younger than a lease."""
        if self._since is None or self._last is None or self._last - self._since < self._lease:
            return None
        return self._last + self._valid_for
