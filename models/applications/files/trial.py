"""Trying the SQL of a file against a database: PostgreSQL parses and analyses it, and neither plans nor runs it.

A planner evaluates immutable functions, so EXPLAIN would run some of it. Each text of SQL is parsed within two frames
that only one expression (or one list of assignments) fits: what ends a frame early and goes on behind it doesn't fit
the other. A text goes to PostgreSQL only in the extended protocol, which takes one statement at a time.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from asyncpg import PostgresError, PostgresSyntaxError, QueryCanceledError

from models.applications.files.sql_names import relation
from models.connections import CONNECTION_LOSS, CONTENTION, Connection
from models.job_tables.quoting import quoted_name
from models.job_tables.sql_tokens import (
    first_parameter,
    goes_beyond,
    outer_names,
    tokens,
    with_alias,
    with_placeholders,
)

_VERBS: Final = frozenset({"insert", "update", "delete", "merge", "select", "values", "table"})
_STATEMENTS: Final = "INSERT, UPDATE, DELETE, MERGE or SELECT"
_ONE_EXPRESSION: Final = "must be one expression"
_SYNTAX: Final = PostgresSyntaxError.sqlstate
_NAME: Final = "darkroom_trial"

NOT_ABOUT_SQL: Final = (*CONTENTION, *CONNECTION_LOSS, QueryCanceledError)
"""Errors that say nothing about the SQL that is tried: another try may find it well."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of parsing a statement: PostgreSQL's complaint and its SQLSTATE, or the oids of its columns' types."""

    words: str = ""
    sqlstate: str = ""
    types: tuple[int, ...] = ()


@asynccontextmanager
async def rolled_back(connection: Connection) -> AsyncIterator[None]:
    """Run statements in a transaction, or in a part of one, that is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


@asynccontextmanager
async def nothing_stays(connection: Connection, search_path: str) -> AsyncIterator[None]:
    """Run statements with a search path in a transaction, or a part of one, that writes nothing and is rolled back."""
    async with rolled_back(connection):
        # what is read only within a part of a transaction is so until this part is rolled back
        await connection.execute(f"SET LOCAL transaction_read_only = on; SET LOCAL search_path = {search_path}")
        yield


def path_of(schema: str) -> str:
    """Return the search path with which SQL of an application's file runs."""
    return f"pg_catalog, {quoted_name(schema)}, pg_temp"


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries SQL of a file whose tables stand in a schema. Each method returns why the SQL is refused, or None.

    Its methods are called within `nothing_stays` with the schema's `path_of`. They raise the errors of `NOT_ABOUT_SQL`,
    as when another program keeps a table locked.
    """

    connection: Connection
    schema: str

    async def _parsed(self, sql: str) -> Parsed:
        try:
            async with rolled_back(self.connection):
                statement = await self.connection.prepare(sql)
                return Parsed(types=tuple(one.type.oid for one in statement.get_attributes()))
        except NOT_ABOUT_SQL:
            raise
        except PostgresError as error:
            return Parsed(_words(error), error.sqlstate)

    async def _prepared(self, types: str, sql: str) -> Parsed:
        """Try a statement as PREPARE does, which takes only the kinds of `_STATEMENTS`, and doesn't plan it."""
        try:
            async with rolled_back(self.connection):
                prepare = await self.connection.prepare(f"PREPARE {_NAME} {types} AS {sql}")
                await prepare.fetch()
                await self.connection.execute(f"DEALLOCATE {_NAME}")
        except NOT_ABOUT_SQL:
            raise
        except PostgresError as error:
            return Parsed(_words(error), error.sqlstate)
        return Parsed()

    async def expression(
        self, fragment: str, table: str, alias: str, wanted: str | None, values: Mapping[str, str] | None = None
    ) -> str | None:
        """Try a fragment over an alias of a table's rows.

        `wanted` is what it must be, a key of `WANTED`, or None; `values` are the types of its placeholders.
        """
        if (parameter := first_parameter(fragment)) is not None:
            return f"there is no parameter {parameter}"
        casts = {name: f"(NULL::pg_catalog.{of_type})" for name, of_type in (values or {}).items()}
        sql = with_placeholders(fragment, casts)
        # as in the function that it becomes part of: a job's row has no system columns there
        row = f"pg_catalog.jsonb_populate_record(NULL::{relation(self.schema, table)}, NULL)"
        rows = f"FROM {row if alias == 'r' else relation(self.schema, table)} {alias}"
        inside, bare = await self._parsed(f"SELECT ({sql}\n) {rows}"), await self._parsed(f"SELECT {sql}\n{rows}")
        if inside.words and bare.words:
            return await self._complaint(sql, inside)
        if inside.words or bare.words or len(inside.types) != 1 or inside.types != bare.types:
            return _ONE_EXPRESSION
        condition = await self._parsed(f"SELECT 1 {rows} WHERE (({sql}\n) IS NULL)")
        if condition.words or wanted is None:
            return condition.words or None
        return await self._type_fault(sql, inside.types[0], wanted)

    async def _complaint(self, sql: str, inside: Parsed) -> str:
        """Return why a fragment that fits neither frame is refused, in words that don't quote a frame."""
        if goes_beyond(sql):
            return _ONE_EXPRESSION
        if inside.sqlstate == _SYNTAX:
            alone = await self._parsed(f"SELECT {sql}")
            return alone.words if alone.sqlstate == _SYNTAX else _ONE_EXPRESSION
        return inside.words

    async def _type_fault(self, sql: str, type_oid: int, wanted: str) -> str | None:
        meant = [one.text.lower() for one in tokens(sql) if one.kind != "space"]
        row = await self.connection.fetchrow(_BASE, type_oid)
        if row is None or row["base"] in WANTED[wanted] or meant == ["null"]:
            return None
        if wanted == "text" and row["is_enum"]:
            return None
        return f"must be {wanted}, is {row['type']}"

    async def assigned(
        self, fragment: str, table: str, column: str, values: Mapping[str, str], alias: str = "r"
    ) -> str | None:
        """Try whether a fragment over `r`, which is an expression, can be assigned to a column of the same table."""
        casts = {name: f"(NULL::pg_catalog.{of_type})" for name, of_type in values.items()}
        sql = with_placeholders(fragment, casts)
        update = f"UPDATE {relation(self.schema, table)} {alias} SET {quoted_name(column)} = ({sql}\n)"
        return (await self._prepared("", update)).words or None

    async def change(self, fragment: str, table: str, column: str) -> str | None:
        """Try assignments to a balance over `b` and `$amount`. `column` is any column of the table."""
        if (parameter := first_parameter(fragment)) is not None:
            return f"there is no parameter {parameter}"
        sql = with_placeholders(fragment, {"$amount": "($1::pg_catalog.int4)"})
        update = f"UPDATE {relation(self.schema, table)} b SET {sql}\n"
        # The statement after AS is only read here, not analysed, so a column that is assigned twice is no fault
        ended = await self._parsed(f"PREPARE {_NAME} AS {update} WHERE false")
        followed = await self._parsed(f"PREPARE {_NAME} AS {update}, {quoted_name(column)} = NULL")
        if ended.words or followed.words:
            alone = await self._parsed(f"PREPARE {_NAME} AS {update}")
            return alone.words if alone.words and not goes_beyond(sql) else "must be assignments, as after SET"
        return (await self._prepared("(pg_catalog.int4)", f"{update} WHERE false")).words or None

    async def statement(self, sql: str, values: Mapping[str, str], row_of: str = "") -> str | None:
        """Try one statement over placeholders of given types and `r`, a row of the table `row_of` if there is one."""
        if (parameter := first_parameter(sql)) is not None:
            return f"there is no parameter {parameter}"
        rewritten = statement_with(sql, [*values], has_row=bool(row_of))
        row_type = [relation(self.schema, row_of)] if row_of else []
        types = ", ".join([*row_type, *(f"pg_catalog.{of_type}" for of_type in values.values())])
        found = await self._prepared(f"({types})", rewritten)
        if not found.words and _makes_a_table(sql):
            return f"must be one {_STATEMENTS}"
        if "multiple commands" in found.words:
            return "must be one statement"
        return found.words or None


def statement_with(sql: str, placeholders: list[str], *, has_row: bool) -> str:
    """Return a statement with $1, $2 ... for `r`, if it has a row, and for its placeholders, in their order."""
    first = 2 if has_row else 1
    rewritten = with_alias(sql, "r", "($1)") if has_row else sql
    return with_placeholders(rewritten, {name: f"${number}" for number, name in enumerate(placeholders, first)})


def _makes_a_table(sql: str) -> bool:
    """Return whether a statement that PREPARE takes is SELECT ... INTO, which makes a table."""
    return verb_of(sql) == "select" and "into" in outer_names(sql)


def verb_of(sql: str) -> str | None:
    """Return what a statement does, as by `insert`; the statements of its WITH don't count."""
    return next((one for one in outer_names(sql) if one in _VERBS), None)


def _words(error: PostgresError) -> str:
    """Return PostgreSQL's message. Of a text that doesn't end it quotes the rest, which would be a frame of ours."""
    words = str(error.args[0])
    return words.partition(" at or near ")[0] if words.startswith("unterminated") else words


WANTED: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"text", "character varying", "bpchar", "character", "name"}),
    "an integer": frozenset({"smallint", "integer", "bigint"}),
    "a timestamp with time zone": frozenset({"timestamp with time zone"}),
    "boolean": frozenset({"boolean"}),
    "text[]": frozenset({"text[]", "character varying[]", "name[]"}),
    "jsonb": frozenset({"jsonb"}),
}
"""The types that fit what a fragment must be, by the words for it. An enum is text, too."""

_BASE: Final = """
WITH RECURSIVE below AS (
    SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = $1
    UNION ALL
    SELECT t.oid, t.typtype, t.typbasetype FROM below JOIN pg_catalog.pg_type t ON t.oid = below.typbasetype
    WHERE below.typtype = 'd')
SELECT format_type(below.oid, -1) AS base, format_type($1, -1) AS type, below.typtype = 'e' AS is_enum
FROM below WHERE below.typtype <> 'd'
"""
