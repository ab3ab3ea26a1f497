"""Rows of worker processes: the lease of each, and the claims that it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from models.connections import Connection

REVISION: Final = "darkroom_0017"
"""The newest schema revision that this release knows; a test compares it. A worker writes it into its row."""

_RENEW = """
INSERT INTO darkroom.workers AS w (id, host, pid, queues, lanes, lease_expires_at, connect_s, revision)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6), $7, $8)
ON CONFLICT (id) DO UPDATE SET lease_expires_at = excluded.lease_expires_at, connect_s = excluded.connect_s
"""


async def renew_lease(
    connection: Connection,
    worker_id: UUID,
    *,
    host: str,
    pid: int,
    queues: list[str],
    lanes: int,
    lease_s: float,
    connect_s: float = 0.0,
) -> None:
    """Extend a process's lease to `lease_s` from now, by the database's clock.

    The first call inserts the process's row. `connect_s` is how long the process's last connection took to open. When
    PostgreSQL returns after a stop, the process needs at least that long to renew its lease.
    """
    await connection.execute(_RENEW, worker_id, host, pid, queues, lanes, lease_s, connect_s, REVISION)


@dataclass(frozen=True, slots=True)
class LeaseNow:
    """What the database knows of a worker.

    Attributes:
        now: the database's time.
        until: the end of its lease; None for a worker without a row.
        tokens: the lease tokens of all claims that it holds.
    """

    now: datetime
    until: datetime | None
    tokens: set[UUID]


# As text, because asyncpg has to ask on each new connection for the type of an array of UUIDs
_LEASE_NOW = """
SELECT clock_timestamp() AS now, (SELECT w.lease_expires_at FROM darkroom.workers w WHERE w.id = $1) AS until,
       ARRAY(SELECT q.lease_token::text FROM darkroom.job_queue q
             WHERE q.worker_id = $1 AND q.status = 'processing') AS tokens
"""


async def lease_now(connection: Connection, worker_id: UUID) -> LeaseNow:
    """Return what the database knows of a worker's lease and claims."""
    row = await connection.fetchrow(_LEASE_NOW, worker_id)
    if row is None:
        raise AssertionError("unreachable: a SELECT without FROM has a row")
    return LeaseNow(row["now"], row["until"], set(map(UUID, row["tokens"])))


async def lasting_leases(connection: Connection, worker_ids: Sequence[UUID]) -> int:
    """Count those of some workers whose lease lasts."""
    return int(await connection.fetchval(_LASTING, list(map(str, worker_ids))))


_LASTING: Final = """
SELECT count(*) FROM darkroom.workers w
WHERE w.id = ANY ($1::text[]::uuid[]) AND w.lease_expires_at > clock_timestamp()
"""


async def sign_off(connection: Connection, worker_id: UUID) -> None:
    """Remove a worker's row. Claims that it still holds are then due for rescue at once."""
    await connection.execute("DELETE FROM darkroom.workers w WHERE w.id = $1", worker_id)


async def forget_dead_workers(connection: Connection) -> None:
    """Remove the rows of processes that have been dead for an hour."""
    await connection.execute("DELETE FROM darkroom.workers w WHERE w.lease_expires_at < now() - interval '1 hour'")
