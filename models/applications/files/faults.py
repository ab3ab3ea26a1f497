"""Everything that is wrong with an operator's file: its keys, and what it says about a database."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from config.job_terms import STAGES
from models.applications.files.catalogue import (
    ID_TYPES,
    INTEGERS,
    LOCAL_TIME,
    OF_KEYS,
    TEXTS,
    TIME,
    Catalogue,
    Column,
    Table,
    read_catalogue,
    tables_of,
)
from models.applications.files.file import STATES, ApplicationFile, MoneyFile, TableFile, read
from models.applications.files.file_keys import Fault
from models.applications.files.frozen import columns_that_stay, written_columns
from models.applications.files.functions import BOOK_PLACEHOLDERS, LEDGER_PLACEHOLDERS, RESULT_PLACEHOLDERS
from models.applications.files.labels import can_hold
from models.applications.files.odd_names import odd_names
from models.applications.files.sql_names import ODD_IN_WORDS, is_odd
from models.applications.files.trial import Trial, nothing_stays, path_of, verb_of
from models.applications.files.types_of_jobs import types_of_jobs
from models.connections import Connection
from models.job_tables.sql_tokens import columns_named

_OF_ROW: Final = {
    "user": "text",
    "job_type": "text",
    "tier": "text",
    "cost": "an integer",
    "max_attempts": "an integer",
    "scheduled_at": "a timestamp with time zone",
}
_OF_INPUTS: Final = {"prompt": "text", "pictures": "text[]", "aspect": "text", "pipeline": "jsonb"}
_FACT_TYPES: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "stage": ("text", TEXTS),
    "error": ("text", TEXTS),
    "attempts": ("an integer", INTEGERS),
    **dict.fromkeys(("started", "completed", "updated"), ("a time", frozenset({TIME, LOCAL_TIME}))),
}


async def faults(connection: Connection, text: str, file_name: str, schema: str) -> list[str]:
    """Return a line `FILE: KEY: REASON` for everything that is wrong with a file; none if the file is well.

    Nothing of the file's SQL is planned or run, and nothing is written. Where that can't be found out, as while another
    program keeps a table locked, the database's error is raised.
    """
    file, found = read(text)
    found += types_of_jobs(file.tables)[1]
    if odd := odd_names(file, schema):
        return list(dict.fromkeys(one.line(file_name) for one in [*found, *odd]))  # they can't even be tried
    names = [table.name for table in file.tables]
    catalogue = await _catalogue(connection, file, schema)
    judge = _Judge(connection, schema, catalogue)
    async with nothing_stays(connection, path_of(schema)):
        found += [one async for one in judge.of_references(file)]
        if file.money:
            found += [one async for one in judge.of_money(file.money)]
        for table in file.tables:
            if table.name in catalogue.tables:
                found += [one async for one in judge.of_table(table)]
    found += [Fault(f"tables.{name}", judge.no_table(name)) for name in names if name not in catalogue.tables]
    return list(dict.fromkeys(one.line(file_name) for one in found))


async def facts_of(connection: Connection, text: str, schema: str) -> dict[str, Any]:
    """Return what has to be recorded of the database beside the text of a file without faults."""
    file, _ = read(text)
    catalogue = await _catalogue(connection, file, schema)
    tables = dict(catalogue.tables)
    async with nothing_stays(connection, "pg_catalog"):
        for table in file.tables:
            if column := table.columns.get("stage"):
                held = tuple([one for one in STAGES if await can_hold(connection, schema, table.name, column, one)])
                tables[table.name] = Table(tables[table.name].columns, {column: held})
    return Catalogue(tables).to_json()


async def _catalogue(connection: Connection, file: ApplicationFile, schema: str) -> Catalogue:
    names = tables_of(file.references, file.money.table if file.money else "", *(table.name for table in file.tables))
    async with nothing_stays(connection, "pg_catalog"):
        return await read_catalogue(connection, schema, names)


class _Judge:
    """Finds faults of a file's parts. A part that can't be tried, because it is missing, isn't."""

    def __init__(self, connection: Connection, schema: str, catalogue: Catalogue) -> None:
        self.connection = connection
        self.schema = schema
        self.catalogue = catalogue
        self.trial = Trial(connection, schema)

    def no_table(self, name: str) -> str:
        """Return the reason of a fault: the schema has no such table."""
        return f'{self.schema} has no table "{name}"'

    def _missing(self, table: str, column: str) -> str | None:
        if table not in self.catalogue.tables:
            return self.no_table(table)
        if column and column not in self.catalogue.tables[table].columns:
            return f'{table} has no column "{column}"'
        return None

    def _column(self, table: str, column: str) -> Column | None:
        of = self.catalogue.tables.get(table)
        return of.columns.get(column) if of else None

    async def of_references(self, file: ApplicationFile) -> AsyncIterator[Fault]:
        """Yield what is wrong with `references`."""
        for table, name in file.references:
            column = self._column(table, name)
            if column is None:
                yield Fault("references", self._missing(table, name) or "")
            elif column.base not in OF_KEYS:
                yield Fault("references", f"{table}.{name} must be text, text[] or jsonb, is {column.type}")

    async def of_money(self, money: MoneyFile) -> AsyncIterator[Fault]:
        """Yield what is wrong with `money`."""
        if money.table and money.table not in self.catalogue.tables:
            yield Fault("money.table", self.no_table(money.table))
        for fault in self._of_id("money.user", money.table, money.user):
            yield fault
        if money.table in self.catalogue.tables:
            reasons = {
                "balance": money.balance and await self.trial.expression(money.balance, money.table, "b", "an integer"),
                "change": money.change
                and await self.trial.change(money.change, money.table, next(iter(self._columns(money.table)))),
            }
            for key, reason in reasons.items():
                if reason:
                    yield Fault(f"money.{key}", reason)
        if money.ledger:
            reason = await self.trial.statement(money.ledger, LEDGER_PLACEHOLDERS)
            if reason or verb_of(money.ledger) != "insert":
                yield Fault("money.ledger", reason or "must be one INSERT")

    def _columns(self, table: str) -> Mapping[str, Column]:
        return self.catalogue.tables[table].columns

    def _of_id(self, key: str, table: str, name: str) -> list[Fault]:
        """Return what is wrong with a column of ids."""
        if table not in self.catalogue.tables or not name:
            return []
        column = self._column(table, name)
        if column is None:
            return [Fault(key, self._missing(table, name) or "")]
        if column.type not in ID_TYPES:
            return [Fault(key, f"must be text, varchar, bigint, integer or uuid, is {column.type}")]
        if not column.is_unique:
            return [Fault(key, f"{table}.{name} must have a primary key or a unique index of its own")]
        return []

    async def of_table(self, table: TableFile) -> AsyncIterator[Fault]:
        """Yield what is wrong with a job table that is there."""
        for fault in [*self._of_id(f"{table.path}.id", table.name, table.id), *self._of_columns(table)]:
            yield fault
        async for fault in self._of_labels(table):
            yield fault
        async for fault in self._of_fragments(table):
            yield fault
        async for fault in self._of_result(table):
            yield fault
        for number, check in enumerate(table.checks):
            if check.must and (reason := await self.trial.expression(check.must, table.name, "r", "boolean")):
                yield Fault(f"{table.path}.checks[{number}].must", reason)
        for number, book in enumerate(table.books):
            if book.sql and (reason := await self.trial.statement(book.sql, BOOK_PLACEHOLDERS, table.name)):
                yield Fault(f"{table.path}.books[{number}].sql", reason)

    async def _of_labels(self, table: TableFile) -> AsyncIterator[Fault]:
        if not table.status:
            return
        if missing := self._missing(table.name, table.status):
            yield Fault(f"{table.path}.status", missing)
            return
        for state in STATES:
            for label in table.statuses.get(state, ()):
                if not await can_hold(self.connection, self.schema, table.name, table.status, label):
                    where = f"{table.name}.{table.status}"
                    yield Fault(f"{table.path}.statuses.{state}", f'"{label}" can\'t be a value of {where}')

    def _of_columns(self, table: TableFile) -> list[Fault]:
        """Return what is wrong with `columns` and `frozen`."""
        found = []
        times: dict[str, str] = {}
        taken = {table.status: "status", table.id: "id"}
        for fact, name in table.columns.items():
            key = f"{table.path}.columns.{fact}"
            wanted, types = _FACT_TYPES[fact]
            column = self._column(table.name, name)
            if column is None:
                found.append(Fault(key, self._missing(table.name, name) or ""))
            elif column.base not in types and not (column.is_enum and fact == "stage"):
                found.append(Fault(key, f"must be {wanted}, is {column.type}"))
            elif wanted == "a time":
                times[fact] = column.base
            if column is not None and taken.setdefault(name, fact) != fact:
                found.append(Fault(key, f"{name} is the column of {taken[name]}"))
        first = next(iter(times.values()), "")
        found += [
            Fault(f"{table.path}.columns.{fact}", f"must be {first}, as {next(iter(times))} is, is {other}")
            for fact, other in times.items()
            if other != first
        ]
        written = written_columns(table)
        for name in table.frozen:
            reason = self._missing(table.name, name)
            if reason or name in written:
                found.append(
                    Fault(f"{table.path}.frozen", reason or f"{name} is written by Darkroom, as {written[name]} says")
                )
        return found

    async def _of_fragments(self, table: TableFile) -> AsyncIterator[Fault]:
        fragments = [(f"{table.path}.{key}", getattr(table, key), wanted) for key, wanted in _OF_ROW.items()]
        fragments += [
            (f"{table.path}.inputs.{key}", table.inputs.get(key, ""), wanted) for key, wanted in _OF_INPUTS.items()
        ]
        columns, written = self._columns(table.name), written_columns(table)
        stay = {f"{table.path}.{one}" for one in ("user", "job_type", "tier", "cost")}
        for key, sql, wanted in fragments:
            if sql and (reason := await self.trial.expression(sql, table.name, "r", wanted)):
                yield Fault(key, reason)
            elif key in stay or key.startswith(f"{table.path}.inputs."):
                # what changes while a job runs can't say whose it is, or whether it is a job of ours
                for name in columns_named(sql, "r", columns):
                    if is_odd(name):
                        yield Fault(key, f"{name} {ODD_IN_WORDS}")
                    elif name in written:
                        yield Fault(key, f"{name} is written by Darkroom, as {written[name]} says")

    async def _of_result(self, table: TableFile) -> AsyncIterator[Fault]:
        stay = columns_that_stay(table, self.catalogue)
        taken = {column: fact for fact, column in table.columns.items()} | {table.status: "status", table.id: "id"}
        for name, sql in table.result.items():
            key = f"{table.path}.result.{name}"
            if missing := self._missing(table.name, name):
                yield Fault(key, missing)
            elif name in taken:
                yield Fault(key, f"{name} is the column of {taken[name]}")
            elif name in stay:
                yield Fault(key, f"{name} may not change while a job is unfinished")
            elif sql:
                reason = await self.trial.expression(sql, table.name, "r", None, RESULT_PLACEHOLDERS)
                reason = reason or await self.trial.assigned(sql, table.name, name, RESULT_PLACEHOLDERS)
                if reason:
                    yield Fault(key, reason)
