"""A database that an earlier commit made and filled is brought to this version, with everything that stands in it.

`released/COMMIT.sql.gz` is `pg_dump --inserts --rows-per-insert=1000 --no-owner` of PostgreSQL 18, without comments and
psql's commands. Jobs of both tables are in every state: waiting (also a blend, a free one and one with an idempotency
key), held by dead workers, waiting for a retry, and ended in each way; `released_producer` was granted our functions.
That of 7c77644 (revision darkroom_0002) has calls, one of them open, artifacts, a job that was given back, one that the
database refused to start, and one of which it refused the end, too.
"""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.claims import wake_due
from models.queue.refusals import claim_refused, settle_refused_ends
from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import Completed, Failed, record
from models.schema import migrate
from tests.support.builders import claim_jobs, make_worker, money_violations

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql.gz"))
STAGES = ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING")
LEFT = {"16e66bd": (10, 0), "7c77644": (12, 1)}
"""How many jobs of each are still to be worked on, and how many ends the database has refused."""
GRANTED = {"submit_enhancement", "submit_generation", "cancel_job", "regenerate"}

ROLE = """
DO $$ BEGIN CREATE ROLE released_producer; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""

CALLABLE = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = 'darkroom'::regnamespace AND has_function_privilege('released_producer', oid, 'EXECUTE')
"""

ROOMY = """
SELECT relname FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace AND 'fillfactor=50' = ANY (reloptions)
    AND relkind = 'i' ORDER BY relname
"""

STATUSES = "SELECT status::text, count(*) FROM darkroom.jobs GROUP BY status ORDER BY status"


@pytest.fixture(params=RELEASED, ids=lambda path: path.name.partition(".")[0])
def dump(request) -> Path:
    """The dump of a database as a commit left it."""
    return request.param


@pytest.fixture
def script(dump: Path) -> str:
    """Its SQL."""
    return gzip.decompress(dump.read_bytes()).decode()


@pytest.fixture
def commit(dump: Path) -> str:
    return dump.name.partition(".")[0]


@pytest.fixture
async def released(script: str, url: str) -> str:
    """The URL of a database as a commit left it."""
    plain = url.replace("+asyncpg", "")
    connection = await asyncpg.connect(plain)
    await connection.execute(ROLE)
    await connection.execute(script)
    await connection.close()
    return plain


async def test_released_database_is_upgraded_and_keeps_its_grants(released: str, db: asyncpg.Connection) -> None:
    before = await db.fetch(STATUSES), await db.fetch("SELECT * FROM public.token_transactions ORDER BY id")

    first = await migrate.upgrade(released, prices=PRICES)
    second = await migrate.upgrade(released, prices=PRICES)

    assert first.applied
    assert (second.applied, second.is_adopted, second.mode) == ((), False, "managed")
    assert await migrate.check(released) == []
    assert {row["proname"] for row in await db.fetch(CALLABLE)} == GRANTED
    roomy = [row["relname"] for row in await db.fetch(ROOMY)]
    assert roomy == ["job_queue_job_idx", "job_queue_job_key", "job_queue_pkey", "job_queue_user_idx"]
    assert (await db.fetch(STATUSES), await db.fetch("SELECT * FROM public.token_transactions ORDER BY id")) == before


async def test_jobs_of_a_released_database_run_to_their_end(released: str, commit: str) -> None:
    await migrate.upgrade(released, prices=PRICES)
    database = Database(parse_postgres_url(released), most_connections=3)
    await database.open()
    try:
        assert await money_violations(database) == []
        worker = await make_worker(database, lease_s=600)
        rescued = await rescue_lost_claims(database, datetime.now(UTC) + timedelta(minutes=10))
        assert (rescued.requeued, rescued.ended) == (2, 0)
        await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
        assert await database.run(wake_due) == {"default"}

        claims = await claim_jobs(database, worker, most=100)
        while alone := await claim_jobs(database, worker):  # those that were rescued
            claims += alone
        claims += (await claim_refused(database, worker, "default", 100, dict.fromkeys(STAGES, 60))).claims
        for number, one in enumerate(claims):
            end = Completed("GENERATING", 1, {}) if number % 2 else Failed(one.stage, "no such picture", 1)
            await database.run(lambda connection, one=one, end=end: record(connection, one, end))

        await database.fetch("UPDATE darkroom.refused_ends SET tried_at = now() - interval '2 hours'")
        settled = await settle_refused_ends(database)

        assert (len(claims), settled) == LEFT[commit]
        assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
        ended = {row["status"] for row in await database.fetch(STATUSES)}
        assert ended == {"COMPLETED", "FAILED", "REFUNDED", "CANCELLED"}
        assert await money_violations(database) == []
    finally:
        await database.close()


async def test_producer_of_a_released_database_goes_on_submitting(released: str, db: asyncpg.Connection) -> None:
    await migrate.upgrade(released, prices=PRICES)
    user, image, job = await db.fetchrow("""
        SELECT s.user_id, j."imageId", s.job_id FROM darkroom.submissions s
        JOIN public.image_enhancement_jobs j ON j.id = s.job_id""")

    await db.execute("SET ROLE released_producer")
    again = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'first')"
    assert await db.fetchval(again, user, image) == job
    new = await db.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K')", user, image)
    assert await db.fetchval("SELECT darkroom.cancel_job($1)", new) == "CANCELLED"


async def test_scheduler_of_a_released_database_goes_on_until_it_is_replaced(
    released: str, db: asyncpg.Connection
) -> None:
    await migrate.upgrade(released, prices=PRICES)
    user = await db.fetchval("SELECT id FROM public.users LIMIT 1")
    await db.execute(
        """INSERT INTO darkroom.usage_months
               (user_id, month, jobs, pictures, tokens, provider_calls, cost_usd, bytes_stored)
           VALUES ($1, '2031-01-01', 10, 0, 0, 0, 0, 0)""",
        user,
    )

    warn = "SELECT darkroom.warn_of_usage('2031-01-01'::date, '{\"jobs\": 10}'::jsonb)"
    assert [await db.fetchval(warn), await db.fetchval(warn)] == [2, 0]
    # its deletion of whatever no row of ours names is what this release ends
    assert await db.fetch("SELECT key FROM darkroom.unreferenced(ARRAY['avatars/me.png']) key") == []
