"""Our functions and views, which `db upgrade` makes anew whenever they differ from what this release says.

Tables are versioned by revisions; everything here is replaced in the same transaction, so that a database never runs
one release's functions on another release's tables. What each definition was made from, and what the catalog held
afterwards, is recorded in `darkroom.settings`: a text that changed is noticed, and an object that somebody changed.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from asyncpg import PostgresError
from sqlalchemy import Connection, text

from models.schema.migrations import installation
from models.schema.migrations.definitions import Definition, definitions
from models.schema.migrations.errors import InTheWayError
from models.schema.migrations.session import execute_script, names_in_full, sql_of

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

KEPT_WHILE_OLD_WORKERS_LIVE: Final[Mapping[str, str]] = {
    "settle_failure": "its result is the application's enum, which the application couldn't rebuild",
}
"""Functions of the release before that its workers call and this one doesn't make, and why they can't stay for good.

They go with the first `db upgrade` that finds no living worker of that release. What stands in nobody's way is made by
our SQL files for one release more (`warn_of_usage`, `unreferenced`).
"""

LEFT_BY_EARLIER: Final = frozenset(
    {"is_passing", "count_call", "judge", "lock_cells", "guard_status", "guard_identity", "settle_failure"}
)
"""Functions of releases that recorded nothing of what they made. It never grows: since then the record says it."""

RECORD: Final = "objects"
"""The key in darkroom.settings: label -> [digest of the text, digest of what the catalog holds]."""

MOST_TIMES: Final = 5
"""How often one upgrade makes an object that keeps being dropped with another one, before it gives up."""

REPLACING_REFUSED: Final = frozenset({"42P13", "42P16", "42809"})
"""SQLSTATEs of CREATE OR REPLACE for another result, other names of parameters, other columns, another kind."""

_CATALOG: Final = text("""
    SELECT 'function darkroom.' || p.proname AS label, p.oid, md5(concat_ws('|',
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname, p.provolatile, p.prosecdef,
        p.proisstrict, p.prorows, p.proconfig, p.prosrc, pg_get_function_sqlbody(p.oid))) AS digest
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = to_regnamespace('darkroom') AND p.prokind = 'f'
    UNION ALL
    SELECT 'view darkroom.' || c.relname, c.oid, md5(pg_get_viewdef(c.oid) || (
        SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_class c WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind = 'v'
""")

# What would have to be dropped with an object of ours, itself first: functions and views of ours that name it.
_DEPENDENT: Final = text("""
    WITH RECURSIVE dependent (class, object, depth) AS (
        SELECT CAST(CAST(:class AS text) AS regclass)::oid, CAST(:object AS oid), 0
        UNION
        SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END,
               coalesce(r.ev_class, d.objid), p.depth + 1
        FROM dependent p
        JOIN pg_depend d ON d.refclassid = p.class AND d.refobjid = p.object AND d.deptype = 'n'
        LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_proc f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
        LEFT JOIN pg_class v ON v.oid = r.ev_class
        WHERE to_regnamespace('darkroom') IN (f.pronamespace, v.relnamespace) AND p.depth < 20
          AND (v.oid IS NULL OR v.oid <> p.object))
    SELECT CASE WHEN d.class = 'pg_proc'::regclass THEN 'FUNCTION ' || d.object::regprocedure
                ELSE 'VIEW ' || d.object::regclass END
    FROM dependent d
    WHERE CASE WHEN d.class = 'pg_proc'::regclass THEN EXISTS (SELECT FROM pg_proc f WHERE f.oid = d.object)
               ELSE EXISTS (SELECT FROM pg_class v WHERE v.oid = d.object) END
    GROUP BY d.class, d.object ORDER BY max(d.depth) DESC
""")

_OLD_WORKERS: Final = text("""
    SELECT EXISTS (SELECT FROM darkroom.workers w WHERE w.lease_expires_at > now() AND w.revision IS NULL)
""")


@cache
def wanted(cost_column: str) -> tuple[Definition, ...]:
    """Return every function and view of this release, in the order of creation."""
    return tuple(definitions("\n".join(sql_of(name, cost_column=cost_column) for name in FILES)))


def apply(connection: Connection, cost_column: str) -> list[str]:
    """Make functions and views what this release says, in the caller's transaction; return the labels of what was made.

    Args:
        connection: in the migration's transaction, with the tables at their head.
        cost_column: the name of the cost's column in both job tables.

    Raises:
        InTheWayError: what has to be dropped is used by something that isn't ours.
    """
    all_of_them = wanted(cost_column)
    record = dict(installation.value_of(connection, RECORD) or {})
    made: list[str] = []
    there = catalog(connection)
    while due := [one for one in all_of_them if _differs(one, there, record)]:
        if max(made.count(one.label) for one in due) >= MOST_TIMES:
            raise AssertionError(f"{due[0].label} can't be made")
        _make(connection, due, there)
        made += [one.label for one in due]
        there = catalog(connection)  # one that was dropped with another is missing now, and due
        record |= {one.label: [one.digest, *there.get(one.label, {}).values()] for one in due}
    installation.record(connection, RECORD, record)
    return list(dict.fromkeys(made))


def drop_left_over(connection: Connection, cost_column: str) -> list[str]:
    """Drop functions and views that an earlier release made and this one doesn't, once no trigger calls them."""
    dropped = []
    for label in left_over(connection, cost_column):
        for oid in catalog(connection).get(label, {}):
            _drop(connection, label, oid)
        dropped.append(label)
    record = installation.value_of(connection, RECORD) or {}
    there = catalog(connection)
    installation.record(connection, RECORD, {label: value for label, value in record.items() if label in there})
    return dropped


def left_over(connection: Connection, cost_column: str) -> list[str]:
    """Name what an earlier release made, this one doesn't, and no living worker of that release calls."""
    names = {one.label for one in wanted(cost_column)}
    by_us = {f"function darkroom.{name}" for name in LEFT_BY_EARLIER} | set(
        installation.value_of(connection, RECORD) or {}
    )
    found = [label for label in catalog(connection) if label in by_us - names]
    kept = {f"function darkroom.{name}" for name in KEPT_WHILE_OLD_WORKERS_LIVE}
    if kept.intersection(found) and connection.scalar(_OLD_WORKERS):
        found = [label for label in found if label not in kept]
    return sorted(found)


def catalog(connection: Connection) -> dict[str, dict[int, str]]:
    """Return what is there: label -> oid -> a digest of what the catalog says; several oids are several signatures."""
    found: dict[str, dict[int, str]] = {}
    with names_in_full(connection):
        for label, oid, digest in connection.execute(_CATALOG):
            found.setdefault(label, {})[oid] = digest
    return found


def differences(connection: Connection, cost_column: str) -> tuple[list[str], list[str]]:
    """Name the functions and views that are missing, and those that differ from what this release made."""
    there = catalog(connection)
    record: Mapping[str, Sequence[str]] = installation.value_of(connection, RECORD) or {}
    missing = [one.label for one in wanted(cost_column) if one.label not in there]
    different = [one.label for one in wanted(cost_column) if one.label in there and _differs(one, there, record)]
    return missing, different


def _differs(one: Definition, there: Mapping[str, Mapping[int, str]], record: Mapping[str, Sequence[str]]) -> bool:
    return [one.digest, *there.get(one.label, {}).values()] != list(record.get(one.label, ())) or one.label not in there


def _make(connection: Connection, due: Sequence[Definition], before: Mapping[str, Mapping[int, str]]) -> None:
    """Replace all at once, or where PostgreSQL refuses that one by one; afterwards nothing else has their names."""
    try:
        with connection.begin_nested():
            execute_script(connection, "\n".join(one.sql for one in due))
    except PostgresError:
        for one in due:
            _make_one(connection, one)
    there = catalog(connection)
    for one in due:
        old, now = set(before.get(one.label, {})), set(there.get(one.label, {}))
        if len(now) > 1:  # other signatures of the same name; which one was replaced in place can't be told
            for oid in old & now:
                _drop(connection, one.label, oid)
            if not now - old:
                execute_script(connection, one.sql)


def _make_one(connection: Connection, definition: Definition) -> None:
    try:
        with connection.begin_nested():
            execute_script(connection, definition.sql)
    except PostgresError as error:
        if getattr(error, "sqlstate", None) not in REPLACING_REFUSED:
            error.add_note(f"in {definition.label}")
            raise
        for oid in catalog(connection).get(definition.label, {}):
            _drop(connection, definition.label, oid)
        execute_script(connection, definition.sql)


def _drop(connection: Connection, label: str, oid: int) -> None:
    """Drop an object of ours with those of ours that name it, which are made again where they are wanted.

    Raises:
        InTheWayError: something that isn't ours names it.
    """
    catalog_table = "pg_proc" if label.startswith("function ") else "pg_class"
    for dropped in connection.scalars(_DEPENDENT, {"class": catalog_table, "object": oid}).all():
        try:
            with connection.begin_nested():
                execute_script(connection, f"DROP {dropped}")
        except PostgresError as error:
            if getattr(error, "sqlstate", None) == "2BP01":
                raise InTheWayError(label, str(error.as_dict().get("detail") or error)) from error
            raise
