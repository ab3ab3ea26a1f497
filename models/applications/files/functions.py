"""Functions of ours that hold an operator's fragments, so that these run with the application's search path everywhere.

A function takes the job's row as jsonb, because what names the row's type would keep the application from altering and
dropping its table. Its query names the table by a regclass: its plan is then made anew in every session after the table
was altered. Its parameters have no names, and names are columns first: a fragment finds what it found when it was
tried, and no variable of PL/pgSQL.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from models.applications.files.sql_names import relation
from models.applications.files.trial import path_of, statement_with
from models.job_tables.quoting import quoted_name
from models.job_tables.rendering import listed, quoted
from models.job_tables.sql_tokens import names_columns_of_alias, with_placeholders

ROW: Final = "to_jsonb(r.*)"
"""Fragment: the job's row, as functions take it."""

RESULT_PLACEHOLDERS: Final = {
    "$key": "text",
    "$url": "text",
    "$width": "int4",
    "$height": "int4",
    "$bytes": "int8",
    "$sha256": "text",
    "$model": "text",
}
"""What a fragment of `result` may name beside `r`, with its type."""

RESULT_FACTS: Final = {
    "$key": "key",
    "$url": "url",
    "$width": "width_px",
    "$height": "height_px",
    "$bytes": "size_bytes",
    "$sha256": "sha256",
    "$model": "model",
}
"""The facts of a stored picture that these placeholders stand for."""

BOOK_PLACEHOLDERS: Final = {"$job": "text", "$user": "text", "$cost": "int4"}
LEDGER_PLACEHOLDERS: Final = {"$user": "text", "$amount": "int4", "$kind": "text", "$job": "text", "$balance": "int4"}


@dataclass(frozen=True, slots=True)
class Functions:
    """Writes functions about one table: `base` is its name in names of ours, and `columns` are its columns' names."""

    schema: str
    table: str
    base: str
    columns: Collection[str] = ()

    def name(self, what: str) -> str:
        """Return the name of a function, with its schema."""
        return f"darkroom.{self.base}_{what}"

    def _function(
        self, what: str, parameters: str, returns: str, volatility: str, body: str, declared: str = ""
    ) -> str:
        tag = "$fragment$"
        number = 0
        while tag in body:
            number += 1
            tag = f"$fragment{number}$"
        return (
            f"CREATE OR REPLACE FUNCTION {self.name(what)}({parameters}) RETURNS {returns}\n"
            f"LANGUAGE plpgsql {volatility} SECURITY INVOKER\nSET search_path = {path_of(self.schema)} AS {tag}\n"
            f"#variable_conflict use_column\n{declared}BEGIN\n{body}\nEND {tag};\n"
        )

    def of_row(self, what: str, returns: str, expression: str, parameters: str = "jsonb") -> str:
        """Return a function of a row that yields an expression over `r`.

        Where the expression names columns of `r` alone, `r` is a variable, which takes a quarter of the time that a
        query takes.
        """
        table = relation(self.schema, self.table)
        is_there = f"{quoted(table)}::regclass IS NOT NULL"
        if names_columns_of_alias(expression, "r", self.columns):
            # a record takes the type of each value; a variable of the row's type would keep that of a dropped table
            body = (
                f"    r := CASE WHEN {is_there} THEN jsonb_populate_record(NULL::{table}, $1) END;\n"
                f"    RETURN CASE WHEN {is_there} THEN {expression} END;"
            )
            return self._function(what, parameters, returns, "STABLE", body, "DECLARE\n    r record;\n")
        body = (
            f"    RETURN (SELECT {expression}\n    FROM jsonb_populate_record(NULL::{table}, $1) r\n"
            f"    WHERE {is_there});"
        )
        return self._function(what, parameters, returns, "STABLE", body)

    def inputs(self, fragments: Mapping[str, str]) -> str:
        """Return the function that yields an object of a job's inputs, from the fragments for them."""
        types = {"pictures": "text[]", "pipeline": "jsonb"}
        pairs = ",\n        ".join(
            f"{quoted(name)}, ({sql}\n        )::{types.get(name, 'text')}" for name, sql in fragments.items()
        )
        return self.of_row("inputs", "jsonb", f"jsonb_build_object(\n        {pairs})")

    def result(self, columns: Mapping[str, tuple[str, str]]) -> str:
        """Return the function that yields an object of a result's columns; each has a fragment and its own type."""
        facts = {name: f"(($2 ->> '{RESULT_FACTS[name]}')::{type_})" for name, type_ in RESULT_PLACEHOLDERS.items()}
        pairs = ",\n        ".join(
            f"{quoted(column)}, ({with_placeholders(sql, facts)}\n        )::{type_}"
            for column, (sql, type_) in columns.items()
        )
        return self.of_row("result", "jsonb", f"jsonb_build_object(\n        {pairs})", "jsonb, jsonb")

    def book(self, number: int, statement: str) -> str:
        """Return the function that runs a book's statement for a row, and the job's id, user and cost."""
        table = relation(self.schema, self.table)
        sql = statement_with(statement, [*BOOK_PLACEHOLDERS], has_row=True)
        body = (
            f"    EXECUTE {quoted(sql)}\n    USING CASE WHEN {quoted(table)}::regclass IS NOT NULL\n"
            f"               THEN jsonb_populate_record(NULL::{table}, $1) END, $2, $3, $4;"
        )
        return self._function(f"book_{number}", "jsonb, text, text, integer", "void", "VOLATILE", body)

    def refuse(self, job_types: tuple[str, ...], tiers: tuple[str, ...]) -> str:
        """Return the function that raises an error for the values of a row that no job can have."""
        body = f"""    RAISE EXCEPTION '%', CASE
        WHEN $1 IS NULL THEN 'user: NULL is no user'
        WHEN substr($2, position('.' in $2) + 1) NOT IN ({listed(job_types)})
            THEN format('job_type: "%s" is none of {", ".join(job_types)}', substr($2, position('.' in $2) + 1))
        WHEN $3 NOT IN ({listed(tiers)}) THEN format('tier: "%s" is none of FREE, 1K, 2K, 4K', $3)
        ELSE format('cost: %s is no number of tokens from 0', coalesce($4::text, 'NULL')) END
        USING ERRCODE = '22023';"""
        return self._function("refuse", "text, text, text, bigint", "void", "STABLE", body)


def column_of(name: str) -> str:
    """Return the fragment of a column of the job's row."""
    return f"r.{quoted_name(name)}"
