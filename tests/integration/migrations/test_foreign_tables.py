"""`db upgrade` on tables that another tool made."""

import asyncpg
import pytest

from models.schema import migrate
from models.schema.migrations.errors import ModeRequiredError, UnusableSchemaError
from models.schema.readiness import REVISIONS
from tests.support.foreign_tables import foreign_ddl

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

PUBLIC = """
    SELECT relname, relkind::text, coalesce(attname, '') AS attname, atttypid, attnotnull
    FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
    WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 3
"""
CONSTRAINTS = (
    "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 't' ORDER BY 1"
)

USER_WITH_TOKENS = """
    INSERT INTO users (id, "updatedAt") VALUES ('u', now());
    INSERT INTO user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b', 'u', 20, now());
    INSERT INTO enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
        "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
        VALUES ('i', 'u', 'n', 'file:///k', 'k', 1, 1, 1, 'jpeg', now());
"""


async def add_job(db: asyncpg.Connection, job_id: str, cost_column: str) -> None:
    await db.execute(f"""
        INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "{cost_column}", status, "updatedAt")
        VALUES ('{job_id}', 'i', 'u', 'TIER_2K', 5, 'PENDING', now())
    """)


async def test_foreign_tables_take_only_our_own_schema(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl())
    await db.execute("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('theirs')")
    before = await db.fetch(PUBLIC), await db.fetch(CONSTRAINTS)

    result = await migrate.upgrade(url, prices=PRICES, mode="managed")

    assert (result.is_adopted, result.applied, result.mode) == (
        True,
        REVISIONS["darkroom"],
        "managed",
    )
    assert (await db.fetch(PUBLIC), await db.fetch(CONSTRAINTS)) == before
    assert await db.fetchval("SELECT version_num FROM alembic_version") == "theirs"
    assert await db.fetchval("SELECT darkroom.link_pipelines()") == "trust"
    assert await migrate.check(url) == []


async def test_foreign_tables_without_a_mode_are_left_alone(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl())
    with pytest.raises(ModeRequiredError, match="producer"):
        await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval("SELECT to_regnamespace('darkroom')") is None


async def test_a_recorded_mode_is_kept_on_foreign_tables(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl())
    await migrate.upgrade(url, prices=PRICES, mode="producer")
    result = await migrate.upgrade(url, prices=PRICES)
    assert (result.is_adopted, result.applied, result.mode) == (True, (), "producer")


async def test_foreign_tables_without_any_index_are_taken(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl(with_indexes=False))
    assert (await migrate.upgrade(url, prices=PRICES, mode="external")).is_adopted


async def test_a_renamed_cost_column_is_what_the_triggers_charge_by(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl(renamed={"tokensCost": "creditsCost"}) + ";" + USER_WITH_TOKENS)
    await migrate.upgrade(url, prices=PRICES, mode="managed", cost_column="creditsCost")

    await add_job(db, "j", "creditsCost")

    assert await db.fetchval("SELECT balance FROM user_token_balances") == 15
    assert await db.fetchval("SELECT count(*) FROM darkroom.job_queue") == 1
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("""UPDATE image_enhancement_jobs SET "creditsCost" = 1""")
    assert (await migrate.recorded(url)).cost_column == "creditsCost"


async def test_what_was_there_before_is_neither_charged_nor_queued(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl() + ";" + USER_WITH_TOKENS)
    await add_job(db, "j", "tokensCost")

    result = await migrate.upgrade(url, prices=PRICES, mode="managed")

    assert result.opening_balances == 1
    assert await db.fetchval("SELECT balance FROM darkroom.opening_balances WHERE user_id = 'u'") == 20
    assert await db.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await db.fetchval("SELECT count(*) FROM token_transactions") == 0


async def test_downgrade_gives_foreign_tables_back(url: str, db: asyncpg.Connection) -> None:
    await db.execute(foreign_ddl())
    before = await db.fetch(PUBLIC)
    await migrate.upgrade(url, prices=PRICES, mode="managed")
    await migrate.downgrade(url, "darkroom")
    assert await db.fetch(PUBLIC) == before
    assert await db.fetch("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ({"renamed": {"tokensCost": "creditsCost"}}, "mcp_generation_jobs.tokensCost is missing (creditsCost is there"),
        ({"renamed": {"currentStage": ""}}, "image_enhancement_jobs.currentStage is missing"),
        ({"without_tables": frozenset({"token_transactions"})}, "table token_transactions is missing"),
        ({"without_labels": frozenset({"CANCELLED"})}, 'type "JobStatus" lacks CANCELLED'),
        (
            {"retyped": {"image_enhancement_jobs.status": "text"}},
            "image_enhancement_jobs.status is text, not JobStatus",
        ),
        (
            {"retyped": {"mcp_generation_jobs.updatedAt": "timestamptz"}},
            "mcp_generation_jobs.updatedAt is timestamptz, not timestamp",
        ),
        ({"retyped": {"image_enhancement_jobs.workflowRunId": "uuid"}}, "workflowRunId is uuid, not citext or text"),
        ({"retyped": {"user_token_balances.balance": "smallint"}}, "user_token_balances.balance is int2"),
        (
            {"retyped": {"token_transactions.source": "text, walletId text NOT NULL"}},
            "token_transactions.walletid is NOT NULL without a default",
        ),
        (
            {"retyped": {"user_token_balances.lastRegeneration": "timestamp NOT NULL"}},
            "user_token_balances.lastRegeneration is NOT NULL without a default",
        ),
        (
            {"with_indexes": False},
            "user_token_balances.userId has no unique index that is neither partial nor deferrable",
        ),
    ],
)
async def test_foreign_tables_that_lack_something_are_refused_by_name(
    url: str, db: asyncpg.Connection, variant: dict[str, object], said: str
) -> None:
    await db.execute(foreign_ddl(**variant))
    with pytest.raises(UnusableSchemaError) as refused:
        await migrate.upgrade(url, prices=PRICES, mode="managed")
    assert said in str(refused.value)
    assert await db.fetchval("SELECT to_regnamespace('darkroom')") is None


async def test_wider_types_than_ours_are_taken(url: str, db: asyncpg.Connection) -> None:
    wider = {
        "user_token_balances.balance": "bigint",
        "image_enhancement_jobs.geminiPrompt": "varchar(9000)",
        "image_enhancement_jobs.geminiTemp": "numeric",
        "error_logs.timestamp": "timestamp(6)",
    }
    await db.execute(foreign_ddl(retyped=wider, without_labels=frozenset({"SPEND_BOX_CREATION"})))
    assert (await migrate.upgrade(url, prices=PRICES, mode="managed")).is_adopted
