"""Which rows retention deletes, and which it never deletes (promise I11)."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import structlog

from config.settings import SettingsError
from models.periodic.retention import ForbiddenPolicyError
from pipelines.settings import Settings, load_settings
from tests.support.builders import claim_jobs, make_image, make_job, make_user, new_id, set_status
from tests.support.rules import refuse, run
from workers.operations.errors import InvalidInputError
from workers.operations.schedule import require_allowed_policies
from workers.periodic.registry import periodic_tasks
from workers.periodic.tasks.prune_records import policy_of

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def at(days: float) -> datetime:
    """So many days before NOW, as the application's columns hold it."""
    return (NOW - timedelta(days=days)).replace(tzinfo=None)


async def add_errors(database, *days: float) -> None:
    for age in days:
        await database.fetch(
            """INSERT INTO public.error_logs (id, "timestamp", message, environment) VALUES ($1, $2, $3, 'BACKEND')""",
            new_id("e"),
            at(age),
            f"{age:g}",
        )


async def test_rows_older_than_the_policy_go_and_no_others(database, make_engine):
    await add_errors(database, 29.9, 30.1, 400)

    counted = await make_engine().count("prune-error_logs", NOW)
    counts = await make_engine().run_extra("prune-error_logs", NOW)

    rows = await database.fetch("SELECT message FROM public.error_logs")
    assert counted == counts == {"deleted": 2}
    assert [row["message"] for row in rows] == ["29.9"]


async def test_many_rows_go_in_chunks(database, make_engine):
    await database.fetch(
        """INSERT INTO public.error_logs (id, "timestamp", message, environment)
           SELECT 'e' || n, $1::timestamp - n % 7 * interval '1 hour', 'x', 'BACKEND'
           FROM generate_series(1, 5000) n""",
        at(40),
    )

    counts = await make_engine().run_extra("prune-error_logs", NOW)

    assert counts == {"deleted": 5000}


async def test_locked_row_is_left_for_the_next_tick(database, database_url, make_engine):
    await add_errors(database, 40, 41)
    foreign = await asyncpg.connect(database_url)
    await foreign.execute("BEGIN")
    await foreign.execute("SELECT FROM public.error_logs WHERE message = '41' FOR UPDATE")

    first = await make_engine().run_extra("prune-error_logs", NOW)
    await foreign.execute("COMMIT")
    await foreign.close()
    second = await make_engine().run_extra("prune-error_logs", NOW + timedelta(hours=1))

    assert (first["deleted"], second["deleted"]) == (1, 1)


async def test_cells_of_days_long_over_go_and_those_of_no_day_and_of_late_stay(database, make_engine):
    now = datetime.now(UTC)
    ages = {"epoch": None, "old": 36, "recent": 34, "yesterday": 1}
    for name, days in ages.items():
        start = datetime(1970, 1, 1, tzinfo=UTC) if days is None else now - timedelta(days=days)
        await database.fetch(
            "INSERT INTO darkroom.limits (scope, name, window_start) VALUES ('budget', $1, $2)", name, start
        )

    counts = await make_engine().run_extra("prune-limits", now)
    left = {row["name"] for row in await database.fetch("SELECT name FROM darkroom.limits")}
    await make_engine(retention={"limits": 0}).run_extra("prune-limits", now)

    assert (counts["deleted"], left) == (1, {"epoch", "recent", "yesterday"})
    assert {row["name"] for row in await database.fetch("SELECT name FROM darkroom.limits")} == {"epoch", "yesterday"}


async def test_unprocessed_webhooks_and_living_sessions_stay(database, make_engine):
    user_id = await make_user(database)
    for processed in (True, False):
        await database.fetch(
            """INSERT INTO public.merch_webhook_events (id, provider, "eventId", "eventType", processed, payload,
                   "createdAt") VALUES ($1, 'p', $1, 't', $2, '{}', $3)""",
            new_id("w"),
            processed,
            at(91),
        )
    for days in (0.1, -0.1):
        await database.fetch(
            'INSERT INTO public.sessions (id, "sessionToken", "userId", expires) VALUES ($1, $1, $2, $3)',
            new_id("s"),
            user_id,
            at(days),
        )
        await database.fetch("INSERT INTO public.verification_tokens VALUES ($1, $1, $2)", new_id("v"), at(days))
        await database.fetch(
            """INSERT INTO public.campaign_metrics_cache (id, "cacheKey", metrics, "expiresAt")
               VALUES ($1, $1, '{}', $2)""",
            new_id("c"),
            at(days),
        )

    tables = ("merch_webhook_events", "sessions", "verification_tokens", "campaign_metrics_cache")
    for table in tables:
        assert await make_engine().run_extra(f"prune-{table}", NOW) == {"deleted": 1}

    assert not await database.fetchval("SELECT processed FROM public.merch_webhook_events")


async def test_policy_for_a_table_of_the_applications_own(database, make_engine):
    await database.fetch("CREATE TABLE public.visits (seen timestamptz, done boolean)")
    await database.fetch("INSERT INTO public.visits VALUES ($1, true), ($1, false)", NOW - timedelta(days=11))

    engine = make_engine(retention={"visits": {"column": "seen", "days": 10, "where": "t.done"}})

    assert await engine.run_extra("prune-visits", NOW) == {"deleted": 1}


PARTITIONED = """
CREATE TABLE public.page_views (id text, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE public.page_views_old PARTITION OF public.page_views FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE public.page_views_new PARTITION OF public.page_views FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
"""
INHERITED = """
CREATE TABLE public.page_views (id text, at timestamptz NOT NULL);
CREATE TABLE public.page_views_new () INHERITS (public.page_views);
"""


@pytest.mark.parametrize("is_guarded", [False, True], ids=["all at once", "one by one"])
@pytest.mark.parametrize(("ddl", "suffix"), [(PARTITIONED, "_old"), (INHERITED, "")], ids=["partitions", "inheritance"])
async def test_row_at_the_same_place_of_another_partition_stays(database, make_engine, ddl, suffix, is_guarded):
    await run(database, ddl)
    if is_guarded:
        await refuse(database, "raise", "OLD.id = 'old1'", table=f"page_views{suffix}", events="DELETE")
    old, new = NOW - timedelta(days=400), NOW - timedelta(days=1)
    add = "INSERT INTO public.page_views{} SELECT $1 || n, $2 FROM generate_series(1, 60) n"
    await database.fetch(add.format(suffix), "old", old)
    await database.fetch(add.format("_new"), "new", new)
    policy = {"column": "at", "days": 30}

    counts = await make_engine(retention={"page_views": policy}).run_extra("prune-page_views", NOW)

    kept = {row["id"] for row in await database.fetch("SELECT id FROM public.page_views")}
    assert kept == {f"new{n}" for n in range(1, 61)} | ({"old1"} if is_guarded else set())
    assert counts["deleted"] == 60 - is_guarded


@pytest.mark.parametrize(
    "table",
    [
        *("token_transactions", "audit_logs", "job_money", "job_queue", "image_enhancement_jobs"),
        *("mcp_generation_jobs", "users", "user_token_balances", "enhanced_images", "token_entries"),
    ],
)
def test_policy_that_names_money_audit_or_jobs_is_refused_at_start(table):
    with pytest.raises(SettingsError, match=table):
        load_settings({"DARKROOM_RETENTION": f'{{"{table}": {{"column": "createdAt", "days": 1}}}}'})
    with pytest.raises(ForbiddenPolicyError, match=table):
        policy_of(table, 1)


def test_policy_without_a_column_for_an_unknown_table_is_refused_at_start():
    with pytest.raises(ForbiddenPolicyError, match="visits"):
        periodic_tasks(Settings(retention={"visits": 3}))


async def test_week_is_dropped_whole_once_no_unfinished_job_refers_to_it(database, make_engine):
    now = await database.fetchval("SELECT clock_timestamp()")
    long_ago = now - timedelta(days=70)
    await database.fetch("SELECT darkroom.add_weeks('stage_runs', $1, 2)", long_ago)
    job_id = await make_job(database)
    insert = "INSERT INTO darkroom.stage_runs (job_type, job_id, event, at) VALUES ('enhance', $1, 'claimed', $2)"
    await database.fetch(insert, job_id, long_ago)
    await database.fetch(insert, "finished long ago", long_ago + timedelta(days=7))
    weeks = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'darkroom.stage_runs'::regclass"
    before = await database.fetchval(weeks)

    held = await make_engine().run_extra("prune-stage_runs", now)
    await database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job_id)
    counted = await make_engine().count("prune-stage_runs", now + timedelta(hours=1))
    freed = await make_engine().run_extra("prune-stage_runs", now + timedelta(hours=1))

    assert (held["weeks_dropped"], counted["weeks_dropped"], freed["weeks_dropped"]) == (1, 1, 1)
    assert await database.fetchval(weeks) == before - 2
    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE job_id = 'finished long ago'") == 0


async def test_coming_weeks_exist_and_the_default_partition_stays_empty(database, make_engine):
    now = await database.fetchval("SELECT clock_timestamp()")
    await make_job(database)
    await claim_jobs(database)
    for log in ("stage_runs", "ticks"):
        await make_engine().run_extra(f"prune-{log}", now + timedelta(days=20))

    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs") > 0
    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs_default") == 0
    for log in ("stage_runs", "ticks"):
        name = await database.fetchval(
            f"SELECT to_regclass('darkroom.{log}_' || to_char($1::timestamptz AT TIME ZONE 'utc', 'IYYY\"w\"IW'))",
            now + timedelta(days=48),
        )
        assert name is not None


async def test_week_whose_rows_the_default_partition_caught_is_passed_over_and_pruned_by_row(database, make_engine):
    insert = "INSERT INTO darkroom.stage_runs (job_type, job_id, event, at) VALUES ('enhance', 'x', 'claimed', $1)"
    for days in (40, 1):
        await database.fetch(insert, NOW - timedelta(days=days))

    counts = await make_engine().run_extra("prune-stage_runs", NOW)

    assert counts["deleted"] == 1
    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs_default") == 1


async def test_unfinished_tick_keeps_its_row(database, make_engine):
    insert = "INSERT INTO darkroom.ticks (task, tick_at, status) VALUES ('x', $1, $2)"
    await database.fetch(insert, NOW - timedelta(days=900), "running")
    await database.fetch(insert, NOW - timedelta(days=901), "finished")

    assert (await make_engine().run_extra("prune-ticks", NOW))["deleted"] == 1


def refused_names():
    return [
        *("subscription_plans", "merch_orders", "merch_order_items", "token_ledger", "credit_transactions", "invoices"),
        *("user_wallets", "stripe_payments", "admin_audit", "coupons"),
    ]


@pytest.mark.parametrize("table", refused_names())
def test_policy_for_a_table_that_is_named_as_money_is_refused_at_start(table):
    with pytest.raises(SettingsError, match=f"DARKROOM_RETENTION.*{table}"):
        load_settings({"DARKROOM_RETENTION": f'{{"{table}": {{"column": "createdAt", "days": 1}}}}'})


TIED = {
    "holds an amount": 'CREATE TABLE public.old (seen timestamptz, "amountPaid" integer)',
    "holds a total": "CREATE TABLE public.old (seen timestamptz, total numeric)",
    "holds a fee": "CREATE TABLE public.old (seen timestamptz, service_fee bigint)",
    "holds money": "CREATE TABLE public.old (seen timestamptz, sum money)",
    "cascades to users": """
        CREATE TABLE public.old (id text PRIMARY KEY, seen timestamptz);
        ALTER TABLE public.users ADD old text REFERENCES public.old ON DELETE CASCADE""",
    "cascades over another table": """
        CREATE TABLE public.old (id text PRIMARY KEY, seen timestamptz);
        CREATE TABLE public.between (id text PRIMARY KEY, old text REFERENCES public.old ON DELETE CASCADE);
        ALTER TABLE public.audit_logs ADD between text REFERENCES public.between ON DELETE CASCADE""",
    "changes rows of the ledger": """
        CREATE TABLE public.old (id text PRIMARY KEY, seen timestamptz);
        ALTER TABLE public.token_transactions ADD old text REFERENCES public.old ON DELETE SET NULL""",
    "is a part of the ledger": "CREATE TABLE public.old (seen timestamptz) INHERITS (public.token_transactions)",
    "shows the ledger": 'CREATE VIEW public.old AS SELECT "createdAt" AS seen FROM token_transactions',
}


@pytest.mark.parametrize("ddl", TIED.values(), ids=TIED)
async def test_policy_that_reaches_money_deletes_nothing_and_no_scheduler_starts_with_it(database, make_engine, ddl):
    async with database.connection() as connection:
        await connection.execute(ddl)
    fields = {"retention": {"old": {"column": "seen", "days": 1}}}

    with pytest.raises(InvalidInputError, match=r"DARKROOM_RETENTION: retention .*public\.old"):
        await require_allowed_policies(database, Settings(**fields))
    with pytest.raises(ForbiddenPolicyError, match=r"public\.old"):
        await make_engine(**fields).run_extra("prune-old", NOW)


async def test_known_table_that_takes_users_along_is_refused_too(database):
    async with database.connection() as connection:
        await connection.execute(
            "ALTER TABLE public.users ADD session text REFERENCES public.sessions ON DELETE CASCADE"
        )

    with pytest.raises(InvalidInputError, match=r"public\.sessions.*users"):
        await require_allowed_policies(database, Settings())


async def test_default_policies_and_one_that_only_refers_to_users_are_allowed(database):
    async with database.connection() as connection:
        await connection.execute(
            """CREATE TABLE public.visits (
                   seen timestamptz, "userId" text REFERENCES public.users ON DELETE CASCADE, n int)"""
        )

    await require_allowed_policies(database, Settings(retention={"visits": {"column": "seen", "days": 1}}))


@pytest.mark.parametrize(("status", "is_kept"), [("PENDING", True), ("PROCESSING", True), ("CANCELLED", False)])
async def test_submission_is_forgotten_once_its_job_is_long_over(database, make_engine, status, is_kept):
    user = await make_user(database)
    image = await make_image(database, user)
    submit = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'key')"
    job = await database.fetchval(submit, user, image)
    await set_status(database, job, status)
    await database.fetch("DELETE FROM darkroom.job_queue")
    await database.fetch("UPDATE darkroom.submissions SET created_at = $1", NOW - timedelta(days=401))

    counts = await make_engine().run_extra("prune-submissions", NOW)

    assert counts == {"deleted": 0 if is_kept else 1}
    assert (await make_engine(retention={"submissions": 500}).count("prune-submissions", NOW))["deleted"] == 0


async def test_queued_submission_is_kept_even_where_the_job_is_gone(database, make_engine):
    user = await make_user(database)
    image = await make_image(database, user)
    submit = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'key')"
    await database.fetchval(submit, user, image)
    await database.fetch("UPDATE darkroom.submissions SET created_at = $1", NOW - timedelta(days=401))

    assert await make_engine().run_extra("prune-submissions", NOW) == {"deleted": 0}

    await database.fetch("DELETE FROM public.image_enhancement_jobs")
    assert await make_engine().run_extra("prune-submissions", NOW + timedelta(hours=1)) == {"deleted": 1}


@pytest.mark.parametrize(("status", "is_kept"), [("PENDING", True), ("PROCESSING", True), ("FAILED", False)])
async def test_what_a_stage_left_is_kept_until_its_job_is_long_over(database, make_engine, status, is_kept):
    job = await make_job(database)
    await set_status(database, job, status)
    insert = "INSERT INTO darkroom.checkpoints (job_type, job_id, stage, at) VALUES ('enhance', $1, $2, $3)"
    await database.fetch(insert, job, "CHECKING", NOW - timedelta(days=31))
    await database.fetch(insert, job, "SHARPENING", NOW - timedelta(days=29))

    counts = await make_engine().run_extra("prune-checkpoints", NOW)

    assert counts == {"deleted": 0 if is_kept else 1}
    rows = await database.fetch("SELECT stage FROM darkroom.checkpoints")
    assert "SHARPENING" in {row["stage"] for row in rows}


async def test_policy_for_a_table_that_is_gone_is_passed_over_and_says_so(database, make_engine):
    await database.fetch("DROP TABLE public.sessions")
    await database.fetch('ALTER TABLE public.merch_webhook_events RENAME COLUMN "createdAt" TO created')
    engine = make_engine(retention={"typo": {"column": "seen", "days": 1}})

    with structlog.testing.capture_logs() as logs:
        for name in ("prune-sessions", "prune-merch_webhook_events", "prune-typo"):
            for day in range(2):
                assert await engine.run_extra(name, NOW + timedelta(days=day)) == {}

    said = [(log["task"], log["reason"]) for log in logs if log["event"] == "task_passed_over"]
    assert said == [
        ("prune-sessions", "passed over: public.sessions not there"),
        ("prune-merch_webhook_events", "passed over: public.merch_webhook_events.createdAt not there"),
        ("prune-typo", "passed over: public.typo not there"),
    ]
