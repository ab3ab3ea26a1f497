"""What the database says about the tables that a file names. What is recorded of it describes the application later."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from models.connections import Connection
from models.job_tables.table import BIGINT, INTEGER, TEXT, UUID, IdType

TIME: Final = "timestamp with time zone"
LOCAL_TIME: Final = "timestamp without time zone"
TEXTS: Final = frozenset({"text", "character varying", "bpchar", "character", "name"})
INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
OF_KEYS: Final = TEXTS | {"text[]", "character varying[]", "jsonb"}
"""The types of columns that can hold an object's key or URL."""

ID_TYPES: Final[Mapping[str, IdType]] = {
    "text": TEXT,
    "character varying": TEXT,
    "bigint": BIGINT,
    "integer": INTEGER,
    "uuid": UUID,
}
"""The types of ids, by the types of columns that hold them."""

UNCOMPARED: Final = frozenset({"json", "json[]", "xml", "xml[]", "point", "point[]"})
"""Types without an equality: their values are compared as text."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type as SQL writes it, without a length; and the type below its domains, if it has such."""

    type: str
    base: str
    is_enum: bool = False
    is_unique: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns by name, and the stages that a column can show, for columns of which this was asked."""

    columns: Mapping[str, Column]
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tables that a file names, as far as they are there, by name."""

    tables: Mapping[str, Table]

    def column(self, table: str, name: str) -> Column:
        """Return a column.

        Raises:
            KeyError: the table has no such column.
        """
        return self.tables[table].columns[name]

    def to_json(self) -> dict[str, Any]:
        """Return what has to be recorded beside a file's text."""
        return {
            name: {
                "columns": {
                    column: [of.type, of.base, of.is_enum, of.is_unique] for column, of in table.columns.items()
                },
                "stages": {column: list(stages) for column, stages in table.stages.items()},
            }
            for name, table in self.tables.items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            {
                name: Table(
                    {column: Column(*of) for column, of in table["columns"].items()},
                    {column: tuple(stages) for column, stages in table["stages"].items()},
                )
                for name, table in value.items()
            }
        )


# Names of types outside of pg_catalog come with their schema, because the transaction's search_path is pg_catalog alone
_COLUMNS: Final = """
SELECT c.relname AS table_name, a.attname AS name, format_type(a.atttypid, -1) AS type,
       format_type(b.oid, -1) AS base, b.typtype = 'e' AS is_enum,
       EXISTS (SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                 AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS is_unique
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    WITH RECURSIVE below AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM below JOIN pg_type t ON t.oid = below.typbasetype
        WHERE below.typtype = 'd')
    SELECT below.oid, below.typtype FROM below WHERE below.typtype <> 'd') b
WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum
"""


async def read_catalogue(connection: Connection, schema: str, tables: Iterable[str]) -> Catalogue:
    """Return what the database says about some tables of a schema. The caller has set the search path to pg_catalog."""
    found: dict[str, dict[str, Column]] = {}
    for row in await connection.fetch(_COLUMNS, schema, sorted(set(tables))):
        columns = found.setdefault(row["table_name"], {})
        columns[row["name"]] = Column(row["type"], row["base"], row["is_enum"], row["is_unique"])
    return Catalogue({name: Table(columns) for name, columns in found.items()})


def tables_of(references: Iterable[tuple[str, str]], *names: str) -> set[str]:
    """Return the names of tables, without the empty ones."""
    return {table for table, _ in references} | {name for name in names if name}
