"""What an application's own role, with any session settings, may do to the tables, and what it may not."""

import asyncpg
import pytest

from models.queue.rescue import adopt_jobs
from models.schema.migrations.installation import TRIGGERS
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    new_id,
    queue_row,
)

INSERT = """
INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
VALUES ($1, $2, $3, 'TIER_1K', 2, 'PENDING', now())
"""


@pytest.fixture
async def application(connect, database):
    """A connection as the application's role: every right on its tables, none on ours."""
    role = new_id("app_")
    owner = await connect()
    await owner.execute(
        f"""CREATE ROLE {role};
            GRANT USAGE, CREATE ON SCHEMA public TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"""
    )
    connection = await connect()
    await connection.execute(f"SET ROLE {role}")
    yield connection
    connection.terminate()
    await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.fixture
async def granted(application, database):
    """The same, allowed to submit and cancel."""
    role = await application.fetchval("SELECT current_user")
    await database.fetch("SELECT darkroom.grant_to($1)", role)
    return application


async def test_role_without_rights_on_our_schema_inserts_a_job(database, application):
    user = await make_user(database)
    image = await make_image(database, user)

    await application.execute(INSERT, "mine", image, user)

    assert await queue_row(database, "mine")
    assert await balance_of(database, user) == 98


@pytest.mark.parametrize("end", ["UPDATE {} SET status = 'CANCELLED'", "DELETE FROM {}"])
@pytest.mark.parametrize(
    ("table", "make"), [("image_enhancement_jobs", make_job), ("mcp_generation_jobs", make_generation)]
)
async def test_role_without_rights_on_our_schema_ends_a_job(database, application, end, table, make):
    user = await make_user(database)
    job = await make(database, user_id=user)

    await application.execute(end.format(table))

    assert await queue_row(database, job) is None
    assert await balance_of(database, user) == 100


async def test_role_without_rights_on_our_schema_opens_a_balance_and_deletes_a_user(database, application):
    user = await make_user(database, balance=None)
    await application.execute(
        """INSERT INTO user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b', $1, 5, now())""", user
    )
    await make_job(database, user_id=user)

    await application.execute("DELETE FROM users WHERE id = $1", user)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_role_without_rights_on_our_schema_renames_a_user(database, application):
    user = await make_user(database)
    job = await make_job(database, user_id=user)

    await application.execute("UPDATE users SET id = 'renamed' WHERE id = $1", user)

    assert (await queue_row(database, job))["user_id"] == "renamed"


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT * FROM darkroom.settings",
        "UPDATE darkroom.settings SET value = '0'",
        "DELETE FROM darkroom.job_queue",
        "SELECT darkroom.utc_now()",
        "SELECT darkroom.refund('{}')",
        "SELECT darkroom.charge('{}', '{}')",
        "SELECT darkroom.enqueue('{}', '{}')",
        "SELECT darkroom.follow('{}')",
        "SELECT darkroom.label_of_failure('a', 'b', 'c', 'd')",
        "SELECT darkroom.adopt()",
        "SELECT darkroom.record_opening_balances()",
        "SELECT darkroom.grant_to('public')",
        "SELECT darkroom.reserve_submission('a', 'b', 'c', 'd', '{}')",
    ],
)
async def test_granted_role_may_do_nothing_else(granted, forbidden):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await granted.execute(forbidden)


async def test_role_without_a_grant_may_not_submit(database, application):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.fetchval("SELECT darkroom.cancel_job('x')")


async def test_no_function_of_ours_is_anyones(database):
    rows = await database.fetch(
        """SELECT p.oid::regprocedure::text FROM pg_proc p
           WHERE p.pronamespace = 'darkroom'::regnamespace
             AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))"""
    )
    assert [row[0] for row in rows] == []


INLINED = {"album_pipelines", "due_periods", "due_regenerations", "is_terminal", "job_rows", "jobs_of"}
"""Functions without our rights that PostgreSQL puts into the query that asks. Those of what is due are called by
functions of ours alone, and the others name the schema of what they call."""

CALLED_BY_OURS = {"enqueue_one", "has_subscriptions", "may_hide_jobs"}
"""Functions without our rights that functions of ours call at each entry, whose search path holds: setting one takes as
long as a small statement."""


async def test_every_function_with_our_rights_has_its_own_search_path(database):
    rows = await database.fetch(
        """SELECT p.proname::text, p.prosecdef FROM pg_proc p
           WHERE p.pronamespace = 'darkroom'::regnamespace AND (p.prosecdef OR p.prosqlbody IS NULL)
             AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)"""
    )
    assert [row[0] for row in rows if row["prosecdef"]] == []
    assert {row[0] for row in rows} == INLINED | CALLED_BY_OURS


async def test_view_of_jobs_is_deceived_by_no_search_path(database, connect):
    await make_job(database)
    connection = await connect()
    await connection.execute(
        """CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''deceived''; END';
           CREATE FUNCTION public.never("JobStatus", "JobStatus") RETURNS boolean LANGUAGE plpgsql
               AS 'BEGIN RAISE ''deceived''; END';
           CREATE OPERATOR public.= (LEFTARG = "JobStatus", RIGHTARG = "JobStatus", FUNCTION = public.never);
           CREATE FUNCTION public.never(text, text) RETURNS boolean LANGUAGE plpgsql
               AS 'BEGIN RAISE ''deceived''; END';
           CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.never);
           SET search_path = public, pg_catalog"""
    )

    rows = await connection.fetch("SELECT type, darkroom.is_terminal(status) FROM darkroom.job_rows('{PENDING}')")

    assert [tuple(row) for row in rows] == [("enhance", False)]


async def test_granted_role_submits_and_cancels(database, granted):
    user = await make_user(database, balance=2)
    image = await make_image(database, user)

    job = await granted.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K')", user, image)
    assert await balance_of(database, user) == 0

    assert await granted.fetchval("SELECT darkroom.cancel_job($1)", job) == "CANCELLED"
    assert await balance_of(database, user) == 2


async def test_temporary_tables_and_functions_of_a_role_deceive_no_trigger(database, granted):
    user = await make_user(database, balance=2)
    image = await make_image(database, user)
    await granted.execute(
        """CREATE TEMP TABLE users (id text); CREATE TEMP TABLE user_token_balances ("userId" text, balance integer);
           CREATE TEMP TABLE settings (key text, value jsonb); CREATE TEMP TABLE job_money (kind text);
           CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''deceived''; END';
           CREATE FUNCTION public.sum_of(integer, integer) RETURNS boolean LANGUAGE plpgsql
               AS 'BEGIN RAISE ''deceived''; END';
           CREATE OPERATOR public.< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.sum_of);
           CREATE OPERATOR public.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.sum_of);
           SET search_path = pg_temp, public, pg_catalog"""
    )

    await granted.execute(INSERT, "mine", image, user)
    assert await balance_of(database, user) == 0
    await granted.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert await balance_of(database, user) == 2


async def test_job_inserted_past_the_triggers_is_adopted_uncharged(database, foreign):
    user = await make_user(database, balance=0)
    image = await make_image(database, user)
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute(INSERT, "restored", image, user)

    assert await adopt_jobs(database) == (1, 0)

    assert [held.job_id for held in await claim_jobs(database)] == ["restored"]
    assert await balance_of(database, user) == 0


SETTINGS = (
    "SET TimeZone = 'Asia/Tokyo'",
    "SET DateStyle = 'SQL, DMY'",
    "SET IntervalStyle = 'iso_8601'",
    "SET search_path = ''",
    "SET plan_cache_mode = 'force_generic_plan'",
    "SET enable_indexscan = off; SET enable_bitmapscan = off",
    "SET standard_conforming_strings = off",
    "SET quote_all_identifiers = on",
    "SET extra_float_digits = -15",
    "SET lc_messages = 'C'; SET client_min_messages = 'error'",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET default_transaction_isolation = 'serializable'",
    "SET row_security = off; SET check_function_bodies = off",
    "SET constraint_exclusion = on; SET jit = on; SET jit_above_cost = 0",
)


@pytest.mark.parametrize("setting", SETTINGS)
async def test_session_of_any_setting_inserts_and_cancels(database, foreign, setting):
    user = await make_user(database)
    image = await make_image(database, user)
    try:
        await foreign.execute(setting)
    except asyncpg.PostgresError as error:
        pytest.skip(f"this server has no such setting: {error}")

    for number in range(7):  # more than the five after which PostgreSQL keeps a plan
        sql = INSERT.replace("image_enhancement_jobs", "public.image_enhancement_jobs")
        await foreign.execute(sql, f"s{number}", image, user)
        await foreign.execute(
            "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", f"s{number}"
        )

    assert await balance_of(database, user) == 100
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money") == 14


async def test_merge_and_update_from_are_updates_like_any_other(database, foreign):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user) for _ in range(4)]

    await foreign.execute(
        """MERGE INTO public.image_enhancement_jobs j USING unnest($1::text[]) AS wanted (id) ON j.id = wanted.id
           WHEN MATCHED THEN UPDATE SET status = 'CANCELLED'""",
        jobs[:2],
    )
    await foreign.execute(
        """UPDATE public.image_enhancement_jobs j SET status = 'FAILED' FROM unnest($1::text[]) AS wanted (id)
           WHERE j.id = wanted.id""",
        jobs[2:],
    )

    assert await balance_of(database, user) == 100
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_statement_that_ends_some_jobs_and_deletes_others_settles_each_once(database, foreign):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user) for _ in range(4)]

    await foreign.execute(
        """WITH gone AS (DELETE FROM public.image_enhancement_jobs WHERE id = ANY ($1))
           UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = ANY ($2)""",
        jobs[:2],
        jobs[2:],
    )

    assert await balance_of(database, user) == 100
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 4


async def test_statement_with_different_ends_settles_each_by_its_own(database, foreign):
    user = await make_user(database)
    held = [await make_claim(database, user_id=user) for _ in range(4)]
    ends = ["COMPLETED", "CANCELLED", "FAILED", "PENDING"]

    await foreign.execute(
        """UPDATE public.image_enhancement_jobs j SET status = e.status::public."JobStatus"
           FROM unnest($1::text[], $2::text[]) AS e (id, status) WHERE j.id = e.id""",
        [claim.job_id for claim in held],
        ends,
    )

    assert [(await job_row(database, claim.job_id))["status"] for claim in held] == ends
    assert await balance_of(database, user) == 96
    assert [held_again.job_id for held_again in await claim_jobs(database, most=9)] == [held[3].job_id]


async def test_savepoint_rolled_back_takes_its_refund_along(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)

    async with foreign.transaction():
        savepoint = foreign.transaction()
        await savepoint.start()
        await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")
        await savepoint.rollback()

    assert await queue_row(database, job)
    assert await balance_of(database, user) == 98


async def test_application_trigger_that_changes_the_row_keeps_ours_working(database, foreign):
    await foreign.execute(
        """CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN NEW."updatedAt" := now(); RETURN NEW; END';
           CREATE TRIGGER a_touch BEFORE UPDATE ON public.image_enhancement_jobs
               FOR EACH ROW EXECUTE FUNCTION public.touch();
           CREATE TRIGGER z_touch BEFORE UPDATE ON public.image_enhancement_jobs
               FOR EACH ROW EXECUTE FUNCTION public.touch()"""
    )
    user = await make_user(database)
    job = await make_job(database, user_id=user)

    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert (await job_row(database, job))["status"] == "CANCELLED"
    assert await balance_of(database, user) == 100


async def test_our_triggers_fire_in_ordinary_sessions_and_never_as_replica(database):
    rows = await database.fetch(
        """SELECT tgname, tgenabled FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
           WHERE p.pronamespace = 'darkroom'::regnamespace AND NOT tgisinternal"""
    )
    assert {row["tgenabled"] for row in rows} == {b"O"}
    of_the_queue = {"ask_for_slot", "free_slot", "free_slots"}
    assert of_the_queue <= {row["tgname"] for row in rows}
    assert len(rows) == len(await database.fetch(str(TRIGGERS))) + len(of_the_queue)
