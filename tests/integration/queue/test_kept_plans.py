"""Plans that were made while the queue was empty, and are kept, are right for a full one: also behind a pooler."""

import asyncio
from functools import partial

import pytest

from config.postgres_url import parse_postgres_url
from models.applications.pictures.job_tables import ENHANCEMENTS
from models.applications.registry import job_tables
from models.database import Database
from models.gate.provider_calls import CallOutcome, CallPlan, close_calls, open_calls
from models.queue.claims import _WAKE, TRIGGER_WAIT_MS, _claim, _claim_one, claim, wake_due
from models.queue.looks import look_at_queue
from models.queue.pauses import _HOLD
from models.queue.reading import Asked, _select_many, read_rows
from models.queue.rescue import _CANDIDATES
from tests.support.builders import claim_jobs, make_job, make_worker, queue_row
from tests.support.pooler import needs_pgbouncer, pgbouncer

USERS = 500
MANY = 250
RETRYING = 10
MOST_ROWS = 10
"""How many rows of one table an operation may read for each job: a plan that reads whole tables reads thousands."""
QUEUED = 2 * MOST_ROWS * (MANY + RETRYING)
"""Twice as many as an operation may read for many jobs, so that whoever reads a table as a whole is found."""

BIG = (
    *("image_enhancement_jobs", "job_queue", "job_money", "users", "user_token_balances", "token_transactions"),
    *("enhanced_images", "artifacts", "checkpoints"),
)
PEOPLE = """
INSERT INTO public.users (id, email, "updatedAt")
SELECT 'u' || n, 'u' || n, darkroom.utc_now() FROM generate_series(1, $1::integer) n
"""
BALANCES = """
INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
SELECT 'b' || n, 'u' || n, 1000000, darkroom.utc_now() FROM generate_series(1, $1::integer) n
"""
PICTURES = """
INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
    "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
SELECT 'i' || n, 'u' || n, 'x', 'x', 'k', 1, 1, 1, 'jpeg', darkroom.utc_now() FROM generate_series(1, $1::integer) n
"""
INSERT = f"""
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, 'i' || n % {USERS} + 1, 'u' || n % {USERS} + 1, 'TIER_1K', 2, 'PENDING', darkroom.utc_now()
FROM generate_series(1, $2::integer) n
"""
CANCEL = """
UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'
WHERE id = ANY (ARRAY(SELECT $1 || n FROM generate_series(1, $2::integer) n))
"""
RESET = "UPDATE public.image_enhancement_jobs SET status = 'PENDING' WHERE id = ANY ($1)"
RETRY = """
UPDATE darkroom.job_queue SET status = 'retrying', ready = false
WHERE id = ANY (ARRAY(SELECT q.id FROM darkroom.job_queue q ORDER BY q.id LIMIT $1))
"""
DEADLINES_S = {"ANALYZING": 60}
RULES = {"concurrency": MANY, "first_concurrency": MANY}
CALL = CallPlan("scripted", "analyze", may_be_paid=True, rules=RULES)
ANSWERED = CallOutcome("answered", may_be_paid=True, latency_ms=1, verdict="answered")


async def read_by(connection, work, *values):
    """Return how many rows of each big table some work has read, and the result of the work."""
    sql = """SELECT relname::text AS name, seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_xact_user_tables
             WHERE relname = ANY ($1::text[])"""
    before = {row["name"]: row["rows"] for row in await connection.fetch(sql, BIG)}
    result = await work(connection, *values)
    return {row["name"]: row["rows"] - before[row["name"]] for row in await connection.fetch(sql, BIG)}, result


async def every_operation(connection, worker, name, jobs):
    """Submit, claim, load, call for, reset and cancel jobs, and wake others; return the rows that each read."""

    async def submit(connection):
        await connection.execute(INSERT, name, jobs)

    async def load(connection):
        await read_rows(connection, ENHANCEMENTS, [Asked(one, needs_kept=True, needs_artifact=True) for one in claims])

    async def call(connection):
        opened = await open_calls(connection, [(one, CALL) for one in claims])
        await close_calls(connection, [(one.intent, ANSWERED) for one in opened], RULES)

    async def reset(connection):
        await connection.execute(RESET, [one.job_id for one in claims])

    async def cancel(connection):
        await connection.execute(CANCEL, name, jobs)

    read = {}
    async with connection.transaction():
        read["charge"], _ = await read_by(connection, submit)
        read["claim"], claims = await read_by(
            connection, partial(claim, worker_id=worker, queue="default", most=jobs, deadlines_s=DEADLINES_S)
        )
        assert len(claims) == jobs
        now = await connection.fetchval("SELECT now()")
        read["rescue"], _ = await read_by(connection, lambda one: one.fetch(_CANDIDATES, now, now, 0))
        read["load"], _ = await read_by(connection, load)
        read["call"], _ = await read_by(connection, call)
        read["follow"], _ = await read_by(connection, reset)
        read["look"], _ = await read_by(connection, partial(look_at_queue, queues=["default"]))
        read["wake"], _ = await read_by(connection, wake_due)
        read["refund"], _ = await read_by(connection, cancel)
    return read


@pytest.fixture(params=["direct", pytest.param("pooled", marks=needs_pgbouncer)])
async def warmed(request, database_url, tmp_path, connect):
    """A single session of a worker that has made all plans on empty tables, directly or through a pooler."""
    admin = await connect()
    for sql in (PEOPLE, BALANCES, PICTURES):
        await admin.execute(sql, USERS)
    await admin.execute("VACUUM ANALYZE")
    through = pgbouncer(database_url, tmp_path, default_pool_size=1) if request.param == "pooled" else None
    url = await asyncio.to_thread(through.__enter__) if through else database_url
    database = Database(parse_postgres_url(url), most_connections=1, keeps_plans=True)
    await database.open()
    worker = await make_worker(database)
    try:
        for number in range(8):
            await database.run(partial(every_operation, worker=worker, name=f"w{number}x", jobs=1))
        await admin.execute("DELETE FROM public.image_enhancement_jobs")
        await admin.execute("VACUUM ANALYZE")
        for number in range(8):
            await database.run(partial(every_operation, worker=worker, name=f"e{number}x", jobs=1))
        assert database.is_behind_pooler == (request.param == "pooled")
        yield database, worker, admin
        await admin.execute("ANALYZE")  # the check after each test compares whole tables: it needs to know their sizes
    finally:
        await database.close()
        if through:
            await asyncio.to_thread(through.__exit__, None, None, None)


@pytest.mark.parametrize("queue", ["just filled", "full"])
@pytest.mark.parametrize("jobs", [1, MANY], ids=["one", "many"])
async def test_session_that_has_met_an_empty_queue_reads_only_the_rows_of_the_jobs_that_it_changes(warmed, queue, jobs):
    database, worker, admin = warmed
    await admin.execute(INSERT, "full", QUEUED)
    await admin.execute(RETRY, RETRYING)
    if queue == "full":
        await admin.execute("ANALYZE")

    read = await database.run(partial(every_operation, worker=worker, name="one", jobs=jobs))

    most = {operation: max(rows.values()) for operation, rows in read.items()}
    too_many = {operation: rows for operation, rows in most.items() if rows > MOST_ROWS * (jobs + RETRYING)}
    assert too_many == {}, read


STATEMENTS = {
    "claim": (_claim(16), 4),
    "claim of one": (_claim_one(TRIGGER_WAIT_MS, is_alone=False), 5),
    "wake": (_WAKE, 0),
    "pause": (_HOLD, 2),
    **{f"load {table.rows}": (_select_many(table), 5) for table in job_tables()},
}


def scans(plan):
    """Yield every node of a plan that reads a table."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def is_probe(node):
    """Return whether a node reads the first pause, or asks whether any row waits for a position or a slot."""
    return node.get("Index Name") in {"job_queue_paused_idx", "job_queue_asking_idx", "freed_slots_pkey"}


async def kept_plan(connection, name, values):
    asked = f"({', '.join(['NULL'] * values)})" if values else ""
    (plan,) = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{asked}")
    return plan["Plan"]


@pytest.mark.parametrize(("sql", "values"), STATEMENTS.values(), ids=STATEMENTS)
async def test_statement_finds_every_row_by_index_or_place_whenever_its_plan_is_made(database, connect, sql, values):
    admin = await connect()
    await admin.execute("VACUUM ANALYZE")
    async with database.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for name in ("when_empty", "when_just_filled", "when_full"):
            if name == "when_just_filled":
                for one in (PEOPLE, BALANCES, PICTURES):
                    await admin.execute(one, USERS)
                await admin.execute(INSERT, "j", MANY)
            elif name == "when_full":
                await admin.execute("ANALYZE")
            await connection.execute(f"PREPARE {name} AS {sql}")

            found = list(scans(await kept_plan(connection, name, values)))

            without = [node for node in found if not {"Index Cond", "TID Cond"} & node.keys() and not is_probe(node)]
            assert [(node["Node Type"], node["Relation Name"]) for node in without] == [], name
        assert found


KEPT = "SELECT p.generic_plans FROM pg_prepared_statements p WHERE p.statement = $1"


async def test_reading_of_single_jobs_keeps_its_plan(database):
    for _ in range(8):
        await make_job(database)
    claims = await claim_jobs(database, most=8)
    async with database.connection() as connection:
        for one in claims:
            await read_rows(connection, ENHANCEMENTS, [Asked(one, needs_kept=True, needs_artifact=True)])

        assert await connection.fetchval(KEPT, _select_many(ENHANCEMENTS)) >= 1


PAUSED_HALFWAY = """
CREATE OR REPLACE FUNCTION darkroom.pause_of(job_type text, tier text, pauses jsonb) RETURNS text LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'
"""


async def test_claim_leaves_a_job_for_a_second_that_was_changed_after_the_claim_began(database, connect, eventually):
    job, other = [await make_job(database) for _ in range(2)]
    holder = await connect()
    await holder.execute(PAUSED_HALFWAY)
    await holder.execute("SELECT pg_advisory_lock(1)")
    claiming = asyncio.create_task(claim_jobs(database, most=2))
    await eventually(lambda: holder.fetchval("SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    await holder.execute("""UPDATE public.image_enhancement_jobs SET "maxRetries" = 1 WHERE id = $1""", job)
    await holder.execute("SELECT pg_advisory_unlock(1)")

    assert [one.job_id for one in await claiming] == [other]
    assert (await queue_row(database, job))["status"] == "retrying"
