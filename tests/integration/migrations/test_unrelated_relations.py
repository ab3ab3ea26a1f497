"""Databases with another program's relations: no table is made beside them unless an option asks for it."""

import asyncpg
import pytest

from models.schema import migrate
from models.schema.migrations.errors import UnrelatedRelationsError

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

MADE = """
SELECT count(*) FROM pg_class WHERE relname = 'image_enhancement_jobs'
UNION ALL SELECT count(*) FROM pg_namespace WHERE nspname = 'darkroom'
"""


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE orders (id integer)",
        "CREATE TABLE orders (id integer) PARTITION BY RANGE (id)",
        "CREATE VIEW orders AS SELECT 1 AS id",
        "CREATE MATERIALIZED VIEW orders AS SELECT 1 AS id",
        "CREATE SEQUENCE orders",
    ],
)
async def test_upgrade_beside_a_relation_of_somebody_else_is_refused_until_asked_for(
    url: str, db: asyncpg.Connection, statement: str
) -> None:
    await db.execute(statement)

    with pytest.raises(UnrelatedRelationsError, match=r"holds orders, .* image_enhancement_jobs.*--with-application"):
        await migrate.upgrade(url, prices=PRICES)
    assert [row["count"] for row in await db.fetch(MADE)] == [0, 0]

    result = await migrate.upgrade(url, prices=PRICES, with_application=True)
    assert not result.is_adopted
    assert await migrate.check(url) == []
    assert (await migrate.upgrade(url, prices=PRICES)).applied == ()  # asked for once


async def test_relations_of_an_extension_and_of_other_schemas_do_not_count(url: str, db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE spatial_ref_sys (id integer); ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys;
        CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.orders (id integer);
    """)

    await migrate.upgrade(url, prices=PRICES)

    assert await migrate.check(url) == []


@pytest.fixture
async def url_of_darkroom(url: str, db: asyncpg.Connection) -> str:
    """The same database for a role that has our schema's name."""
    await db.execute(
        "DO $$ BEGIN CREATE ROLE darkroom SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    return url.replace("postgres@", "darkroom@")


@pytest.mark.parametrize(
    ("path", "expected"), [(None, "public"), ('"$user", public, elsewhere', "public, elsewhere"), ("public", "public")]
)
async def test_unqualified_table_of_a_role_called_darkroom_lands_in_public(
    url_of_darkroom: str, db: asyncpg.Connection, path: str | None, expected: str
) -> None:
    if path is not None:
        name = await db.fetchval("SELECT current_database()")
        await db.execute(f"ALTER DATABASE {name} SET search_path = {path}")

    for _ in range(2):
        await migrate.upgrade(url_of_darkroom, prices=PRICES)

    connection = await asyncpg.connect(url_of_darkroom.replace("+asyncpg", ""))
    try:
        assert await connection.fetchval("SHOW search_path") == expected
        await connection.execute("CREATE TABLE notes (id integer)")
        assert await connection.fetchval("SELECT to_regclass('public.notes')") == "notes"
        assert await connection.fetchval("SELECT to_regclass('darkroom.notes')") is None
    finally:
        await connection.close()
    assert await migrate.check(url_of_darkroom) == []
