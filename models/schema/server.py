"""State of the PostgreSQL server: version, clock, sessions, connections, snapshots and notifications."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.connections import Connection

_VERSION: Final = "SHOW server_version"
_TIME: Final = "SELECT clock_timestamp()"
_TIME_IN_MILLISECONDS: Final = "SELECT date_trunc('milliseconds', clock_timestamp())"
_CONNECTIONS: Final = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS server,
       (SELECT r.rolconnlimit FROM pg_roles r WHERE r.rolname = current_user) AS role,
       (SELECT d.datconnlimit FROM pg_database d WHERE d.datname = current_database()) AS database,
       (SELECT count(*) FROM pg_stat_activity a
        WHERE a.datid IS NOT NULL AND a.application_name IS DISTINCT FROM 'darkroom') AS others,
       (SELECT count(*) FROM darkroom.workers w WHERE w.lease_expires_at > now()) AS workers
"""
# Prepared transactions hold a snapshot too, and don't appear among the sessions
_SNAPSHOTS: Final = """
WITH held AS (
    SELECT format('process %s', a.pid) AS holder, a.application_name AS program, a.usename::text AS role,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age_s, a.query_start
    FROM pg_stat_activity a
    WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
      AND a.backend_type <> 'autovacuum worker' AND (a.datname = current_database() OR a.datname IS NULL)
    UNION ALL
    SELECT format('prepared transaction %s', x.gid), '', x.owner::text,
           extract(epoch FROM clock_timestamp() - x.prepared)::float8, x.prepared
    FROM pg_prepared_xacts x WHERE x.database = current_database())
SELECT h.*, (SELECT count(*) FROM pg_stat_activity a
             WHERE a.datname = current_database() AND a.query = '<insufficient privilege>') AS unseen
FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT * FROM held ORDER BY age_s DESC NULLS LAST LIMIT 1) h ON true
"""
_NOTIFY_QUEUE: Final = """
SELECT pg_notification_queue_usage() AS used_fraction,
       (SELECT a.pid FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%' AND a.pid <> pg_backend_pid()
        ORDER BY a.xact_start LIMIT 1) AS idle_pid
"""
_IDLE: Final = """
SELECT a.pid, a.application_name AS program, extract(epoch FROM now() - a.xact_start)::float8 AS for_s
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%' ORDER BY a.xact_start LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections PostgreSQL allows, and how many programs may open some.

    Attributes:
        server: limit of the whole server, without reserved connections.
        role: limit of the role; None or negative means no limit.
        database: limit of the database; None or negative means no limit.
        others: number of sessions of other programs.
        workers: number of live worker processes.
    """

    server: int
    role: int | None
    database: int | None
    others: int
    workers: int


@dataclass(frozen=True, slots=True)
class OldestSnapshot:
    """The oldest snapshot that a session or a prepared transaction holds; without one, all but `unseen` is None.

    Attributes:
        holder: such as `process 123`.
        program: the session's `application_name`, which may be empty.
        role: the session's role.
        age_s: how long its transaction has lasted.
        query_start: when its last statement began.
        unseen: number of sessions of other roles whose state this role may not see.
    """

    holder: str | None
    program: str | None
    role: str | None
    age_s: float | None
    query_start: datetime | None
    unseen: int


@dataclass(frozen=True, slots=True)
class NotifyQueue:
    """PostgreSQL's queue of notifications; `idle_pid` is the session that has been idle longest in a transaction."""

    used_fraction: float
    idle_pid: int | None


@dataclass(frozen=True, slots=True)
class IdleSession:
    """The session that has been idle in a transaction for longest."""

    pid: int
    program: str | None
    for_s: float | None


async def server_version(connection: Connection) -> str:
    """Return the server's version, without a distribution's suffix."""
    return str(await connection.fetchval(_VERSION)).split(maxsplit=1)[0]


async def server_time(connection: Connection) -> datetime:
    """Return the time of the server's clock. All decisions about time use this clock."""
    now: datetime = await connection.fetchval(_TIME)
    return now


async def server_time_in_milliseconds(connection: Connection) -> datetime:
    """Return the time of the server's clock in milliseconds, so that people can type it."""
    now: datetime = await connection.fetchval(_TIME_IN_MILLISECONDS)
    return now


async def connection_limits(connection: Connection) -> ConnectionLimits:
    """Return how many connections are allowed, and how many programs and workers there are."""
    row = await connection.fetchrow(_CONNECTIONS)
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return ConnectionLimits(**row)


async def oldest_snapshot(connection: Connection) -> OldestSnapshot:
    """Return what holds the oldest snapshot of this database."""
    row = await connection.fetchrow(_SNAPSHOTS)
    assert row is not None  # noqa: S101 - an outer join with one row returns a row
    return OldestSnapshot(**row)


async def notify_queue(connection: Connection) -> NotifyQueue:
    """Return how full the queue of notifications is. The query also makes PostgreSQL empty a queue that stayed full."""
    row = await connection.fetchrow(_NOTIFY_QUEUE)
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return NotifyQueue(**row)


async def idle_session(connection: Connection) -> IdleSession | None:
    """Return the session that has been idle in a transaction of this database for longest; None if there is none."""
    row = await connection.fetchrow(_IDLE)
    return None if row is None else IdleSession(**row)


def ending_statement(pid: int) -> str:
    """Return the statement with which an operator ends a session."""
    return f"SELECT pg_terminate_backend({pid})"
