"""A job whose end the database refuses: it ends, its label is written later, and its refund is paid once or owed."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.queue.claims import FencedError
from models.queue.leases import sign_off
from models.queue.refusals import settle_refused, settle_refused_ends
from models.queue.rescue import adopt_jobs, end_overdue_jobs, rescue_lost_claims
from models.queue.transitions import Failed, Released, Retried, record
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    ledger_of,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
    queue_row,
    set_mode,
    set_status,
)
from tests.support.rules import STATEMENTS, allow, refuse, run

MOST = 2_147_483_647


async def write(database, claim, transition):
    """Record as a runner does: what the database refuses is settled in another way."""
    try:
        await database.run(lambda connection: record(connection, claim, transition))
    except asyncpg.PostgresError as error:
        await settle_refused(database, claim, transition, error)


async def refused_end(database, job):
    return await database.fetchrow("SELECT * FROM darkroom.refused_ends WHERE job_id = $1", job)


async def owed(database):
    return {row["job_id"]: row["owed"] for row in await database.fetch("SELECT * FROM darkroom.refunds_owed")}


async def an_hour_later(database):
    await database.fetch("UPDATE darkroom.refused_ends SET tried_at = tried_at - interval '1 hour'")


async def fill_balance(database, user, balance=MOST):
    """Give a user as much as a balance can hold, by the application's hand, and note it as the opening balance."""
    await database.fetch('UPDATE public.user_token_balances SET balance = $2 WHERE "userId" = $1', user, balance)
    await database.fetch(
        """UPDATE darkroom.opening_balances SET balance = $2 - (
               SELECT coalesce(sum(amount), 0) FROM public.token_transactions WHERE "userId" = $1)
           WHERE user_id = $1""",
        user,
        balance,
    )


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred"])
@pytest.mark.parametrize("table", ["image_enhancement_jobs", "mcp_generation_jobs"])
async def test_failure_of_a_row_that_refuses_every_change_is_refunded_and_its_label_waits(database, kind, table):
    claim = await make_claim(database, "enhancements" if table == "image_enhancement_jobs" else "generations")
    await refuse(database, kind, "true", table=table)

    await write(database, claim, Failed(claim.stage, "no such picture"))

    end = await refused_end(database, claim.job_id)
    assert (end["label"], end["reason"], end["owed"]) == ("REFUNDED", "no such picture", 0)
    assert "SQLSTATE" in end["words"]
    assert await queue_row(database, claim.job_id) is None
    assert await balance_of(database, claim.user_id) == 100
    assert (await job_row(database, claim.job_id))["status"] == "PROCESSING"
    assert await adopt_jobs(database) == (0, 0)

    await allow(database, table)
    assert await settle_refused_ends(database) == 0
    await an_hour_later(database)
    assert await settle_refused_ends(database) == 1

    row = await job_row(database, claim.job_id)
    assert (row["status"], row["errorMessage"]) == ("REFUNDED", "no such picture")
    assert await balance_of(database, claim.user_id) == 100
    assert await refused_end(database, claim.job_id) is None
    ends = await database.fetch("SELECT outcome FROM darkroom.job_ends")  # one, although its label came later
    assert [end["outcome"] for end in ends] == ["REFUNDED"]


@pytest.mark.parametrize(
    "check",
    ['length("errorMessage") < 5', '"retryCount" < 1', "status <> 'REFUNDED' OR \"errorMessage\" IS NULL"],
)
async def test_label_is_written_alone_where_only_what_goes_with_it_is_refused(database, check):
    claim = await make_claim(database)
    await run(database, f"ALTER TABLE public.image_enhancement_jobs ADD CHECK ({check})")

    await write(database, claim, Failed(claim.stage, "no such picture"))

    assert (await job_row(database, claim.job_id))["status"] == "REFUNDED"
    assert await refused_end(database, claim.job_id) is None
    assert await balance_of(database, claim.user_id) == 100


async def test_retry_count_at_its_largest_value_stays_there(database):
    claim = await make_claim(database, retryCount=MOST)

    await database.run(lambda c: record(c, claim, Retried(claim.stage, "down", timedelta())))
    (claim,) = await claim_jobs(database)
    await database.run(lambda c: record(c, claim, Failed(claim.stage, "no")))

    row = await job_row(database, claim.job_id)
    assert (row["status"], row["retryCount"]) == ("REFUNDED", MOST)


@pytest.mark.parametrize("transition", [Retried("ANALYZING", "down", timedelta()), Released("ANALYZING")])
async def test_claim_that_cannot_be_set_back_is_set_aside_and_goes_on_later(database, transition):
    claim = await make_claim(database)
    await refuse(database, "raise", "NEW.status = 'PENDING'")

    await write(database, claim, transition)

    row = await queue_row(database, claim.job_id)
    assert (row["status"], row["lease_token"], row["refusals"]) == ("retrying", None, 1)
    assert row["attempts"] == (0 if isinstance(transition, Released) else 1)
    with pytest.raises(FencedError):
        await write(database, claim, Failed(claim.stage, "late"))


async def test_rescue_of_a_row_that_refuses_everything_waits_and_ends_at_last(database):
    claim = await make_claim(database)
    await refuse(database, "assert", "true")
    async with database.connection() as connection:
        await sign_off(connection, claim.worker_id)

    await rescue_lost_claims(database, None)
    assert (await queue_row(database, claim.job_id))["status"] == "retrying"

    await database.fetch("UPDATE darkroom.job_queue SET created_at = $1", datetime.now(UTC) - timedelta(days=2))
    await end_overdue_jobs(database, 86_400)
    assert await queue_row(database, claim.job_id) is None
    assert (await refused_end(database, claim.job_id))["label"] == "REFUNDED"
    assert await balance_of(database, claim.user_id) == 100


async def test_job_whose_every_change_is_refused_can_be_deleted(database):
    claim = await make_claim(database)
    await refuse(database, "raise", "true")
    await write(database, claim, Failed(claim.stage, "no"))

    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", claim.job_id)
    await an_hour_later(database)

    assert await settle_refused_ends(database) == 1
    assert await balance_of(database, claim.user_id) == 100


LEDGERS = {
    "balance at the largest integer": None,
    "check on the ledger": "ALTER TABLE public.token_transactions ADD CHECK (type <> 'REFUND') NOT VALID",
    "check on balances": "ALTER TABLE public.user_token_balances ADD CHECK (balance < 99) NOT VALID",
    "unique index": """CREATE UNIQUE INDEX ON public.token_transactions ("sourceId")""",
}


async def refuse_refunds(database, rule, user):
    if rule not in LEDGERS:
        await refuse(database, rule, "NEW.type = 'REFUND'", table="token_transactions", events="INSERT")
    elif LEDGERS[rule] is None:
        await fill_balance(database, user)
    else:
        await run(database, LEDGERS[rule])


@pytest.mark.parametrize("rule", [*LEDGERS, *STATEMENTS, "deferred"])
async def test_foreign_cancel_goes_through_and_what_cannot_be_paid_is_owed(database, foreign, rule):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await refuse_refunds(database, rule, user)
    before = await balance_of(database, user)

    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)

    assert (await job_row(database, job))["status"] == "CANCELLED"
    assert await queue_row(database, job) is None
    assert await owed(database) == {job: 2}
    assert await balance_of(database, user) == before
    assert await money_violations(database) == []


async def test_foreign_rows_that_are_right_only_at_the_commit_are_left_to_it(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await run(
        database,
        """CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
           BEGIN
               IF NOT EXISTS (SELECT FROM public.error_logs e WHERE e."userId" = NEW."userId") THEN
                   RAISE EXCEPTION 'a purchase is logged in its transaction';
               END IF;
               RETURN NULL;
           END $body$;
           CREATE CONSTRAINT TRIGGER app_rule AFTER INSERT ON public.token_transactions DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW WHEN (NEW.type = 'EARN_PURCHASE') EXECUTE FUNCTION public.app_rule()""",
    )

    async with foreign.transaction():
        await foreign.execute(
            """INSERT INTO public.token_transactions (id, "userId", amount, type, source, "balanceAfter")
               VALUES ('p', $1, 5, 'EARN_PURCHASE', 'shop', 103)""",
            user,
        )
        await foreign.execute('UPDATE public.user_token_balances SET balance = balance + 5 WHERE "userId" = $1', user)
        await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)
        await foreign.execute(
            """INSERT INTO public.error_logs (id, "timestamp", message, environment, "userId")
               VALUES ('e', now(), 'bought', 'BACKEND', $1)""",
            user,
        )

    assert (await job_row(database, job))["status"] == "CANCELLED"
    assert await owed(database) == {job: 2}
    await an_hour_later(database)
    assert await settle_refused_ends(database) == 1
    assert await balance_of(database, user) == 105


@pytest.mark.parametrize("end", ["fail", "overdue", "delete", "cancel_job"])
async def test_any_end_owes_what_a_full_balance_cannot_take_and_pays_it_later(database, end):
    user = await make_user(database)
    claim = await make_claim(database, user_id=user)
    await fill_balance(database, user)

    if end == "fail":
        await write(database, claim, Failed(claim.stage, "no"))
    elif end == "overdue":
        await end_overdue_jobs(database, -1)
    elif end == "delete":
        await database.fetch("DELETE FROM public.image_enhancement_jobs")
    else:
        assert await database.fetchval("SELECT darkroom.cancel_job($1)", claim.job_id) == "CANCELLED"
    assert await queue_row(database, claim.job_id) is None
    assert await owed(database) == {claim.job_id: 2}

    await fill_balance(database, user, 10)
    await an_hour_later(database)
    assert await settle_refused_ends(database) == 1
    assert await balance_of(database, user) == 12
    assert [row["type"] for row in await ledger_of(database, user)][-1] == "REFUND"
    assert await owed(database) == {}


async def test_statement_over_many_users_owes_only_those_who_are_refused(database, foreign):
    users = [await make_user(database, balance=1_000) for _ in range(3)]
    for user in users:
        image = await make_image(database, user)
        for _ in range(3):
            await make_job(database, user_id=user, image_id=image)
    await fill_balance(database, users[1], MOST - 3)

    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert [await balance_of(database, user) for user in users] == [1_000, MOST - 1, 1_000]
    assert sorted((await owed(database)).values()) == [2, 2]
    assert await money_violations(database) == []


async def test_foreign_cancel_still_fails_for_a_lock_that_it_does_not_get(database, foreign, connect):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    holder = await connect()
    async with holder.transaction():
        await holder.execute('SELECT FROM public.user_token_balances WHERE "userId" = $1 FOR UPDATE', user)
        await foreign.execute("SET lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)
        await foreign.execute("SET lock_timeout = 0; SET statement_timeout = '100ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)

    assert (await job_row(database, job))["status"] == "PENDING"
    assert await owed(database) == {}


async def test_owed_refund_is_paid_once_by_many(database):
    user = await make_user(database)
    await make_job(database, user_id=user)
    await fill_balance(database, user)
    await database.fetch("UPDATE public.image_enhancement_jobs SET status = 'FAILED'")
    await fill_balance(database, user, 10)
    await an_hour_later(database)

    await asyncio.gather(*(settle_refused_ends(database) for _ in range(4)))

    assert await balance_of(database, user) == 12


@pytest.mark.parametrize("rule", [*LEDGERS, "assert"])
async def test_producer_mode_owes_what_it_cannot_pay(database, rule):
    await set_mode(database, "producer")
    claim = await make_claim(database)
    await refuse_refunds(database, rule, claim.user_id)
    if rule == "unique index":
        await run(
            database,
            f"""INSERT INTO public.token_transactions (id, "userId", amount, type, source, "sourceId", "balanceAfter")
                VALUES ('x', '{claim.user_id}', -2, 'SPEND_ENHANCEMENT', 'enhancement', '{claim.job_id}', 98)""",
        )

    await write(database, claim, Failed(claim.stage, "no"))

    assert (await job_row(database, claim.job_id))["status"] == "REFUNDED"
    assert await owed(database) == {claim.job_id: 2}


async def test_free_job_whose_row_refuses_everything_ends_failed(database):
    claim = await make_claim(database, tier="FREE")
    await refuse(database, "raise", "true")

    await write(database, claim, Failed(claim.stage, "no"))

    assert (await refused_end(database, claim.job_id))["label"] == "FAILED"


async def test_label_that_is_still_refused_keeps_the_words_of_now(database):
    claim = await make_claim(database)
    await refuse(database, "raise", "true")
    await write(database, claim, Failed(claim.stage, "no"))
    await allow(database)
    await run(database, "ALTER TABLE public.image_enhancement_jobs ADD CONSTRAINT later CHECK (status <> 'REFUNDED')")
    await an_hour_later(database)

    assert await settle_refused_ends(database) == 0

    end = await refused_end(database, claim.job_id)
    assert ("later" in end["words"], end["tries"]) == (True, 2)


async def test_finished_job_that_is_set_back_gets_a_notice(database, foreign):
    said = []
    foreign.add_log_listener(lambda _, message: said.append(message.message))
    job = await make_job(database)
    await set_status(database, job, "FAILED")
    generation = await make_generation(database)
    await set_status(database, generation, "CANCELLED")

    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'PENDING' WHERE id = $1", job)
    await foreign.execute("UPDATE public.mcp_generation_jobs SET status = 'PROCESSING' WHERE id = $1", generation)
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)

    assert len(said) == 2
    assert (job in said[0], "FAILED" in said[0], "PENDING" in said[0]) == (True, True, True)
    assert (await job_row(database, job))["status"] == "FAILED"


async def test_rescue_without_attempts_left_ends_a_row_that_refuses_everything(database):
    claim = await make_claim(database, maxRetries=0)
    await refuse(database, "raise", "true")
    async with database.connection() as connection:
        await sign_off(connection, claim.worker_id)

    assert (await rescue_lost_claims(database, None)).requeued == 0

    assert await queue_row(database, claim.job_id) is None
    assert (await refused_end(database, claim.job_id))["label"] == "REFUNDED"
    assert await balance_of(database, claim.user_id) == 100


async def test_charge_that_a_trigger_silently_undoes_is_refused(database):
    user = await make_user(database)
    await run(
        database,
        """CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER app_rule BEFORE UPDATE ON public.user_token_balances
           FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )

    with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
        await make_job(database, user_id=user)

    assert await balance_of(database, user) == 100
    assert await money_violations(database) == []


@pytest.mark.parametrize("table", ["token_transactions", "user_token_balances"])
async def test_refund_whose_table_somebody_makes_an_index_on_is_waited_for_and_not_owed(database, connect, table):
    job = await make_job(database)
    holder, producer = await connect(), await connect()
    await producer.execute("SET lock_timeout = '100ms'")
    cancel = "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'"

    async with holder.transaction():
        await holder.execute(f"LOCK TABLE public.{table} IN SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await producer.execute(cancel)
    assert (await job_row(database, job))["status"] == "PENDING"
    await producer.execute(cancel)

    assert await database.fetchval("SELECT count(*) FROM darkroom.refused_ends") == 0
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 1


async def test_end_of_many_jobs_waits_for_no_user_who_is_owed_nothing_and_gives_none_a_balance(database, connect):
    paid, free, poor = [await make_user(database, balance=4) for _ in range(3)]
    await make_job(database, user_id=paid)
    for user in (free, poor):
        await make_job(database, user_id=user, tier="FREE")
    await database.fetch('DELETE FROM public.user_token_balances WHERE "userId" = $1', poor)
    holder, producer = await connect(), await connect()
    await producer.execute("SET lock_timeout = '500ms'")

    async with holder.transaction():
        await holder.execute('SELECT FROM public.user_token_balances WHERE "userId" = $1 FOR UPDATE', free)
        await producer.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    rows = await database.fetch('SELECT "userId", balance FROM public.user_token_balances')
    assert {row["userId"]: row["balance"] for row in rows} == {paid: 4, free: 4}
    assert await database.fetchval("SELECT count(*) FROM darkroom.refused_ends") == 0
