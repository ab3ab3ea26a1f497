"""The frequent statements find their rows by index, whatever statistics the planner has."""

import asyncio
import json
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.applications.registry import job_tables
from models.database import Database
from models.history.actions import _IS_RETRIED
from models.queue.claims import _WAKE, _claim
from models.queue.rescue import _CANDIDATES
from models.queue.sweep import _statements
from models.queue.transition_statements import ClaimWrite, as_json, lock_statement, parts_of, transition_statement
from models.queue.transitions import (
    HELD,
    Checkpoint,
    Completed,
    Failed,
)
from tests.support.builders import claim_jobs, make_image, make_user, make_worker

QUEUED = 5_000
ROWS = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT 'e' || n, $1, $2, 'FREE', 0, 'PENDING', now() FROM generate_series(1, $3) n
"""
GENERATION_ROWS = """
INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
SELECT 'g' || n, $1, 'GENERATE', 'FREE', 0, 'PENDING', 'x', now() FROM generate_series(1, $2) n
"""


@pytest.fixture(scope="module")
def template(services, template):
    """Name of a database with thousands of jobs in the queue and hundreds in flight; each test has a copy of it."""
    url = parse_postgres_url(services.database_url)

    async def make():
        admin = await asyncpg.connect(**url.asyncpg_arguments())
        await admin.execute(f"CREATE DATABASE crowded TEMPLATE {template} STRATEGY file_copy")
        await admin.close()
        database = Database(url.with_database("crowded"), most_connections=1)
        await database.open()
        user = await make_user(database)
        await database.fetch(ROWS, await make_image(database, user), user, QUEUED)
        await database.fetch(GENERATION_ROWS, user, QUEUED)
        await claim_jobs(database, most=300)
        await database.close()

    asyncio.run(make())
    return "crowded"


@pytest.fixture(params=["fresh", "analyzed"])
async def crowded(database, request):
    """A copy, as yet without the planner's statistics, or with them."""
    if request.param == "analyzed":
        await database.fetch("ANALYZE")
    return database


def scans(plan):
    """Yield (node type, relation) of every node of a plan."""
    yield plan["Node Type"], plan.get("Relation Name")
    for child in plan.get("Plans", ()):
        yield from scans(child)


async def plans_of(database, sql, *values):
    """Return a statement's plan for these values, and the one that PostgreSQL keeps for any."""
    async with database.connection() as connection, connection.transaction():
        own = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
        await connection.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE kept AS {sql}")
        nulls = f"({', '.join(['NULL'] * len(values))})" if values else ""
        kept = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept{nulls}")
        await connection.execute("DEALLOCATE kept")
    return own[0]["Plan"], kept[0]["Plan"]


async def sequential_scans(database, sql, *values):
    """Return the tables that a statement reads as a whole by either plan."""
    plans = await plans_of(database, sql, *values)
    return {relation for plan in plans for node, relation in scans(plan) if node == "Seq Scan"}


async def test_claim_reads_no_table_as_a_whole(crowded):
    worker = await make_worker(crowded)

    scans = await sequential_scans(crowded, _claim(8), "default", 7, worker, {"ANALYZING": 60})
    assert scans <= {"workers"}  # a row for each process


async def test_claim_finds_its_jobs_by_the_index_of_claims(crowded):
    worker = await make_worker(crowded)

    for plan in await plans_of(crowded, _claim(8), "default", 7, worker, {"ANALYZING": 60}):
        assert "job_queue_claim_idx" in json.dumps(plan)


async def test_look_for_due_retries_reads_no_table_as_a_whole(crowded):
    assert await sequential_scans(crowded, _WAKE) == set()


@pytest.mark.parametrize(
    "transition",
    [
        Checkpoint("ANALYZING", "CROPPING", 60, 1),
        Completed("GENERATING", 1, {}, None, "p"),
        Failed("GENERATING", "no"),
    ],
    ids=["checkpoint", "completed", "failed"],
)
async def test_write_of_a_claim_reads_no_table_of_jobs_as_a_whole(crowded, transition):
    for table in job_tables():
        write = ClaimWrite("e1", 1, uuid4(), (transition,))
        locking = await sequential_scans(crowded, lock_statement(table, HELD, skip=""), "e1", 1, write.lease_token)
        writes = [as_json(table, 0, write)]
        writing = await sequential_scans(crowded, transition_statement(table, parts_of(writes)), writes)

        assert locking | writing == set()


async def test_look_for_lost_claims_does_not_read_what_waits(crowded):
    now = await crowded.fetchval("SELECT now()")

    assert "job_queue" not in await sequential_scans(crowded, _CANDIDATES, now, now, 0)


async def test_page_of_a_sweep_reads_no_table_as_a_whole(crowded, foreign):
    for table in ("image_enhancement_jobs", "mcp_generation_jobs"):  # written one after the other, as by workers
        await foreign.execute("SET session_replication_role = replica")
        await foreign.execute(
            f"""UPDATE public.{table} j SET "updatedAt" = now() + s.n * interval '1 ms'
                FROM (SELECT id, row_number() OVER () AS n FROM public.{table}) s WHERE s.id = j.id"""
        )
    await crowded.fetch("ANALYZE")

    for statement in _statements():
        assert await sequential_scans(crowded, statement, None, "", 100) == set()


async def test_look_for_an_earlier_retry_reads_one_jobs_actions(database):
    await database.fetch(
        """INSERT INTO darkroom.operator_actions (actor, action, target)
           SELECT 'somebody', 'job_retry', 'j' || n FROM generate_series(1, $1) n""",
        QUEUED,
    )
    await database.fetch("ANALYZE darkroom.operator_actions")

    assert await sequential_scans(database, _IS_RETRIED, "j7", "enhance") == set()
