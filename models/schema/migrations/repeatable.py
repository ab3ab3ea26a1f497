"""Our functions, views and triggers, which `db upgrade` makes anew whenever their text differs from what is recorded.

Tables are versioned by revisions; everything here is replaced in the same transaction, so that a database never runs
one release's functions on another release's tables.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, text

from models.schema.migrations import installation
from models.schema.migrations.session import execute_script, sql_of

FILES: Final = (
    "schema/settings.sql",
    "schema/visibility.sql",
    "queue/pauses.sql",
    "queue/jobs.sql",
    "money/money.sql",
    "queue/entering.sql",
    "queue/adopting.sql",
    "queue/changes.sql",
    "queue/refusals.sql",
    "queue/pipelines.sql",
    "queue/inputs.sql",
    "queue/submit_checks.sql",
    "queue/submit.sql",
    "gate/cells.sql",
    "gate/limits.sql",
    "periodic/partitions.sql",
    "money/regeneration.sql",
    "money/subscriptions.sql",
    "periodic/upkeep.sql",
    "schema/grants.sql",
)
"""In the order of creation: functions with a body in SQL, and views, name things that must be there."""

TRIGGERS_FILE: Final = "queue/triggers.sql"

RETIRED: Final[tuple[str, ...]] = (
    'is_terminal(public."JobStatus")',
    "settle_failure(text, text, text, text)",
    "due_regenerations(timestamp)",
    "due_periods(timestamp)",
    "max_attempts(integer)",
    "adopt(integer)",
    "is_passing(text)",
    "end_refused(darkroom.change, text, text)",
    "warn_of_usage(date, jsonb)",
    "submit_enhancement(text, text, text, text, text, text)",
    "reserve_submission(text, text, text, text)",
    "take_tokens(text[], bigint[])",
    "budget_lines(text, jsonb, timestamptz)",
    "budget_wait(text, numeric, jsonb, timestamptz)",
    "count_call(text, text, text, timestamptz, integer, integer, numeric)",
    "judge(text, text, double precision, text, timestamptz, jsonb)",
    "lock_cells(text, text, text, timestamptz)",
    "close_call(bigint,text,boolean,integer,text,integer,integer,integer,numeric,boolean,text,float8,text,jsonb)",
)
"""Signatures of functions that a release dropped or replaced, such as `submit_enhancement(text, text)`.

They are dropped, and whoever was allowed to call one may call the function that has its name now, if there is one.
"""

_MADE = re.compile(r"^CREATE OR REPLACE (?:FUNCTION|VIEW) darkroom\.(\w+)", re.MULTILINE)
_TRIGGER = re.compile(r"^CREATE (?:CONSTRAINT )?TRIGGER (\w+) .*? ON public\.(\w+).*?;", re.MULTILINE | re.DOTALL)

_THERE = text("""
    SELECT proname::text FROM pg_proc WHERE pronamespace = 'darkroom'::regnamespace
    UNION SELECT relname::text FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace AND relkind = 'v'
""")

_CALLERS = text("""
    SELECT proname, acl.grantee::regrole::text AS role, acl.is_grantable
    FROM pg_proc CROSS JOIN LATERAL aclexplode(proacl) acl
    WHERE pg_proc.oid = to_regprocedure(:signature) AND acl.privilege_type = 'EXECUTE'
      AND acl.grantee <> 0 AND acl.grantee <> proowner
""")


def apply(connection: Connection, cost_column: str) -> None:
    """Make functions, views and triggers what this release says, in the caller's transaction; nothing if they are.

    Args:
        connection: in the migration's transaction, with the tables at their head.
        cost_column: the name of the cost's column in both job tables.
    """
    sql = "\n".join(sql_of(name, cost_column=cost_column) for name in FILES)
    digest = hashlib.sha256("\n".join((sql, *RETIRED)).encode()).hexdigest()
    there = set(connection.scalars(_THERE))
    if installation.value_of(connection, "functions") != digest or not there.issuperset(_MADE.findall(sql)):
        made = set(_MADE.findall(sql))
        callers = [row for signature in RETIRED for row in _callers(connection, signature) if row[0] in made]
        for view in ("money_violations", "refunds_owed", "jobs"):
            connection.execute(text(f"DROP VIEW IF EXISTS darkroom.{view}"))
        for signature in RETIRED:
            connection.execute(text(f"DROP FUNCTION IF EXISTS darkroom.{signature}"))
        execute_script(connection, sql)
        for name, role, is_grantable in callers:
            option = " WITH GRANT OPTION" if is_grantable else ""
            connection.execute(text(f"GRANT EXECUTE ON FUNCTION darkroom.{name} TO {role}{option}"))
        installation.record(connection, "functions", digest)
    _apply_triggers(connection, cost_column)


def _callers(connection: Connection, signature: str) -> list[tuple[str, str, bool]]:
    rows = connection.execute(_CALLERS, {"signature": f"darkroom.{signature}"})
    return [(name, role, is_grantable) for name, role, is_grantable in rows]


def _apply_triggers(connection: Connection, cost_column: str) -> None:
    """Make the triggers that are missing, and make anew those whose text has changed since they were made."""
    made = installation.value_of(connection, "trigger_texts") or {}
    standing = installation.standing_triggers(connection)
    wanted = dict(_triggers(sql_of(TRIGGERS_FILE, cost_column=cost_column)))
    for name in sorted(standing - wanted.keys()):
        table, _, trigger = name.partition(".")
        connection.execute(text(f"DROP TRIGGER {trigger} ON public.{table}"))
    for name, statement in wanted.items():
        table, _, trigger = name.partition(".")
        # recorded by no release before the first that recorded texts: those made triggers as they are now
        if name in standing and made.get(name, statement) != statement:
            connection.execute(text(f"DROP TRIGGER {trigger} ON public.{table}"))
        elif name in standing:
            continue
        execute_script(connection, statement)
    installation.record(connection, "trigger_texts", wanted)
    installation.record_triggers(connection)


def _triggers(sql: str) -> Iterator[tuple[str, str]]:
    """Split a script into its triggers: `table.trigger` and the statement."""
    for found in _TRIGGER.finditer(sql):
        yield f"{found[2]}.{found[1]}", found[0]
