"""Which applications `db upgrade` works for: as named, as recorded, or recognised by their tables; and its refusals."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

from config.application_names import Entry, parse_entry
from models.applications import registry
from models.applications.application import Application
from models.applications.files.sql_names import ODD_IN_WORDS, is_odd
from models.applications.pictures.application import PICTURES
from models.applications.recorded import KEY, OF_EARLIER, applications_of
from models.schema.migrations import files, installation
from models.schema.migrations.errors import ApplicationError

_COLUMNS: Final = text("""
    SELECT c.relname::text, a.attname::text FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = to_regnamespace(quote_ident(:schema)) AND c.relkind IN ('r', 'p', 'v', 'f')
""")

# By names in the catalog, because looking up an object in a schema that the role may not use is an error.
_MAY_READ: Final = text("""
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'darkroom' AND c.relname = 'settings'
                     AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
""")

_UNFINISHED: Final = text("SELECT count(*) FROM darkroom.job_queue WHERE job_type = ANY (:types)")


def settle(connection: Connection, named: Sequence[str] | None) -> list[Mapping[str, Any]]:
    """Return what is to be recorded, and let this process work for these applications.

    Args:
        connection: in the migration's transaction.
        named: the entries of DARKROOM_APPLICATION; None if it isn't set.

    Raises:
        ApplicationError: an application is unknown or lacks a table or column, several fit these tables, or one that is
            no longer named has unfinished jobs.
    """
    before = recorded_applications(connection)
    chosen = (
        [described(connection, entry) for entry in map(parse_entry, named)]
        if named
        else [_as_it_is(connection, one) for one in before or _recognised(connection)]
    )
    if len(names := [one["name"] for one in chosen]) > len(set(names)):
        raise ApplicationError(f"DARKROOM_APPLICATION: an application stands twice in {', '.join(names)}")
    found = applications_of(chosen)
    _require_fitting(connection, found)
    if before is not None:
        _require_finished(connection, applications_of(before), found)
    registry.use(found)
    return list(chosen)


def recorded_applications(connection: Connection) -> Sequence[Mapping[str, Any]] | None:
    """Return what is recorded of the applications; None in a database that wasn't upgraded yet."""
    if installation.recorded(connection) is None:
        return None
    return installation.value_of(connection, KEY) or OF_EARLIER


def use_recorded_applications(connection: Connection) -> None:
    """Let this process work for the applications that are recorded, if its role may read that."""
    if connection.scalar(_MAY_READ):
        registry.use(applications_of(recorded_applications(connection)))


def described(connection: Connection, entry: Entry) -> Mapping[str, Any]:
    """Return what is recorded of an application that an entry names.

    Raises:
        ApplicationError: there is no such application, or the file has faults.
    """
    if entry.path:
        return files.described(connection, entry)
    if entry.name not in registry.SHIPPED:
        nearest = difflib.get_close_matches(entry.name, registry.SHIPPED, 1)
        known = f"nearest: {nearest[0]}" if nearest else f"there are {', '.join(registry.SHIPPED)}"
        raise ApplicationError(f"DARKROOM_APPLICATION: there is no application {entry.name}; {known}")
    if entry.name == PICTURES.name and entry.schema != PICTURES.schema:
        raise ApplicationError(f"DARKROOM_APPLICATION: the tables of {PICTURES.name} stand in schema {PICTURES.schema}")
    if is_odd(entry.schema):
        raise ApplicationError(f"DARKROOM_APPLICATION: {entry.text}: the schema's name {ODD_IN_WORDS}")
    return {"entry": entry.text, "name": entry.name, "schema": entry.schema}


def faults(connection: Connection, application: Application) -> Iterator[str]:
    """Yield a sentence for each table and column that an application needs and the database lacks."""
    there = _columns(connection, application.schema)
    for table, names in application.needs.items():
        if table not in there:
            yield f"{application.name}: there is no table {application.schema}.{table}"
        for name in names.split() if table in there else ():
            if name not in there[table]:
                yield f'{application.name}: {application.schema}.{table} has no column "{name}"'


def faults_of_entry(connection: Connection, entry: Entry) -> list[str]:
    """Return a line for each fault of an application that an entry names; none if it is well.

    Raises:
        ApplicationError: there is no such application or file.
    """
    if entry.path:
        return files.faults(connection, files.text_of(entry.path), entry)
    return list(faults(connection, applications_of([described(connection, entry)])[0]))


def faults_of_recorded(connection: Connection) -> dict[str, list[str]]:
    """Return the faults of each recorded application by its name, those of a file by the file's name."""
    found: dict[str, list[str]] = {}
    for one in recorded_applications(connection) or ():
        entry = parse_entry(one["entry"])
        if "source" in one:
            found[one["file"]] = files.faults(connection, one["source"], entry)
        else:
            found[one["name"]] = list(faults(connection, applications_of([one])[0]))
    return found


def _require_fitting(connection: Connection, applications: Sequence[Application]) -> None:
    if found := [fault for one in applications for fault in faults(connection, one)]:
        raise ApplicationError("; ".join(found))


def _require_finished(connection: Connection, before: Sequence[Application], after: Sequence[Application]) -> None:
    kept = {table.name for one in after for table in one.tables}
    for one in before:
        types = [job_type for table in one.tables if table.name not in kept for job_type in table.job_types]
        if types and (unfinished := connection.scalar(_UNFINISHED, {"types": types})):
            raise ApplicationError(
                f"{one.name} has {unfinished} unfinished jobs, which nobody would run or refund any more: name it in "
                "DARKROOM_APPLICATION until they are done, or cancel them"
            )


def _as_it_is(connection: Connection, recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    return files.described_again(connection, recorded) if "source" in recorded else recorded


def _recognised(connection: Connection) -> list[Mapping[str, Any]]:
    """Return the shipped application whose job tables stand in `public`; `pictures` where none does."""
    there = _columns(connection, PICTURES.schema)
    fitting = []
    for name, describe in registry.SHIPPED.items():
        one = describe(PICTURES.schema)
        job_tables = [table.relation for table in one.tables]
        needed = {table: names for table, names in one.needs.items() if table in job_tables}
        if needed and all(set(names.split()) <= there.get(table, set()) for table, names in needed.items()):
            fitting.append(name)
    if len(fitting) > 1:
        named = f"{', '.join(fitting[:-1])} and {fitting[-1]}"
        both = "both" if len(fitting) == 2 else "several"  # noqa: PLR2004 - as people say it
        raise ApplicationError(f"these tables fit {named}: set DARKROOM_APPLICATION to one of them, or to {both}")
    return [described(connection, parse_entry(name)) for name in fitting or [PICTURES.name]]


def _columns(connection: Connection, schema: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(_COLUMNS, {"schema": schema}):
        found.setdefault(table, set()).add(column)
    return found
