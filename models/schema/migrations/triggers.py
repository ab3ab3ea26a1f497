"""Our triggers on the application's tables, replaced only where they differ, and never behind an idle transaction."""

import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from models.job_tables.quoting import quoted_name
from models.schema.migrations import installation, session
from models.schema.migrations.definitions import Trigger, triggers
from models.schema.migrations.errors import TableLockedError
from models.schema.migrations.session import execute_script, sql_of

TRIGGERS_FILE: Final = "queue/triggers.sql"

LOCK_TIMEOUT_MS: Final = 2_000
"""How long, in ms, producers may have to wait behind the migration for a table that another program holds."""

FIRST_TRY_MS: Final = 100
"""How long, in ms, the first try to lock several tables waits for each.

Meanwhile other programs wait for the tables that this try has locked already.
"""

# Transactions that hold a table's lock and are idle. Waiting in the lock's queue behind such a transaction would block
# every later one.
_IDLE_HOLDERS: Final = text("""
    SELECT DISTINCT a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation = to_regclass(:name) AND l.granted AND l.pid <> pg_backend_pid()
      AND a.state LIKE 'idle in transaction%' AND (:blocks_readers OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
    ORDER BY a.pid
""")


def wanted(cost_column: str) -> Mapping[str, Trigger]:
    """Return every trigger of this release, by its label."""
    return _wanted(sql_of(TRIGGERS_FILE, cost_column=cost_column))


@lru_cache(maxsize=64)
def _wanted(sql: str) -> Mapping[str, Trigger]:
    return {one.label: one for one in triggers(sql)}


def due(connection: Connection, cost_column: str) -> list[Trigger]:
    """Return the triggers that are missing, or that differ from this release's."""
    texts = installation.value_of(connection, "trigger_texts") or {}
    recorded = installation.value_of(connection, "triggers") or {}
    standing = installation.standing_triggers(connection)
    return [
        one
        for label, one in wanted(cost_column).items()
        if standing.get(label, "") != recorded.get(label) or texts.get(label) != one.sql
    ]


def not_wanted(connection: Connection, cost_column: str) -> list[str]:
    """Return the labels of triggers that call functions of ours and that this release doesn't make."""
    return sorted(installation.standing_triggers(connection).keys() - wanted(cost_column).keys())


def lock_tables(connection: Connection, cost_column: str) -> None:
    """Lock the tables whose triggers change.

    The caller must have locked none of our own tables yet: producers lock the application's tables first, then ours.

    Raises:
        TableLockedError: an idle transaction holds one of the tables; the caller tries the whole upgrade again.
    """
    standing = installation.standing_triggers(connection)
    if not standing or installation.recorded(connection) is None:
        return  # no triggers exist yet by which jobs could enter
    changing = due(connection, cost_column)
    dropping = {table_of(label) for label in not_wanted(connection, cost_column)}
    dropping |= {table_of(one.label) for one in changing if one.is_constraint and one.label in standing}
    tables = {table_of(one.label) for one in changing} | dropping
    # the lock order of all programs; last come the tables of an application that is drained no more
    in_order = dict.fromkeys([*(table_of(one.label) for one in wanted(cost_column).values()), *sorted(dropping)])
    modes = {
        table: "ACCESS EXCLUSIVE" if table in dropping else "SHARE ROW EXCLUSIVE"
        for table in in_order
        if table in tables
    }
    most_ms = FIRST_TRY_MS
    while modes and not _lock(connection, modes, dropping, min(most_ms, LOCK_TIMEOUT_MS)):
        most_ms *= 2


def _lock(connection: Connection, modes: Mapping[str, str], dropping: Collection[str], most_ms: int) -> bool:
    """Lock all given tables and return True, or lock none and return False.

    No table stays locked while another one is waited for in vain.

    Raises:
        DBAPIError: even the longest wait was in vain.
    """
    for table in modes:
        _require_free(connection, table, blocks_readers=table in dropping)
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL lock_timeout TO {most_ms}"))
            for table, mode in modes.items():
                connection.execute(text(f"LOCK TABLE {table} IN {mode} MODE"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != "55P03" or most_ms == LOCK_TIMEOUT_MS:
            raise
        return False
    connection.execute(text(f"SET LOCAL lock_timeout TO {LOCK_TIMEOUT_MS}"))
    return True


def apply(connection: Connection, cost_column: str) -> list[str]:
    """Make the triggers that are missing or differ, and drop those that this release doesn't make; return their labels.

    Raises:
        TableLockedError: an idle transaction holds one of the tables; the caller tries the whole upgrade again.
    """
    changed = []
    for label in not_wanted(connection, cost_column):
        table = table_of(label)
        _require_free(connection, table, blocks_readers=True)
        execute_script(connection, f'DROP TRIGGER "{label.rpartition(".")[2]}" ON {table}')
        changed.append(label)
    for one in due(connection, cost_column):
        # a constraint trigger can't be replaced
        must_drop = one.is_constraint and one.label in installation.standing_triggers(connection)
        _require_free(connection, one.table, blocks_readers=must_drop)
        if must_drop:
            execute_script(connection, f'DROP TRIGGER "{one.name}" ON {one.table}')
        sql = one.sql if one.is_constraint else one.sql.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)
        execute_script(connection, sql)
        changed.append(one.label)
    installation.record(connection, "trigger_texts", {label: one.sql for label, one in wanted(cost_column).items()})
    installation.record_triggers(connection)
    return changed


def table_of(label: str) -> str:
    """Return the table of a trigger, with its schema, from the trigger's label."""
    schema, _, table = label.rpartition(".")[0].rpartition(".")
    return f"{quoted_name(schema or 'public')}.{quoted_name(table)}"


def _require_free(connection: Connection, table: str, *, blocks_readers: bool) -> None:
    """Wait, without queueing for its lock, until no idle transaction holds a table; most such waits end within moments.

    Meanwhile other programs wait for the tables that the migration has locked already.
    """
    wanted_lock = {"name": table, "blocks_readers": blocks_readers}
    until_s = time.monotonic() + LOCK_TIMEOUT_MS / 1000
    while holders := connection.scalars(_IDLE_HOLDERS, wanted_lock).all():
        if time.monotonic() > until_s:
            raise TableLockedError(table.replace('"', "").removeprefix("public."), holders)
        connection.execute(text("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()"))
    connection.execute(text(f"SET LOCAL lock_timeout TO {min(LOCK_TIMEOUT_MS, session.LOCK_TIMEOUT_MS)}"))
