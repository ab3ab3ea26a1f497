"""The queue's table stays small however many jobs pass through it between two looks of autovacuum."""

from collections.abc import AsyncIterator
from contextlib import nullcontext

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.vacuum import vacuum_queue
from tests.support.builders import new_id
from tests.support.pooler import needs_pgbouncer, pgbouncer

ROUNDS = 4
ROWS_PER_ROUND = 11_000

ENTER = """
INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, position, max_attempts)
SELECT 'enhance', 'vacuumed-' || n, 'u', 'TIER_1K', 'default', 'ANALYZING', n, 1 FROM generate_series(1, $1::integer) n
"""
# What a session has counted is otherwise reported up to a second later
REPORT = "SELECT pg_stat_force_next_flush()"


@pytest.fixture(params=["direct", pytest.param("pooled", marks=needs_pgbouncer)])
async def scheduler_database(request, database_url, tmp_path) -> AsyncIterator[Database]:
    """A scheduler's database, directly or through a pooler that lends a session for a transaction."""
    with pgbouncer(database_url, tmp_path) if request.param == "pooled" else nullcontext(database_url) as url:
        opened = Database(parse_postgres_url(url))
        await opened.open()
        yield opened
        await opened.close()


async def pass_through(connection: asyncpg.Connection, rows: int) -> int:
    """Let rows enter the queue and leave it; return the bytes that its table has then."""
    await connection.execute(ENTER, rows)
    await connection.execute("DELETE FROM darkroom.job_queue")
    await connection.fetchval(REPORT)
    return await connection.fetchval("SELECT pg_relation_size('darkroom.job_queue')")


@pytest.fixture
async def program(foreign) -> asyncpg.Connection:
    """Another program's connection, to a queue that autovacuum doesn't come to."""
    await foreign.execute("ALTER TABLE darkroom.job_queue SET (autovacuum_enabled = off)")
    return foreign


async def test_space_of_jobs_that_ended_is_used_again(program, scheduler_database):
    sizes = []
    for _ in range(ROUNDS):
        sizes.append(await pass_through(program, ROWS_PER_ROUND))
        assert await vacuum_queue(scheduler_database) is not None

    assert sizes[-1] <= 1.1 * sizes[0], sizes


async def test_table_with_few_dead_rows_is_left_alone(program, database):
    await pass_through(program, 100)

    assert await vacuum_queue(database) is None


async def test_role_that_does_not_own_the_table_leaves_it_to_autovacuum(program, database_url):
    await pass_through(program, ROWS_PER_ROUND)
    role = f"scheduler_{new_id('r').replace('-', '_')}"
    await program.execute(
        f"""CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA darkroom TO {role};
            GRANT SELECT ON darkroom.job_queue TO {role}"""
    )
    database = Database(parse_postgres_url(database_url), most_connections=1)
    await database.open()
    try:
        async with database.connection() as connection:
            await connection.execute(f"SET ROLE {role}")

        assert await vacuum_queue(database) is None
    finally:
        await database.close()
        await program.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_vacuum_waits_for_no_lock_of_another_program(program, connect, database):
    await pass_through(program, ROWS_PER_ROUND)
    other = await connect()
    async with other.transaction():
        await other.execute("LOCK TABLE darkroom.job_queue IN SHARE ROW EXCLUSIVE MODE")

        assert await vacuum_queue(database) is not None

    assert await vacuum_queue(database) is not None, "what couldn't be done then is done by a later call"
