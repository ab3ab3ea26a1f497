"""Our functions and views, which `db upgrade` recreates whenever they differ from this release's.

Tables are versioned by revisions. Functions and views are replaced in the same transaction, so that one release's
functions never run on another release's tables. For each definition, `darkroom.settings` records a hash of its text and
of the catalog's entry after it was made; so both a new text and a change by someone else are noticed.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from asyncpg import PostgresError
from sqlalchemy import Connection, text

from models.applications import registry
from models.applications.application import Application
from models.job_tables.template import render
from models.schema.migrations import installation
from models.schema.migrations.definitions import Definition, definitions
from models.schema.migrations.errors import DependentObjectError
from models.schema.migrations.session import execute_script, names_in_full, sql_of
from models.schema.terms import TERMS

FILES: Final = (
    "schema/settings.sql",
    "schema/visibility.sql",
    "queue/queues.sql",
    "queue/pauses.sql",
    "queue/jobs.sql",
    "queue/job_names.sql",
    "money/tokens.sql",
    "money/balances.sql",
    "money/money.sql",
    "queue/user_keys.sql",
    "queue/fair.sql",
    "queue/entering.sql",
    "queue/adopting.sql",
    "queue/changes.sql",
    "queue/refusals.sql",
    "queue/pipelines.sql",
    "queue/inputs.sql",
    "queue/submit_checks.sql",
    "queue/submit.sql",
    "queue/cancelling.sql",
    "queue/batches.sql",
    "gate/cells.sql",
    "gate/limits.sql",
    "gate/calls.sql",
    "gate/ends.sql",
    "periodic/rollups.sql",
    "queue/eta.sql",
    "periodic/estimates.sql",
    "queue/progress.sql",
    "periodic/partitions.sql",
    "money/regeneration.sql",
    "money/subscriptions.sql",
    "periodic/upkeep.sql",
    "schema/grants.sql",
)
"""Files in the order of creation, because functions in SQL, and views, need the objects that they name."""

FOR_PICTURES: Final = frozenset(
    {
        "queue/pipelines.sql",
        "queue/submit_checks.sql",
        "queue/submit.sql",
        "queue/batches.sql",
        "money/tokens.sql",
        "money/regeneration.sql",
        "money/subscriptions.sql",
    }
)
"""Files whose functions are made only where the application `pictures` is: they name its tables."""

KEPT_WHILE_OLD_WORKERS_LIVE: Final[Mapping[str, str]] = {
    "settle_failure": "its result is the application's enum, which the application couldn't rebuild",
}
"""Functions that workers of the previous release call and this release doesn't make, and why they must be dropped.

The first `db upgrade` that finds no live worker of the previous release drops them. Functions of the previous release
that do no harm are still made by our SQL files, for one more release (`warn_of_usage`, `unreferenced`).
"""

LEFT_BY_EARLIER: Final = frozenset(
    {"is_passing", "count_call", "judge", "lock_cells", "guard_status", "guard_identity", "settle_failure"}
)
"""Functions of releases that didn't record yet what they made. Later releases record it, so the list never grows."""

RECORD: Final = "objects"
"""The key in darkroom.settings of the record: label -> [hash of the text, hash of the catalog's entry]."""

MOST_TIMES: Final = 5
"""How often one upgrade recreates an object that is dropped along with another one, before it gives up."""

REPLACING_REFUSED: Final = frozenset({"42P13", "42P16", "42809"})
"""SQLSTATEs of a CREATE OR REPLACE that changes the result, names of parameters, columns, or the kind of object."""

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

# Yields an object's name and, after it, the functions and views of ours that would have to be dropped with it.
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

OF_APPLICATIONS: Final = "functions_of_applications"
"""The key in darkroom.settings of the labels of functions that hold fragments of operators' files."""

# Workers that began before the applications changed call the functions of what was recorded then
_WORKERS_OF_BEFORE: Final = text("""
    SELECT EXISTS (SELECT FROM darkroom.workers w JOIN darkroom.settings s ON s.key = 'applications'
                   WHERE w.lease_expires_at > now() AND w.started_at <= s.updated_at)
""")

_OLD_WORKERS: Final = text("""
    SELECT EXISTS (SELECT FROM darkroom.workers w WHERE w.lease_expires_at > now() AND w.revision IS NULL)
""")


def wanted(cost_column: str) -> tuple[Definition, ...]:
    """Return every function and view of this release, in the order of creation."""
    return _wanted(cost_column, registry.applications())


@lru_cache(maxsize=64)
def _wanted(cost_column: str, applications: Sequence[Application]) -> tuple[Definition, ...]:
    own = [own_sql(one) for one in applications]  # before the views, whose fragments call these functions
    return tuple(definitions("\n".join((*own, *(sql_of(name, cost_column=cost_column) for name in files())))))


def own_sql(application: Application) -> str:
    """Return the functions of ours that only one application needs; an operator's own text is no template."""
    return application.sql if application.source else render(application.sql, application.tables, TERMS)


def files() -> tuple[str, ...]:
    """Return our SQL files that are needed for the applications in use, in the order of creation."""
    return tuple(name for name in FILES if registry.has_pictures() or name not in FOR_PICTURES)


def apply(connection: Connection, cost_column: str) -> list[str]:
    """Create or replace functions and views as this release defines them, in the caller's transaction.

    Args:
        connection: in the migration's transaction, with the tables at their newest revision.
        cost_column: the name of the cost's column in both job tables.

    Returns:
        The labels of what was made.

    Raises:
        DependentObjectError: an object that has to be dropped is used by one that isn't ours.
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
        there = catalog(connection)  # an object that was dropped with another is missing now: the next round makes it
        record |= {one.label: [one.digest, *there.get(one.label, {}).values()] for one in due}
    installation.record(connection, RECORD, record)
    described = [one.sql for one in registry.applications() if one.source and one.sql]
    ours = {one.label for sql in described for one in definitions(sql)}
    ours |= {label for label in installation.value_of(connection, OF_APPLICATIONS) or () if label in there}
    if ours:
        installation.record(connection, OF_APPLICATIONS, sorted(ours))
    return list(dict.fromkeys(made))


def drop_obsolete(connection: Connection, cost_column: str) -> list[str]:
    """Drop functions and views that an earlier release made and this one doesn't make, once no trigger calls them."""
    dropped = []
    for label in obsolete(connection, cost_column):
        for oid in catalog(connection).get(label, {}):
            _drop(connection, label, oid)
        dropped.append(label)
    record = installation.value_of(connection, RECORD) or {}
    there = catalog(connection)
    installation.record(connection, RECORD, {label: value for label, value in record.items() if label in there})
    return dropped


def obsolete(connection: Connection, cost_column: str) -> list[str]:
    """Return the labels of objects that only an earlier release or an earlier file makes, and no live worker calls."""
    names = {one.label for one in wanted(cost_column)}
    by_us = {f"function darkroom.{name}" for name in LEFT_BY_EARLIER} | set(
        installation.value_of(connection, RECORD) or {}
    )
    found = [label for label in catalog(connection) if label in by_us - names]
    kept = {f"function darkroom.{name}" for name in KEPT_WHILE_OLD_WORKERS_LIVE}
    if kept.intersection(found) and connection.scalar(_OLD_WORKERS):
        found = [label for label in found if label not in kept]
    of_applications = set(installation.value_of(connection, OF_APPLICATIONS) or ())
    if of_applications.intersection(found) and connection.scalar(_WORKERS_OF_BEFORE):
        found = [label for label in found if label not in of_applications]
    return sorted(found)


def catalog(connection: Connection) -> dict[str, dict[int, str]]:
    """Return the functions and views that exist: label -> oid -> hash of the catalog's entry.

    Several oids mean several signatures.
    """
    found: dict[str, dict[int, str]] = {}
    with names_in_full(connection):
        for label, oid, digest in connection.execute(_CATALOG):
            found.setdefault(label, {})[oid] = digest
    return found


def differences(connection: Connection, cost_column: str) -> tuple[list[str], list[str]]:
    """Return the labels of functions and views that are missing, and of those that differ from this release's."""
    there = catalog(connection)
    record: Mapping[str, Sequence[str]] = installation.value_of(connection, RECORD) or {}
    missing = [one.label for one in wanted(cost_column) if one.label not in there]
    different = [one.label for one in wanted(cost_column) if one.label in there and _differs(one, there, record)]
    return missing, different


def _differs(one: Definition, there: Mapping[str, Mapping[int, str]], record: Mapping[str, Sequence[str]]) -> bool:
    return [one.digest, *there.get(one.label, {}).values()] != list(record.get(one.label, ())) or one.label not in there


def _make(connection: Connection, due: Sequence[Definition], before: Mapping[str, Mapping[int, str]]) -> None:
    """Replace all definitions at once, or one by one if PostgreSQL refuses that.

    Other signatures of the same names are dropped afterwards.
    """
    try:
        with connection.begin_nested():
            execute_script(connection, "\n".join(one.sql for one in due))
    except PostgresError:
        for one in due:
            _make_one(connection, one)
    there = catalog(connection)
    for one in due:
        old, now = set(before.get(one.label, {})), set(there.get(one.label, {}))
        if len(now) > 1:  # with several signatures of a name, it is unknown which one was replaced
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
    """Drop an object of ours, with the objects of ours that name it.

    Those that this release needs are made again later.

    Raises:
        DependentObjectError: an object that isn't ours names it.
    """
    catalog_table = "pg_proc" if label.startswith("function ") else "pg_class"
    for dropped in connection.scalars(_DEPENDENT, {"class": catalog_table, "object": oid}).all():
        try:
            with connection.begin_nested():
                execute_script(connection, f"DROP {dropped}")
        except PostgresError as error:
            if getattr(error, "sqlstate", None) == "2BP01":
                raise DependentObjectError(label, str(error.as_dict().get("detail") or error)) from error
            raise
