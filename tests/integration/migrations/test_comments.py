"""Every object of schema darkroom has a comment, which psql and other tools show."""

import asyncpg
import pytest

from models.schema import migrate
from models.schema.migrations import comments
from models.schema.migrations.session import OUR_COST_COLUMN

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

# Apart from ours: asked of the catalog itself, of every kind of object that can have a comment and columns.
WITHOUT = """
    SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = 'darkroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition
      AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
    UNION ALL
    SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'darkroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
      AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(c.oid, a.attnum), '') = ''
    UNION ALL
    SELECT p.proname || '()' FROM pg_proc p
    WHERE p.pronamespace = 'darkroom'::regnamespace AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''
    UNION ALL
    SELECT t.typname::text FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
    WHERE t.typnamespace = 'darkroom'::regnamespace AND coalesce(obj_description(t.oid, 'pg_type'), '') = ''
    ORDER BY 1
"""


async def test_every_object_and_column_of_ours_has_a_comment(database):
    assert [row[0] for row in await database.fetch(WITHOUT)] == []


async def test_every_comment_is_about_something_that_is_there(database):
    there = {
        row[0]
        for row in await database.fetch(
            """SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'darkroom'::regnamespace
               UNION ALL
               SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
               WHERE c.relnamespace = 'darkroom'::regnamespace AND NOT a.attisdropped
               UNION ALL
               SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'darkroom'::regnamespace"""
        )
    }

    assert {name for _, name in comments.wanted(OUR_COST_COLUMN)} - there == set()


@pytest.mark.parametrize(
    ("label", "lost"),
    [
        ("TABLE darkroom.job_queue", "NULL"),
        ("COLUMN darkroom.job_queue.position", "'something else'"),
        ("FUNCTION darkroom.cancel_job", "NULL"),
        ("VIEW darkroom.jobs", "'it''s another'"),
        ('COLUMN darkroom.jobs."userId"', "NULL"),
        ("TYPE darkroom.change", "NULL"),
    ],
)
async def test_upgrade_writes_again_a_comment_that_is_lost_or_differs(database, database_url, label, lost):
    asked = "SELECT array_agg(description ORDER BY objoid, objsubid) FROM pg_description WHERE objoid >= 16384"
    before = await database.fetchval(asked)
    await database.fetch(f"COMMENT ON {label} IS {lost}")
    assert await database.fetchval(asked) != before

    await migrate.upgrade(database_url, prices=PRICES)

    assert await database.fetchval(asked) == before


async def test_what_an_operator_made_in_our_schema_keeps_its_comment(url: str, db: asyncpg.Connection):
    await migrate.upgrade(url, prices=PRICES)
    await db.execute("CREATE TABLE darkroom.mine (x int); COMMENT ON TABLE darkroom.mine IS 'mine'")

    await migrate.upgrade(url, prices=PRICES)

    assert await db.fetchval("SELECT obj_description('darkroom.mine'::regclass)") == "mine"
    assert await migrate.check(url) == []
