"""A rule of the application's that silently changes a booking: it is refused, or owed, and never half done."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.money.ledger import add_tokens
from tests.support.builders import (
    balance_of,
    job_row,
    ledger_of,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
    queue_row,
    set_status,
)
from tests.support.periodic_rows import make_subscription, set_last
from tests.support.rules import run

LEDGER, BALANCES = "token_transactions", "user_token_balances"

STATEMENTS = {
    "ledger row kept away": (LEDGER, "BEFORE INSERT", "RETURN NULL;"),
    "ledger row of another amount": (LEDGER, "BEFORE INSERT", "NEW.amount := NEW.amount / 2; RETURN NEW;"),
    "ledger row of nothing": (LEDGER, "BEFORE INSERT", "NEW.amount := 0; RETURN NEW;"),
    "ledger that keeps the balance in step": (
        *(LEDGER, "AFTER INSERT"),
        'UPDATE public.user_token_balances SET balance = balance + NEW.amount WHERE "userId" = NEW."userId";',
    ),
    "balance kept": (BALANCES, "BEFORE UPDATE", "RETURN NULL;"),
    "balance put back": (BALANCES, "BEFORE UPDATE", "RETURN OLD;"),
    "balance of one more": (BALANCES, "BEFORE UPDATE", "NEW.balance := NEW.balance + 1; RETURN NEW;"),
    "balance changed afterwards": (
        *(BALANCES, "AFTER UPDATE"),
        "IF NEW.balance % 13 <> 0 THEN UPDATE public.user_token_balances SET balance = 13 WHERE id = NEW.id; END IF;",
    ),
}
"""What a trigger may do without a word: its table, its events and its body."""

START = datetime(2028, 1, 15, 12, tzinfo=UTC)
LATER = (START + timedelta(days=40)).replace(tzinfo=None)


async def alter(database, way, *, condition="true"):
    table, events, body = STATEMENTS[way]
    await run(
        database,
        f"""CREATE OR REPLACE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN IF {condition} THEN {body} END IF; RETURN NEW; END $body$;
            CREATE TRIGGER app_rule {events} ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )


async def leave(database, way):
    await run(database, f"DROP TRIGGER app_rule ON public.{STATEMENTS[way][0]}")


async def money_of(database, user):
    return await balance_of(database, user), len(await ledger_of(database, user)), await money_violations(database)


async def opened(database, user):
    """Give a balance a beginning, so that a violation of its own would be seen."""
    assert await money_violations(database) == []
    return await money_of(database, user)


INSERTS = {
    "enhancement": lambda database, user: make_job(database, user_id=user),
    "generation": lambda database, user: make_generation(database, user_id=user, tier="TIER_4K"),
}


@pytest.mark.parametrize("insert", INSERTS)
async def test_charge_that_a_rule_alters_is_refused_with_its_job(database, insert):
    user = await make_user(database)
    before, found = await opened(database, user), {}

    for way in STATEMENTS:
        await alter(database, way)
        with pytest.raises(asyncpg.TriggeredDataChangeViolationError, match="a trigger or rule"):
            await INSERTS[insert](database, user)
        found[way] = await money_of(database, user)
        await leave(database, way)

    assert found == dict.fromkeys(STATEMENTS, before)
    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 0
    await INSERTS[insert](database, user)


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_charge_that_a_rule_alters_is_refused_at_other_isolation_levels(database, database_url, level):
    user = await make_user(database)
    image, before, found = await make_image(database, user), await opened(database, user), {}
    connection = await asyncpg.connect(database_url)
    # what a serializable transaction returns of its balance is all that it reads of it
    ways = [way for way in STATEMENTS if level != "serializable" or way != "balance changed afterwards"]

    for way in ways:
        await alter(database, way)
        with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
            async with connection.transaction(isolation=level):
                await connection.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K')", user, image)
        found[way] = await money_of(database, user)
        await leave(database, way)

    assert found == dict.fromkeys(ways, before)
    await connection.close()


async def test_charge_beside_a_rule_for_new_balances_takes_what_the_job_costs(database, database_url):
    await run(
        database,
        """CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN NEW.balance := 10; RETURN NEW; END';
           CREATE TRIGGER app_rule BEFORE INSERT ON public.user_token_balances
           FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )
    user = await make_user(database)
    image = await make_image(database, user)
    connection = await asyncpg.connect(database_url)

    async with connection.transaction(isolation="serializable"):
        job = await connection.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K')", user, image)
    assert await balance_of(database, user) == 8
    await set_status(database, job, "CANCELLED")

    assert await balance_of(database, user) == 10
    assert await money_violations(database) == []
    await connection.close()


@pytest.mark.parametrize("insert", INSERTS)
async def test_refund_that_a_rule_alters_is_owed_and_paid_once_later(database, insert):
    found, settled = {}, {}

    for way in STATEMENTS:
        user = await make_user(database)
        job = await INSERTS[insert](database, user)
        charged = await money_of(database, user)
        await alter(database, way)
        await set_status(database, job, "CANCELLED")
        owed = await database.fetchval("SELECT owed FROM darkroom.refunds_owed WHERE job_id = $1", job)
        status, queued = (await job_row(database, job))["status"], await queue_row(database, job)
        found[way] = (status, queued, owed, await money_of(database, user) == charged)
        await leave(database, way)
        await database.fetch("SELECT darkroom.settle_refused_end(job_type, job_id) FROM darkroom.refunds_owed")
        settled[way] = (await balance_of(database, user), await money_violations(database))

    price = 2 if insert == "enhancement" else 10
    assert found == dict.fromkeys(STATEMENTS, ("CANCELLED", None, price, True))
    assert settled == dict.fromkeys(STATEMENTS, (100, []))


async def test_refund_of_one_user_that_a_rule_alters_keeps_nobody_elses(database):
    users = [await make_user(database) for _ in range(3)]
    for user in users:
        await make_job(database, user_id=user)
    await alter(database, "ledger row kept away", condition=f"NEW.\"userId\" = '{users[1]}'")

    await database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert [await balance_of(database, user) for user in users] == [100, 98, 100]
    assert await database.fetchval("SELECT array_agg(user_id) FROM darkroom.refunds_owed") == [users[1]]
    assert await money_violations(database) == []


async def grant(database, user):
    async with database.connection() as connection, connection.transaction():
        await add_tokens(connection, user, 7, kind="EARN_ADMIN_ADJUSTMENT", source="operator_grant")


async def regenerate(database, user):
    await database.fetchval("SELECT darkroom.regenerate_at($1, $2)", user, LATER)


async def renew(database, user):
    await database.fetch("SELECT * FROM darkroom.renew_chunk($1, '', 10, $2)", LATER, user)


@pytest.mark.parametrize("give", [grant, regenerate, renew])
async def test_tokens_that_a_rule_alters_are_not_given(database, give):
    user = await make_user(database)
    await set_last(database, user, START)
    if give is renew:
        await make_subscription(database, user, START, START + timedelta(days=31), maxRollover=1_000)
    before, found = await opened(database, user), {}

    for way in STATEMENTS:
        await alter(database, way)
        with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
            await give(database, user)
        found[way] = await money_of(database, user)
        await leave(database, way)

    assert found == dict.fromkeys(STATEMENTS, before)
    await give(database, user)
    assert (await balance_of(database, user) > 100, await money_violations(database)) == (True, [])


async def test_period_whose_subscription_a_rule_keeps_is_not_paid(database):
    user = await make_user(database)
    await make_subscription(database, user, START, START + timedelta(days=31))
    before = await opened(database, user)
    for body in ("RETURN NULL", "RETURN OLD"):
        await run(
            database,
            f"""CREATE OR REPLACE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; END';
                CREATE OR REPLACE TRIGGER app_rule BEFORE UPDATE ON public.subscriptions
                FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
        )
        with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
            await renew(database, user)

    assert await money_of(database, user) == before


@pytest.mark.parametrize("body", ["RETURN NULL;", "NEW.status := 'FAILED'; RETURN NEW;"])
@pytest.mark.parametrize("table", ["image_enhancement_jobs", "mcp_generation_jobs"])
async def test_submission_whose_row_a_rule_keeps_away_is_refused(database, table, body):
    user = await make_user(database)
    image = await make_image(database, user)
    await run(
        database,
        f"""CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;
            CREATE TRIGGER app_rule BEFORE INSERT ON public.{table}
            FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )
    statement = (
        "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => 'k')"
        if table == "image_enhancement_jobs"
        else "SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_1K', $2, idempotency_key => 'k')"
    )

    with pytest.raises(asyncpg.TriggeredDataChangeViolationError, match="did not become PENDING"):
        await database.fetchval(statement, user, image)

    assert await balance_of(database, user) == 100
    await run(database, f"DROP TRIGGER app_rule ON public.{table}")
    assert await queue_row(database, await database.fetchval(statement, user, image))


async def test_rule_that_discards_ledger_rows_keeps_jobs_out_and_refunds_owed(database):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await run(database, "CREATE RULE app_rule AS ON INSERT TO public.token_transactions DO INSTEAD NOTHING")

    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await make_job(database, user_id=user)
    await set_status(database, job, "FAILED")

    assert await balance_of(database, user) == 98
    assert await database.fetchval("SELECT owed FROM darkroom.refunds_owed") == 2
    assert await money_violations(database) == []
