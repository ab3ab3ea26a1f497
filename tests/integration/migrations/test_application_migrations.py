"""The application migrates its own tables while Darkroom works: no object of ours prevents a migration."""

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.schema import migrate
from models.schema.migrations.adoption import REQUIRED_COLUMNS
from models.schema.migrations.errors import UnusableSchemaError
from tests.support.altered_columns import columns, rebuild_enum, run_jobs
from tests.support.builders import job_row, make_image, make_job, make_user

DEPENDENT = """
WITH theirs AS (
    SELECT 'pg_class'::regclass AS class, c.oid, c.relname::text AS name FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typname::text FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on '
    || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM pg_depend d JOIN theirs t ON t.class = d.refclassid AND t.oid = d.refobjid
LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
LEFT JOIN pg_proc f ON f.oid = coalesce(g.tgfoid, CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid END)
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = coalesce(r.ev_class, CASE d.classid WHEN 'pg_class'::regclass THEN d.objid END)
WHERE (f.pronamespace = 'darkroom'::regnamespace OR v.relnamespace = 'darkroom'::regnamespace)
  -- a trigger goes with its table, and stands on no column of it
  AND NOT (g.oid IS NOT NULL AND d.refobjsubid = 0 AND d.deptype = 'a')
"""


async def test_nothing_of_ours_depends_on_the_applications_columns_or_types(database):
    assert [row[0] for row in await database.fetch(DEPENDENT)] == []


async def test_view_of_jobs_finds_one_by_its_index(database):
    await make_job(database)
    plan = await database.fetch("EXPLAIN SELECT * FROM darkroom.jobs WHERE id = 'x'")
    text = "\n".join(row[0] for row in plan)
    assert text.count("Index Scan") == 2, text


EACH_ALONE = [
    pytest.param(tuple(REQUIRED_COLUMNS), id="all tables"),
    *(pytest.param((table,), id=table, marks=pytest.mark.proof) for table in REQUIRED_COLUMNS),
]
"""All tables in one database, and one by one in `make proof`: a column that can't be borne is found by both."""

ENUMS = tuple(sorted({column.enum for column in columns() if column.enum}))

ENDS = ["CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED", "COMPLETED", "REFUNDED", "REFUNDED", "REFUNDED"]


@pytest.fixture
async def one_session(database_url):
    """The way to the database by a single session, which lives on while the application migrates."""
    database = Database(parse_postgres_url(database_url), most_connections=1)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def migrating(database_url):
    """The application's own connection for its migrations."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "public"})
    yield connection
    await connection.close()


@pytest.mark.parametrize("tables", EACH_ALONE)
async def test_columns_get_other_types_while_jobs_wait_and_sessions_live_on(
    one_session, migrating, database_url, tables
):
    assert await run_jobs(one_session) == ENDS
    waiting = await make_job(one_session)

    for column in columns():
        if column.table in tables and column.wider:
            await migrating.execute(
                f'ALTER TABLE public.{column.table} ALTER COLUMN "{column.name}" TYPE {column.wider}'
            )

    for _ in range(6):  # more than the five after which PostgreSQL keeps a plan
        assert await run_jobs(one_session) == ENDS
    assert (await job_row(one_session, waiting))["status"] in {"COMPLETED", "REFUNDED"}
    assert await migrate.check(database_url) == []


@pytest.mark.parametrize(
    "enums",
    [
        pytest.param(ENUMS, id="all enums"),
        *(pytest.param((enum,), id=enum, marks=pytest.mark.proof) for enum in ENUMS),
    ],
)
async def test_enum_is_rebuilt_while_jobs_wait_and_sessions_live_on(one_session, migrating, database_url, enums):
    for _ in range(6):
        assert await run_jobs(one_session) == ENDS
    waiting = await make_job(one_session)

    for enum in enums:
        await rebuild_enum(migrating, enum, also="ANOTHER")

    for _ in range(6):
        assert await run_jobs(one_session) == ENDS
    assert (await job_row(one_session, waiting))["status"] in {"COMPLETED", "REFUNDED"}
    assert await migrate.check(database_url) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ('ALTER TABLE image_enhancement_jobs RENAME "tokensCost" TO "creditsCost"', "tokensCost"),
        ('ALTER TABLE image_enhancement_jobs DROP COLUMN "pipelineId"', "pipelineId"),
        ("ALTER TABLE user_token_balances RENAME balance TO tokens", "balance"),
        ('ALTER TABLE token_transactions DROP COLUMN "balanceAfter"', "balanceAfter"),
    ],
)
async def test_missing_column_that_entering_needs_is_named_to_the_producer(one_session, migrating, change, named):
    user = await make_user(one_session)
    await make_image(one_session, user)
    statement = """
        INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, {}, status, "updatedAt")
        SELECT 'j', id, "userId", 'TIER_1K', 2, 'PENDING', now() FROM public.enhanced_images"""
    await migrating.execute(change)

    cost = "creditsCost" if "creditsCost" in change else "tokensCost"
    with pytest.raises(asyncpg.UndefinedColumnError, match=named) as refused:
        await one_session.fetch(statement.format(f'"{cost}"'))

    assert refused.value.message.startswith("no job can ")
    assert "db check" in refused.value.hint


@pytest.mark.parametrize("tables", EACH_ALONE)
async def test_columns_renamed_are_named_by_check_and_upgrade_and_jobs_run_once_they_are_back(
    one_session, migrating, database_url, tables
):
    waiting = await make_job(one_session)
    names = [(column.table, column.name) for column in columns() if column.table in tables]
    for table, name in names:
        await migrating.execute(f'ALTER TABLE public.{table} RENAME "{name}" TO "{name}_before"')

    said = " ".join(problem.message for problem in await migrate.check(database_url))
    assert [one for one in names if f"{'.'.join(one)} is missing" not in said] == []
    with pytest.raises(UnusableSchemaError) as refused:
        await migrate.upgrade(database_url, prices=PRICES_TOKENS)
    assert [one for one in names if f"{'.'.join(one)} is missing" not in str(refused.value)] == []

    for table, name in names:
        await migrating.execute(f'ALTER TABLE public.{table} RENAME "{name}_before" TO "{name}"')
    await migrate.upgrade(database_url, prices=PRICES_TOKENS)
    assert await migrate.check(database_url) == []
    assert await run_jobs(one_session) == ENDS
    assert (await job_row(one_session, waiting))["status"] in {"COMPLETED", "REFUNDED"}


async def test_columns_and_tables_are_dropped_without_a_word_of_ours(one_session, migrating, database_url):
    await make_job(one_session)
    drops = [f'ALTER TABLE public.{one.table} DROP COLUMN "{one.name}"' for one in columns()]
    refused = {}
    for drop in (*drops, *(f"DROP TABLE public.{table}" for table in REQUIRED_COLUMNS)):
        transaction = migrating.transaction()
        await transaction.start()
        try:
            await migrating.execute(drop)
        except asyncpg.DependentObjectsStillExistError as error:
            refused[drop] = error.detail  # a foreign key of the application's own
        await transaction.rollback()

    assert {drop: detail for drop, detail in refused.items() if "darkroom" in detail} == {}
    assert await migrate.check(database_url) == []
