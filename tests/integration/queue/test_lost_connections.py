"""Only errors of the database's own connection count as a lost database."""

import asyncio
import errno
import threading

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models import connections
from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from models.queue.refusal import is_of_a_row
from tests.support.builders import make_user
from tests.support.patience import HANGS_AFTER_S
from tests.support.rules import STATES


def failing(error):
    async def work(_connection):
        raise error

    return work


def failing_statement(sql):
    async def work(connection):
        await connection.execute(sql)

    return work


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        ConnectionResetError(errno.ECONNRESET, "of another socket"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error_of_the_work_on_a_sound_connection_is_no_lost_database(database, error):
    with pytest.raises(type(error)) as caught:
        await database.run(failing(error))

    assert not isinstance(caught.value, DatabaseLostError)


async def test_value_that_a_column_cannot_hold_is_no_lost_database(database):
    with pytest.raises(asyncpg.DataError) as caught:  # an InterfaceError, as those of closed connections are
        await database.fetchval("SELECT $1::int", 2**40)

    assert not isinstance(caught.value, DatabaseLostError)


async def test_statement_cancelled_by_its_time_limit_is_no_lost_database(database):
    async def take_too_long(connection):
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 50")
            await connection.fetchval("SELECT pg_sleep(5)")

    with pytest.raises(asyncpg.QueryCanceledError) as caught:
        await database.run(take_too_long)

    assert not isinstance(caught.value, DatabaseLostError)


async def test_state_that_a_function_raises_is_no_lost_database_and_no_pooler(database):
    for state in STATES:
        with pytest.raises(asyncpg.PostgresError) as caught:  # neither a DatabaseLostError nor a ContentionError
            await database.commit(
                "any",
                failing_statement(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"),
                retry_for_s=0,
            )
        assert (caught.value.sqlstate, isinstance(caught.value, DatabaseLostError)) == (state, False)

    assert not database.is_behind_pooler


async def test_lack_of_memory_for_one_statement_is_no_lost_database(database):
    with pytest.raises(asyncpg.OutOfMemoryError) as caught:  # of shared memory: PostgreSQL's own word, for its locks
        await database.fetch("SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 1000000) n")

    assert is_of_a_row(caught.value)


async def test_drivers_time_limit_on_a_sound_connection_is_a_cancelled_statement(database, monkeypatch):
    monkeypatch.setattr(connections, "PROBE_S", HANGS_AFTER_S)  # a sound connection may be slow

    with pytest.raises(asyncpg.QueryCanceledError):
        await database.run(lambda connection: connection.execute("SELECT pg_sleep(5)", timeout=0.05))

    assert await database.fetchval("SELECT 1") == 1


async def test_server_that_takes_no_writes_from_us_is_a_lost_database(database, database_url):
    await database.run(
        lambda connection: connection.execute(
            """DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',
                                          current_database()); END $$"""
        )
    )
    late = Database(parse_postgres_url(database_url))
    await late.open()
    try:
        with pytest.raises(DatabaseLostError):
            await late.fetch("DELETE FROM darkroom.job_queue")
    finally:
        await late.close()


async def test_session_that_is_ended_is_a_lost_database(database):
    async def end_itself(connection):
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseLostError):
        await database.run(end_itself)


async def test_session_that_was_ended_between_two_statements_is_a_lost_database(database):
    async def go_on_after_the_end(connection):
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await database.fetch("SELECT pg_terminate_backend($1)", pid)
        for _ in range(1_000):
            await connection.fetchval("SELECT 1")
            await asyncio.sleep(0.01)

    with pytest.raises(DatabaseLostError):
        await database.run(go_on_after_the_end)


@pytest.mark.parametrize("is_ended", [True, False], ids=["ended session", "sound session"])
async def test_driver_that_is_confused_is_a_lost_database_where_the_session_is_ended(database, database_url, is_ended):
    async def end(pid):
        other = await asyncpg.connect(database_url)
        await other.execute("SELECT pg_terminate_backend($1)", pid)
        await other.close()

    async def go_on_at_once(connection):
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        if is_ended:  # in another thread, so that the driver hasn't read of it yet
            ending = threading.Thread(target=lambda: asyncio.run(end(pid)))
            ending.start()
            ending.join(HANGS_AFTER_S)
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    with pytest.raises(DatabaseLostError if is_ended else asyncpg.InternalClientError):
        await database.run(go_on_at_once)


async def test_server_that_is_not_there_is_a_lost_database():
    nobody = Database(parse_postgres_url("postgresql://x@127.0.0.1:1/x"))

    with pytest.raises(DatabaseLostError, match="ConnectionRefusedError"):
        await nobody.open()
    with pytest.raises(DatabaseLostError):
        await nobody.connect_direct()


LOCKED = "SELECT 1 FROM public.users WHERE id = $1 FOR UPDATE NOWAIT"
RAISED = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"


async def test_lock_that_another_transaction_holds_is_contention_whatever_way_leads_to_it(database, connect):
    user = await make_user(database)
    holder = await connect()
    own = await database.connect_direct()

    async def want(connection):
        return await connection.fetchval(LOCKED, user)

    async with holder.transaction():
        await holder.execute("SELECT 1 FROM public.users WHERE id = $1 FOR UPDATE", user)
        with pytest.raises(ContentionError) as committed:
            await database.commit("any", want, retry_for_s=0)
        with pytest.raises(ContentionError) as direct:
            await database.run_direct(own, want)
    await own.close()

    assert [caught.value.cause.sqlstate for caught in (committed, direct)] == ["55P03", "55P03"]
    assert await database.run(want) == 1


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_contention_that_a_trigger_raises_is_a_refusal_whatever_way_leads_to_it(database, state):
    own = await database.connect_direct()
    work = failing_statement(RAISED.format(state=state))

    for attempt in (database.commit("any", work), database.run(work), database.run_direct(own, work)):
        with pytest.raises(asyncpg.PostgresError) as caught:
            await attempt
        assert caught.value.sqlstate == state
    await own.close()


@pytest.mark.parametrize("is_lost", [False, True], ids=["sound connection", "lost connection"])
async def test_cancellation_in_a_transaction_stays_one_whatever_the_rollback_meets(database, is_lost):
    waits = asyncio.Event()

    async def wait_in_a_transaction(connection):
        async with connection.transaction():
            if is_lost:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                await database.fetch("SELECT pg_terminate_backend($1)", pid)
            waits.set()
            await asyncio.sleep(2 * HANGS_AFTER_S)

    running = asyncio.create_task(database.commit("any", wait_in_a_transaction))
    await waits.wait()
    running.cancel()
    await asyncio.wait([running], timeout=HANGS_AFTER_S)

    assert running.cancelled()
