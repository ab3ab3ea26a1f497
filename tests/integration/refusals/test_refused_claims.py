"""A job that the database refuses to start: other jobs run, and it is tried again and ends in limited time."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.connections import ContentionError, DatabaseLostError
from models.queue import refusals
from models.queue.claims import wake_due
from models.queue.refusal import is_of_a_row
from models.queue.refusals import claim_jobs, claim_refused
from models.queue.rescue import adopt_jobs, end_overdue_jobs, end_refused_jobs
from tests.support.builders import (
    balance_of,
    job_row,
    make_generation,
    make_job,
    make_user,
    make_worker,
    queue_row,
    set_status,
)
from tests.support.patience import HANGS_AFTER_S, is_within, within
from tests.support.rules import STATEMENTS, STATES, allow, raise_states, refuse, run

DEADLINES = {"ANALYZING": 60, "GENERATING": 60}


async def look(database, worker, most=8):
    return await claim_jobs(database, worker, "default", most, DEADLINES)


async def make_due(database):
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE refused_since IS NOT NULL")


async def many_jobs(database, count):
    """Queue so many jobs of the user who has one, or of a new one."""
    if not await database.fetchval("SELECT count(*) FROM public.image_enhancement_jobs"):
        await make_job(database, tier="FREE")
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs
               (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           SELECT 'bad' || n, j."imageId", j."userId", 'FREE', 0, 'PENDING', now()
           FROM generate_series(1, $1) n, public.image_enhancement_jobs j""",
        count,
    )


async def refused_for_hours(database):
    """Let a job have been refused often and for long, as far as the queue knows."""
    await database.fetch(
        """UPDATE darkroom.job_queue SET refused_since = now() - interval '2 hours', refusals = 20
           WHERE refused_since IS NOT NULL"""
    )


BY_STATUS = "NEW.id = '{job}' AND NEW.status = 'PROCESSING'"


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred"])
async def test_others_start_in_the_same_look_whatever_refuses_the_first(database, kind):
    worker = await make_worker(database)
    refused = await make_job(database)
    others = [await make_job(database) for _ in range(3)] + [await make_generation(database)]
    await refuse(database, kind, BY_STATUS.format(job=refused))

    taken = await look(database, worker)

    assert [one.job_id for one in taken.claims] == others
    assert taken.refused == 1
    row = await queue_row(database, refused)
    assert (row["status"], row["refusals"]) == ("retrying", 1)
    assert row["refused_state"] in row["last_error"]
    assert (await look(database, worker)).refused == 0


async def test_check_added_behind_a_waiting_row_is_quoted(database):
    worker = await make_worker(database)
    refused = await make_job(database, maxRetries=9)
    await run(
        database,
        'ALTER TABLE public.image_enhancement_jobs ADD CONSTRAINT any_name CHECK ("maxRetries" <= 3) NOT VALID',
    )

    await look(database, worker)

    assert "any_name" in (await queue_row(database, refused))["last_error"]


async def test_unique_index_lets_a_users_jobs_run_one_after_the_other(database):
    worker = await make_worker(database)
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user) for _ in range(2)]
    other = await make_job(database)
    await run(
        database,
        """CREATE UNIQUE INDEX one_running ON public.image_enhancement_jobs ("userId") WHERE status = 'PROCESSING'""",
    )

    first = await look(database, worker)
    assert {one.job_id for one in first.claims} == {jobs[0], other}
    await set_status(database, jobs[0], "CANCELLED")
    await make_due(database)

    second = await claim_refused(database, worker, "default", 8, DEADLINES)
    assert [one.job_id for one in second.claims] == [jobs[1]]
    row = await queue_row(database, jobs[1])
    assert (row["refusals"], row["refused_since"], row["refused_state"]) == (0, None, None)


async def test_refused_job_is_not_woken_into_the_claim_of_many(database):
    worker = await make_worker(database)
    refused = await make_job(database)
    await refuse(database, "raise", BY_STATUS.format(job=refused))
    await look(database, worker)
    await make_due(database)

    async with database.connection() as connection:
        await wake_due(connection)

    assert (await queue_row(database, refused))["status"] == "retrying"
    again = await claim_refused(database, worker, "default", 8, DEADLINES)
    assert (again.claims, again.refused) == ([], 1)
    row = await queue_row(database, refused)
    assert row["refusals"] == 2
    assert row["scheduled_at"] - await database.fetchval("SELECT now()") > timedelta(seconds=3)


async def test_thousand_refused_rows_before_one_do_not_keep_it_for_long(database):
    worker = await make_worker(database)
    user = await make_user(database)
    bad = await make_job(database, user_id=user, tier="FREE")
    await many_jobs(database, 300)
    good = await make_job(database)
    await refuse(database, "raise", f"NEW.\"userId\" = '{user}' AND NEW.status = 'PROCESSING'")

    taken = []
    with within(5):
        while not taken:
            taken = (await look(database, worker, 4)).claims

    assert [one.job_id for one in taken] == [good]
    assert await queue_row(database, bad)


async def test_two_workers_set_a_row_aside_once(database):
    refused = await make_job(database)
    await refuse(database, "raise", BY_STATUS.format(job=refused))
    workers = [await make_worker(database) for _ in range(2)]

    await asyncio.gather(*(look(database, worker) for worker in workers))

    assert (await queue_row(database, refused))["refusals"] == 1


async def test_refused_job_is_cancelled_by_a_plain_update(database, foreign):
    user = await make_user(database)
    refused = await make_job(database, user_id=user)
    await refuse(database, "raise", BY_STATUS.format(job=refused))
    await look(database, await make_worker(database))

    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", refused)

    assert await queue_row(database, refused) is None
    assert await balance_of(database, user) == 100


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred"])
async def test_job_refused_for_hours_ends_refunded_or_waits_where_every_row_may_be_refused(database, kind):
    user = await make_user(database)
    refused = await make_job(database, user_id=user)
    await refuse(database, kind, BY_STATUS.format(job=refused))
    await look(database, await make_worker(database))
    await refused_for_hours(database)

    is_general = (await queue_row(database, refused))["refused_state"][:2] in refusals.GENERAL_CLASSES
    assert await end_refused_jobs(database) == (0 if is_general else 1)

    if is_general:
        await database.fetch("UPDATE darkroom.job_queue SET created_at = $1", datetime.now(UTC) - timedelta(days=2))
        await end_overdue_jobs(database, 86_400)
    row = await job_row(database, refused)
    assert row["status"] == "REFUNDED"
    assert "SQLSTATE" in row["errorMessage"]
    assert await balance_of(database, user) == 100


async def test_job_refused_for_hours_whose_end_is_refused_too_ends_all_the_same_and_stops_no_other(database):
    user = await make_user(database)
    refused = [await make_job(database, user_id=user) for _ in range(2)]
    await refuse(database, "raise", f"NEW.status = 'PROCESSING' OR NEW.id = '{refused[0]}'")
    await look(database, await make_worker(database))
    await refused_for_hours(database)

    assert await end_refused_jobs(database) == 2

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    kept = await database.fetch("SELECT job_id, label FROM darkroom.refused_ends")
    assert [tuple(row) for row in kept] == [(refused[0], "REFUNDED")]
    assert await balance_of(database, user) == 100


async def test_job_that_is_paused_after_its_refusal_is_not_ended_for_it(database):
    refused = await make_job(database)
    await refuse(database, "raise", BY_STATUS.format(job=refused))
    await look(database, await make_worker(database))
    await refused_for_hours(database)
    await database.fetch(
        """INSERT INTO darkroom.settings VALUES ('pauses', jsonb_build_object('type:enhance',
               jsonb_build_object('at', now())))"""
    )

    assert await end_refused_jobs(database) == 0


async def test_job_goes_on_when_the_rule_is_dropped(database):
    worker = await make_worker(database)
    refused = await make_job(database)
    await refuse(database, "raise", BY_STATUS.format(job=refused))
    await look(database, worker)
    await allow(database)
    await make_due(database)

    assert [one.job_id for one in (await claim_refused(database, worker, "default", 8, DEADLINES)).claims] == [refused]


async def test_job_id_over_the_limit_of_a_notification_is_claimed_and_cancelled(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await database.fetch("DELETE FROM darkroom.job_queue")
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        await foreign.execute("UPDATE public.image_enhancement_jobs SET id = repeat('x', 8200) WHERE id = $1", job)
        await foreign.execute("UPDATE darkroom.job_money SET job_id = repeat('x', 8200) WHERE job_id = $1", job)
    other = await make_job(database)
    messages: asyncio.Queue[str] = asyncio.Queue()
    await foreign.add_listener("darkroom_jobs", lambda *message: messages.put_nowait(message[3]))
    await adopt_jobs(database)

    taken = await look(database, await make_worker(database))
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id LIKE 'xxx%'")

    assert {one.job_id for one in taken.claims} == {"x" * 8200, other}
    assert await balance_of(database, user) == 100
    told = [await asyncio.wait_for(messages.get(), HANGS_AFTER_S) for _ in range(3)]
    assert [json.loads(one)["id"] for one in told].count(None) == 2


async def test_refusal_of_every_row_claims_nothing_and_raises_nothing(database, foreign):
    jobs = [await make_job(database) for _ in range(3)]
    await refuse(database, "missing table", "true")

    taken = await look(database, await make_worker(database))

    assert (taken.claims, taken.refused) == ([], 3)
    for job in jobs:
        row = await queue_row(database, job)
        assert row["scheduled_at"] - row["refused_since"] < timedelta(seconds=20)


async def test_claim_behind_a_pooler_goes_on_after_a_refusal(database_url, database):
    from config.postgres_url import parse_postgres_url  # noqa: PLC0415 - one test
    from models.database import Database  # noqa: PLC0415

    pooled = Database(parse_postgres_url(f"{database_url}{'&' if '?' in database_url else '?'}pgbouncer=true"))
    await pooled.open()
    refused, other = await make_job(database), await make_job(database)
    await refuse(database, "raise", BY_STATUS.format(job=refused))

    try:
        taken = await look(pooled, await make_worker(database))
    finally:
        await pooled.close()

    assert [one.job_id for one in taken.claims] == [other]
    assert (await job_row(database, other))["status"] == "PROCESSING"


async def test_statement_that_the_database_refuses_is_told_from_its_moment():
    assert is_of_a_row(asyncpg.CheckViolationError("x"))
    for passing in (asyncpg.DeadlockDetectedError("x"), DatabaseLostError(OSError("x")), OSError("x")):
        assert not is_of_a_row(passing)


async def test_trigger_that_is_cancelled_for_its_time_keeps_no_other_job_from_its_start(database_url, database):
    from config.postgres_url import parse_postgres_url  # noqa: PLC0415 - one test
    from models.database import Database  # noqa: PLC0415

    refused, other = await make_job(database), await make_job(database)
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN PERFORM pg_sleep(9); RETURN NEW; END $body$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
            FOR EACH ROW WHEN (NEW.id = '{refused}') EXECUTE FUNCTION public.app_rule();
            DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 500', current_database()); END $$""",
    )
    limited = Database(parse_postgres_url(database_url))
    await limited.open()

    try:
        taken = await look(limited, await make_worker(database))
    finally:
        await limited.close()

    assert [one.job_id for one in taken.claims] in ([other], [])  # looking row by row ends after half a second
    assert (await queue_row(database, refused))["refused_state"] == "57014"


async def test_lock_that_a_trigger_of_one_row_wants_keeps_no_other_job_from_its_start(database, connect):
    worker = await make_worker(database)
    user = await make_user(database)
    waiting, other = await make_job(database, user_id=user), await make_job(database)
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN PERFORM FROM public.users u WHERE u.id = NEW."userId" FOR UPDATE; RETURN NEW; END $body$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
            FOR EACH ROW WHEN (NEW.id = '{waiting}') EXECUTE FUNCTION public.app_rule()""",
    )
    holder = await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM public.users WHERE id = $1 FOR UPDATE", user)
        with within(2):
            taken = await look(database, worker)

    assert [one.job_id for one in taken.claims] == [other]
    assert (await queue_row(database, waiting))["refused_state"] == "55P03"
    await make_due(database)
    assert [one.job_id for one in (await claim_refused(database, worker, "default", 8, DEADLINES)).claims] == [waiting]


async def test_state_that_a_trigger_always_raises_keeps_no_other_job_from_its_start(database):
    worker = await make_worker(database)
    refused = {await make_job(database): state for state in STATES}
    other = await make_job(database)
    await raise_states(database, refused, when="NEW.status = 'PROCESSING'")

    taken = await look(database, worker)

    assert [one.job_id for one in taken.claims] == [other]
    rows = await database.fetch("SELECT job_id, refused_state FROM darkroom.job_queue WHERE status = 'retrying'")
    assert {row["job_id"]: row["refused_state"] for row in rows} == refused


async def test_table_that_is_locked_sets_nothing_aside(database, connect):
    worker = await make_worker(database)
    job = await make_job(database)
    holder = await connect()
    async with holder.transaction():
        await holder.execute("LOCK TABLE public.image_enhancement_jobs")
        with pytest.raises(ContentionError):
            await look(database, worker)

    assert (await queue_row(database, job))["refusals"] == 0
    assert [one.job_id for one in (await look(database, worker)).claims] == [job]


async def test_many_rows_that_triggers_wait_for_in_vain_keep_no_other_job_from_its_start(database, connect):
    worker = await make_worker(database)
    await run(
        database,
        """CREATE TABLE public.app_seats (id text PRIMARY KEY);
           CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
           BEGIN PERFORM FROM public.app_seats s WHERE s.id = NEW.id FOR UPDATE; RETURN NEW; END $body$;
           CREATE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs
           FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )
    await many_jobs(database, 200)
    await run(database, "INSERT INTO public.app_seats SELECT id FROM public.image_enhancement_jobs")
    other = await make_job(database)
    holder = await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM public.app_seats FOR UPDATE")
        began_s, taken = time.monotonic(), []
        while not taken and time.monotonic() - began_s < HANGS_AFTER_S:
            taken = (await look(database, worker)).claims
        took_s = time.monotonic() - began_s

    assert [one.job_id for one in taken] == [other]
    assert is_within(took_s, 2)


async def test_many_jobs_that_another_program_holds_keep_no_other_from_its_start(database, connect):
    worker = await make_worker(database)
    await many_jobs(database, 200)
    other = await make_job(database)
    holder = await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM public.image_enhancement_jobs WHERE id <> $1 FOR UPDATE", other)
        with within(2):
            taken = await look(database, worker, 1)

    assert [one.job_id for one in taken.claims] == [other]
