"""The application's tables in PostgreSQL, compared with the documented schema fact by fact."""

import asyncio
from argparse import Namespace
from collections import defaultdict
from io import StringIO

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from models.applications.pictures.tables import TABLES, metadata
from models.schema.migrations import revisions
from tests.support.foreign_tables import SCHEMA

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
"""What a client of another stack was written against: never derived from our own metadata."""

ACTIONS = {"c": "CASCADE", "n": "SET NULL", "a": "NO ACTION", "r": "RESTRICT", "d": "SET DEFAULT"}

COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    ORDER BY c.relname, a.attnum
"""
INDEXES = """
    SELECT t.relname AS table, i.relname AS name, x.indisunique AS unique, x.indisprimary AS primary,
        x.indpred IS NULL AND x.indisvalid AND m.amname = 'btree' AS plain,
        ARRAY(SELECT pg_get_indexdef(i.oid, n, true) FROM generate_series(1, x.indnkeyatts) AS n ORDER BY n) AS columns
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_am m ON m.oid = i.relam
    WHERE t.relnamespace = 'public'::regnamespace
"""
CONSTRAINTS = """
    SELECT t.relname AS table, c.conname AS name, c.contype::text AS kind, c.confupdtype::text AS on_update,
        c.confdeltype::text AS on_delete, c.convalidated AND NOT c.condeferrable AS plain, f.relname AS target,
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)) AS columns,
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = confrelid AND attnum = ANY (confkey)) AS keys
    FROM pg_constraint c
    JOIN pg_class t ON t.oid = c.conrelid
    LEFT JOIN pg_class f ON f.oid = c.confrelid
    WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('f', 'u', 'c', 'x')
"""


@pytest.fixture
def installed(migrated: None, db: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with both branches."""
    return db


async def test_expectation_holds_all_twenty_tables_and_fourteen_types() -> None:
    assert (len(SCHEMA["tables"]), len(SCHEMA["enums"])) == (20, 14)
    assert sum(len(table["columns"]) for table in SCHEMA["tables"].values()) == 220


async def test_enum_types_have_the_labels_in_order(installed: asyncpg.Connection) -> None:
    rows = await installed.fetch(
        "SELECT typname, array_agg(enumlabel::text ORDER BY enumsortorder) AS labels "
        "FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid "
        "WHERE typnamespace = 'public'::regnamespace GROUP BY 1"
    )
    assert {row["typname"]: row["labels"] for row in rows} == SCHEMA["enums"]


async def test_columns_have_type_nullability_and_default(installed: asyncpg.Connection) -> None:
    found = defaultdict(list)
    for table, *facts in await installed.fetch(COLUMNS):
        found[table].append(facts)
    assert found == {name: table["columns"] for name, table in SCHEMA["tables"].items()}


async def test_indexes_have_the_names_columns_and_uniqueness(installed: asyncpg.Connection) -> None:
    found = {name: {} for name in SCHEMA["tables"]}
    primary = dict.fromkeys(SCHEMA["tables"])
    for row in await installed.fetch(INDEXES):
        columns = [name.strip('"') for name in row["columns"]]
        assert row["plain"], row["name"]
        if row["primary"]:
            primary[row["table"]] = [row["name"], columns]
        else:
            found[row["table"]][row["name"]] = {"unique": row["unique"], "columns": columns}
    assert primary == {name: table["primary_key"] for name, table in SCHEMA["tables"].items()}
    assert found == {name: table["indexes"] for name, table in SCHEMA["tables"].items()}


async def test_foreign_keys_have_both_actions_and_nothing_else_constrains(installed: asyncpg.Connection) -> None:
    found = {name: {} for name in SCHEMA["tables"]}
    for row in await installed.fetch(CONSTRAINTS):
        assert (row["kind"], row["plain"]) == ("f", True), row["name"]
        found[row["table"]][row["name"]] = {
            "column": ",".join(row["columns"]),
            "references": f"{row['target']}.{','.join(row['keys'])}",
            "on_delete": ACTIONS[row["on_delete"]],
            "on_update": ACTIONS[row["on_update"]],
        }
    assert found == {name: table["foreign_keys"] for name, table in SCHEMA["tables"].items()}


async def test_defaults_are_utc_in_any_session(installed: asyncpg.Connection) -> None:
    await installed.execute("SET timezone TO 'Asia/Tokyo'")
    await installed.execute("""INSERT INTO users (id, "updatedAt") VALUES ('u', now() AT TIME ZONE 'utc')""")
    age_s = await installed.fetchval(
        """SELECT extract(epoch FROM now() AT TIME ZONE 'utc' - "createdAt")::float FROM users"""
    )
    assert abs(age_s) < 60


async def test_metadata_equals_the_migrations(installed: asyncpg.Connection, url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)

    def differences(connection: sa.Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_metadata_states_the_same_facts() -> None:
    for name, table in TABLES.items():
        expected = SCHEMA["tables"][name]
        assert [(column.name, column.key, _type(column), column.nullable) for column in table.columns] == [
            (column, column, type_name, nullable) for column, type_name, nullable, _ in expected["columns"]
        ]
        assert [column.name for column in table.columns if column.server_default is not None] == [
            column for column, _, _, default in expected["columns"] if default is not None
        ]
        assert {
            str(index.name): {"unique": index.unique, "columns": [column.name for column in index.columns]}
            for index in table.indexes
        } == expected["indexes"]
        assert {
            str(key.name): {
                "column": key.column_keys[0],
                "references": key.elements[0].target_fullname,
                "on_delete": key.ondelete,
                "on_update": key.onupdate,
            }
            for key in table.foreign_key_constraints
        } == expected["foreign_keys"]
    assert set(TABLES) == set(SCHEMA["tables"]) == set(metadata.tables)


def test_no_writer_side_default_hides_what_the_database_lacks() -> None:
    filled_in = [str(column) for table in TABLES.values() for column in table.columns if column.default is not None]
    assert filled_in == []


def _type(column: sa.Column[object]) -> str:
    """The type in the words of format_type."""
    if isinstance(column.type, postgresql.ENUM):
        return f'"{column.type.name}"'
    name = column.type.compile(postgresql.dialect()).lower()
    return name.replace("numeric(10, 2)", "numeric(10,2)")


async def test_a_developers_own_command_runs_on_a_url(url: str, installed: asyncpg.Connection) -> None:
    config = revisions.alembic_config()
    config.stdout = StringIO()
    config.cmd_opts = Namespace(x=[f"url={url}"])
    await asyncio.to_thread(command.check, config)
    assert "No new upgrade operations" in config.stdout.getvalue()
