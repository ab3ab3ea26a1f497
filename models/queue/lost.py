"""Which claims are lost, as SQL conditions on a queue row `q`."""

DEADLINE_GRACE_S = 30
"""Seconds after a stage's deadline at which its claim is rescued.

Normally the worker itself ends the stage before that.
"""

HAS_SIGNED_OFF = "NOT EXISTS (SELECT FROM darkroom.workers w WHERE w.id = q.worker_id)"
IS_DEAD = "NOT EXISTS (SELECT FROM darkroom.workers w WHERE w.id = q.worker_id AND w.lease_expires_at > now())"
IS_OVERDUE = f"q.deadline_at + make_interval(secs => {DEADLINE_GRACE_S}) < now()"
IS_LOST = f"({HAS_SIGNED_OFF} OR {IS_DEAD} OR {IS_OVERDUE})"
"""The condition of `lost` without the comparison of clocks, to ask again about a worker that may have come back."""


CONNECTS_TO_WAIT = 2
"""How many connection attempts a worker gets after a pause of PostgreSQL: the one it is in, and a new one."""


def _may_come_back(settled_at: str) -> str:
    """Return the SQL condition that a worker had no time yet to renew its lease since PostgreSQL returned.

    A worker whose connections take long to open gets more time.
    """
    return f"""EXISTS (SELECT FROM darkroom.workers w WHERE w.id = q.worker_id
        AND clock_timestamp() < {settled_at} + make_interval(secs => {CONNECTS_TO_WAIT} * w.connect_s))"""


def lost(not_after: str, settled_at: str) -> str:
    """Return the SQL condition of a lost claim: an expired lease counts only while our own session is old enough."""
    is_silent = f"({IS_DEAD} AND NOT {_may_come_back(settled_at)})"
    return f"({HAS_SIGNED_OFF} OR (({is_silent} OR {IS_OVERDUE}) AND clock_timestamp() < {not_after}))"
