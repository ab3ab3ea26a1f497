"""Statements about one job of the third table find its row by its index; run by test_third_table.py."""

from uuid import uuid4

import pytest

from models.applications.registry import table_of
from models.job_tables.rendering import locked_row
from models.periodic.retained_tables import TABLES
from models.queue import claims
from models.queue.job_rows import _STATUS, _rows
from models.queue.progress import _PROGRESS
from models.queue.resuming import _begin_at
from models.queue.transition_statements import ClaimWrite, as_json, lock_statement, parts_of, transition_statement
from models.queue.transitions import (
    HELD,
    Checkpoint,
    Completed,
    Failed,
)
from tests.integration.queue.test_plans import sequential_scans
from tests.support.builders import claim_jobs, make_worker

ORDERS = 5_000
ADDED = {"frame_orders", "gifts"}
"""Those of today's two tables are empty here, and read whole where that is the shortest way."""


@pytest.fixture
async def crowded(database):
    """A database with thousands of orders and gifts that are over, and as many that wait."""
    await database.fetch(
        """INSERT INTO public.frame_orders (id, customer, photo_key, price, state)
           SELECT n, 7, 'p', 0, CASE WHEN n % 2 = 0 THEN 'done' ELSE 'new' END FROM generate_series(1, $1) n""",
        ORDERS,
    )
    await database.fetch(
        "INSERT INTO public.gifts (owner, status) SELECT 'o', 'completed' FROM generate_series(1, $1)", ORDERS
    )
    await claim_jobs(database, most=100)
    await database.fetch("ANALYZE")
    return database


@pytest.mark.parametrize(
    "sql", [_STATUS, locked_row(table_of("frame")), table_of("frame").inputs.select], ids=["status", "locked", "inputs"]
)
async def test_statement_about_one_order_reads_no_table_of_jobs_as_a_whole(crowded, sql):
    values = ["17"] if "$2" not in sql else ["17", 1]

    assert await sequential_scans(crowded, sql, *values) & ADDED == set()


@pytest.mark.parametrize("sql", [_PROGRESS, _rows(table_of("frame"))], ids=["progress", "rows"])
async def test_statement_about_some_orders_reads_no_table_of_jobs_as_a_whole(crowded, sql):
    assert await sequential_scans(crowded, sql, ["17", "nosuch", "18"]) & ADDED == set()


@pytest.mark.parametrize(
    "transition",
    [
        Checkpoint("MEASURING", "GENERATING", 60, 1),
        Completed("GENERATING", 1, {}, None, "p"),
        Failed("GENERATING", "no"),
    ],
    ids=["checkpoint", "completed", "failed"],
)
async def test_write_of_a_claim_reads_no_table_of_jobs_as_a_whole(crowded, transition):
    table = table_of("frame")
    write = ClaimWrite("17", 1, uuid4(), (transition,))
    locking = await sequential_scans(crowded, lock_statement(table, HELD, skip=""), "17", 1, write.lease_token)
    writes = [as_json(table, 0, write)]
    writing = await sequential_scans(crowded, transition_statement(table, parts_of(writes)), writes)

    assert (locking | writing) & ADDED == set()


async def test_claim_and_beginning_read_no_table_of_jobs_as_a_whole(crowded):
    worker = await make_worker(crowded)
    begun = ("17", 1, uuid4(), "GENERATING", 60.0)

    assert await sequential_scans(crowded, claims._claim(8), "default", 7, worker, {"GENERATING": 60}) & ADDED == set()
    assert await sequential_scans(crowded, _begin_at(table_of("frame")), *begun) & ADDED == set()


@pytest.mark.parametrize("job", ["17", "18", "nosuch", "99999999999999999999", "1e3", "frame_orders/17"])
async def test_function_about_one_job_reads_no_table_of_jobs_as_a_whole(crowded, connect, job):
    session = await connect()
    asked = (
        "SELECT count(*) FROM darkroom.jobs_of(ARRAY[$1::text])",
        "SELECT count(*) FROM darkroom.job_named($1)",
        "SELECT count(*) FROM darkroom.job_status($1)",
        "SELECT count(*) FROM darkroom.label_of_failure('frame', $1, '7', 'no')",
        "SELECT count(*) FROM darkroom.write_label('frame', $1, 'CANCELLED')",
        "SELECT count(*) FROM darkroom.settle_refused_end('frame', $1)",
    )
    async with session.transaction():
        for sql in asked:
            await session.fetchval(sql, job)
        read = await session.fetch("SELECT relname::text FROM pg_stat_xact_user_tables WHERE seq_tup_read > 1000")

    assert {row["relname"] for row in read} & ADDED == set()


async def test_cancellation_of_one_order_reads_no_table_of_jobs_as_a_whole(crowded, connect):
    session = await connect()
    async with session.transaction():
        assert await session.fetchval("SELECT darkroom.cancel_job('17')") == "CANCELLED"
        read = await session.fetch("SELECT relname::text FROM pg_stat_xact_user_tables WHERE seq_tup_read > 1000")

    assert {row["relname"] for row in read} & ADDED == set()


async def test_look_for_records_of_jobs_that_are_over_asks_each_jobs_row_by_its_index(crowded):
    await crowded.fetch(
        """INSERT INTO darkroom.checkpoints (job_type, job_id, stage, at)
           SELECT 'frame', n::text, 'MEASURING', now() - interval '1 year' FROM generate_series(1, 50) n"""
    )
    _, _, condition = TABLES["checkpoints"]

    over = await crowded.fetch(f"SELECT t.job_id FROM darkroom.checkpoints t WHERE {condition}")

    assert len(over) == 25
    found = await sequential_scans(crowded, f"SELECT t.job_id FROM darkroom.checkpoints t WHERE {condition} LIMIT 10")
    assert found & {"frame_orders", "gifts"} == set()
