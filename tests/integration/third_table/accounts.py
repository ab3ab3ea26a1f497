"""Balances of an application's own, their entries and their audit; run by test_third_table.py with its plugin."""

import asyncio

import asyncpg
import pytest

from config.tiers import PRICES_TOKENS
from models.money.job_money import money_of_job
from models.queue.transitions import Completed, Failed
from models.schema.migrate import upgrade
from tests.integration.third_table.scenarios import claimed, credits_of, make_order, write, write_state
from tests.support.builders import claim_jobs, money_violations

AROUND = "SET LOCAL session_replication_role = replica"
"""Within a transaction, no trigger fires."""


async def make_print(database, shopper="ann", price=2):
    return await database.fetchval(
        "INSERT INTO public.print_orders (shopper, price) VALUES ($1, $2) RETURNING id", shopper, price
    )


async def account_of(database, shopper="ann"):
    return await database.fetchval("SELECT account FROM public.shoppers WHERE shopper = $1", shopper)


async def entries_of(database, user):
    """Return the entries of a user, oldest first, and check that they explain the balance."""
    rows = await database.fetch(
        "SELECT kind, amount, job_id, balance_after FROM darkroom.token_entries WHERE user_id = $1 ORDER BY id", user
    )
    assert await money_violations(database) == []
    return [tuple(row) for row in rows]


async def around_triggers(connect, *statements):
    session = await connect()
    async with session.transaction():
        await session.execute(AROUND)
        for statement in statements:
            await session.execute(statement)


async def test_charges_and_refunds_are_entries_with_their_jobs_after_what_the_upgrade_found(database):
    rows = await database.fetch(
        "INSERT INTO public.frame_orders (customer, photo_key, price) "
        "VALUES (7, 'a', 2), (7, 'b', 3), (7, 'c', 0) RETURNING id::text"
    )
    orders = [row["id"] for row in rows]
    await database.fetch("UPDATE public.frame_orders SET state = 'stopped'")

    assert await entries_of(database, "7") == [
        ("opening", 10, None, 10),
        ("charge", -2, orders[0], 8),
        ("charge", -3, orders[1], 5),
        ("refund", 2, orders[0], 7),
        ("refund", 3, orders[1], 10),
    ]
    assert await entries_of(database, "8") == [("opening", 1, None, 1)]
    assert {row[0] for row in await database.fetch("SELECT application FROM darkroom.token_entries")} == {
        *("pictures", "prints")
    }


async def test_balance_within_a_json_column_is_charged_and_paid_back_and_its_ledger_is_written(database):
    kept, lost = await make_print(database), await make_print(database, price=3)
    assert await account_of(database) == {"credits": 0, "name": "Ann"}
    claims = {claim.job_id: claim for claim in await claim_jobs(database, most=2)}

    await write(database, claims[kept], Completed("GENERATING", 1, {"pic": "k"}))
    await write(database, claims[lost], Failed("GENERATING", "no"))

    assert await account_of(database) == {"credits": 3, "name": "Ann"}
    moved = [("charge", -2, kept, 3), ("charge", -3, lost, 0), ("refund", 3, lost, 3)]
    assert await entries_of(database, "ann") == [("opening", 5, None, 5), *moved]
    ledger = await database.fetch("SELECT kind, amount, job, balance FROM public.movements")
    assert [tuple(row) for row in ledger] == moved
    moves = await database.run(lambda connection: money_of_job(connection, lost, None))
    assert [(move.kind, move.amount, move.balance) for move in moves] == [("charge", 3, 0), ("refund", 3, 3)]


async def test_refusals_are_in_the_words_of_the_contract_and_leave_nothing(database):
    with pytest.raises(asyncpg.RaiseError) as refused:
        await database.fetch("INSERT INTO public.print_orders (shopper) VALUES ('ann'), ('ann'), ('ann')")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await make_print(database, "nobody")

    told = refused.value.as_dict()
    assert (told["sqlstate"], told["message"]) == ("P0001", "too few tokens: needed 6, available 5")
    assert await entries_of(database, "ann") == [("opening", 5, None, 5)]
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await database.fetchval("SELECT count(*) FROM public.movements") == 0


async def test_ledger_that_refuses_a_movement_refuses_the_job_and_a_refund_is_owed(database):
    job = await make_print(database)
    await database.fetch("ALTER TABLE public.movements ADD CONSTRAINT no CHECK (false) NOT VALID")

    with pytest.raises(asyncpg.CheckViolationError):
        await make_print(database)
    await database.fetch("UPDATE public.print_orders SET state = 'cancelled'")
    owed = await database.fetch("SELECT job_id, owed FROM darkroom.refunds_owed")
    await database.fetch("ALTER TABLE public.movements DROP CONSTRAINT no")
    await database.fetchval("SELECT darkroom.settle_refused_end('prints.print', $1)", job)

    assert [tuple(row) for row in owed] == [(job, 2)]
    assert [entry[:2] for entry in await entries_of(database, "ann")] == [("opening", 5), ("charge", -2), ("refund", 2)]


async def test_every_change_by_others_is_an_entry_in_their_own_transaction(database, connect):
    await database.fetch("UPDATE public.customers SET credits = credits + id")
    await database.fetch("UPDATE public.customers SET credits = credits")
    await database.fetch("INSERT INTO public.customers VALUES (8, 5) ON CONFLICT (id) DO UPDATE SET credits = 4")
    session = await connect()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("UPDATE public.customers SET credits = 0")
    await transaction.rollback()

    assert await entries_of(database, "7") == [("opening", 10, None, 10), ("other", 7, None, 17)]
    assert await entries_of(database, "8") == [("opening", 1, None, 1), ("other", 8, None, 9), ("other", -5, None, 4)]


async def test_many_balances_are_recorded_by_one_statement(database):
    await database.fetch("INSERT INTO public.customers SELECT n, 5 FROM generate_series(1001, 11000) n")
    await database.fetch("UPDATE public.customers SET credits = credits + 1 WHERE id > 1000")

    kinds = await database.fetch(
        "SELECT kind, count(*), sum(amount) FROM darkroom.token_entries WHERE application = 'pictures' GROUP BY 1"
    )
    assert {tuple(row) for row in kinds} == {("opening", 10_002, 50_011), ("other", 10_000, 10_000)}
    assert await money_violations(database) == []


async def test_what_triggers_of_the_application_change_beside_a_charge_is_recorded_as_others(database):
    await database.fetch("""CREATE FUNCTION public.top_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE public.customers SET credits = 50 WHERE credits < 9;
            RETURN NULL;
        END $$""")
    await database.fetch(
        "CREATE TRIGGER top_up AFTER UPDATE ON public.customers FOR EACH ROW EXECUTE FUNCTION public.top_up()"
    )

    order = await make_order(database)

    assert await credits_of(database) == 50
    entries = await entries_of(database, "7")
    assert entries == [("opening", 10, None, 10), ("charge", -2, order, 8), ("other", 42, None, 50)]
    assert await entries_of(database, "8") == [("opening", 1, None, 1), ("other", 49, None, 50)]


@pytest.mark.parametrize("returned", ["OLD", "NULL"])
async def test_charge_that_a_trigger_keeps_from_the_balance_is_refused(database, returned):
    await database.fetch(f"""CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RETURN {returned}; END $$""")
    await database.fetch(
        "CREATE TRIGGER keep BEFORE UPDATE ON public.customers FOR EACH ROW EXECUTE FUNCTION public.keep()"
    )

    with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
        await make_order(database)

    assert await entries_of(database, "7") == [("opening", 10, None, 10)]


async def test_bonus_that_a_trigger_gives_a_new_user_is_no_part_of_the_opening(database):
    await database.fetch("""CREATE FUNCTION public.greet() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE public.customers SET credits = credits + 3 WHERE id = NEW.id;
            RETURN NULL;
        END $$""")
    await database.fetch(
        "CREATE TRIGGER greet AFTER INSERT ON public.customers FOR EACH ROW EXECUTE FUNCTION public.greet()"
    )

    await database.fetch("INSERT INTO public.customers VALUES (9, 1)")

    assert sorted(await entries_of(database, "9")) == [("opening", 1, None, 4), ("other", 3, None, 4)]


async def test_entries_follow_a_user_whose_id_changes_and_outlive_a_deleted_one(database):
    await make_print(database)
    await database.fetch("""INSERT INTO public.shoppers VALUES ('bob', '{"credits": 4}'), ('cid', '{"credits": 1}')""")
    await database.fetch("DELETE FROM public.shoppers WHERE shopper = 'bob'")
    await database.fetch(
        """UPDATE public.shoppers SET shopper = CASE shopper WHEN 'ann' THEN 'bob' ELSE 'ann' END,
               account = jsonb_set(account, '{credits}', '9')"""
    )
    await database.fetch("UPDATE public.print_orders SET state = 'cancelled'")

    assert [entry[:2] for entry in await entries_of(database, "bob")] == [
        *[("opening", 5), ("charge", -2), ("opening", 4), ("other", 6), ("other", -4), ("refund", 2)]
    ]
    assert [entry[:2] for entry in await entries_of(database, "ann")] == [("opening", 1), ("other", 8)]
    await database.fetch("DELETE FROM public.shoppers WHERE shopper = 'ann'")
    assert len(await entries_of(database, "ann")) == 2
    await database.fetch("""INSERT INTO public.shoppers VALUES ('ann', '{"credits": 2}')""")
    assert (await entries_of(database, "ann"))[2:] == [("opening", -7, None, 2)]


@pytest.mark.parametrize("isolation", ["read_committed", "serializable"])
async def test_jobs_at_the_same_moment_never_spend_beyond_the_balance(database, connect, isolation):
    async def insert():
        session = await connect()
        while True:
            try:
                async with session.transaction(isolation=isolation):
                    await session.execute("INSERT INTO public.print_orders (shopper, price) VALUES ('ann', 1)")
            except asyncpg.RaiseError as error:
                return error.as_dict()["message"]
            except asyncpg.SerializationError:
                assert isolation == "serializable"
            else:
                return None

    made = await asyncio.gather(*(insert() for _ in range(12)))

    assert sorted(map(str, made)) == [*["None"] * 5, *["too few tokens: needed 1, available 0"] * 7]
    assert await account_of(database) == {"credits": 0, "name": "Ann"}
    assert [entry[3] for entry in await entries_of(database, "ann")] == [5, 4, 3, 2, 1, 0]


async def test_upgrade_opens_accounts_that_have_no_entries(database, database_url, connect):
    await around_triggers(connect, "INSERT INTO public.customers VALUES (9, 4)")

    result = await upgrade(database_url, prices=PRICES_TOKENS)

    assert result.opening_balances == 1
    assert await entries_of(database, "9") == [("opening", 4, None, 4)]


async def test_charge_by_the_application_itself_has_no_entry_and_its_refund_has_one(database):
    await database.fetch("""UPDATE darkroom.settings SET value = '"producer"' WHERE key = 'mode'""")
    await database.fetch("UPDATE public.customers SET credits = 8 WHERE id = 7")
    claim = await claimed(database)
    await write(database, claim, Failed("GENERATING", "no"))
    await database.fetch("""UPDATE darkroom.settings SET value = '"managed"' WHERE key = 'mode'""")

    assert await credits_of(database) == 10
    assert [entry[:2] for entry in await entries_of(database, "7")] == [("opening", 10), ("other", -2), ("refund", 2)]


async def test_external_mode_leaves_balances_alone(database):
    await database.fetch("""UPDATE darkroom.settings SET value = '"external"' WHERE key = 'mode'""")

    await write_state(database, await make_order(database), "stopped")

    assert await entries_of(database, "7") == [("opening", 10, None, 10)]


async def test_charge_goes_on_where_the_triggers_of_the_balances_are_disabled(database):
    await database.fetch("ALTER TABLE public.customers DISABLE TRIGGER USER")

    await write_state(database, await make_order(database), "stopped")

    assert await credits_of(database) == 10
    assert [entry[:2] for entry in await entries_of(database, "7")] == [("opening", 10), ("charge", -2), ("refund", 2)]


async def test_application_goes_on_without_the_column_of_its_balances_and_charges_are_refused(database):
    await database.fetch("ALTER TABLE public.customers RENAME COLUMN credits TO tokens")

    await database.fetch("INSERT INTO public.customers VALUES (9, 1)")
    await database.fetch("UPDATE public.customers SET tokens = tokens + 1 WHERE id = 7")
    with pytest.raises(asyncpg.UndefinedColumnError, match=r"balances of pictures can't be read: column .*credits"):
        await make_order(database)

    await database.fetch("ALTER TABLE public.customers RENAME COLUMN tokens TO credits")
    found = await database.fetch("SELECT user_id, violation FROM darkroom.money_violations")
    assert {tuple(row) for row in found} == {("7", "account_high"), ("9", "account_unopened")}
    assert await make_order(database)


async def test_balance_that_cannot_be_read_refuses_no_statement_of_the_application(database, database_url):
    await database.fetch(
        """INSERT INTO public.shoppers VALUES ('bob', '{"credits": "12.5"}'), ('cid', '{"credits": 3}')"""
    )
    await database.fetch("""UPDATE public.shoppers SET account = account || '{"credits": 3000000000}'
                            WHERE shopper <> 'bob'""")
    await database.fetch("""UPDATE public.shoppers SET account = account || '{"credits": 4}' WHERE shopper = 'cid'""")
    await database.fetch("""UPDATE public.shoppers SET shopper = 'bea', account = account || '{"x": 1}'
                            WHERE shopper = 'bob'""")
    result = await upgrade(database_url, prices=PRICES_TOKENS)

    assert result.opening_balances == 0
    found = await database.fetch("SELECT user_id, violation, finding FROM darkroom.money_violations ORDER BY 1")
    wrong = "is no whole number up to 2147483647, sum of entries"
    assert [tuple(row) for row in found] == [
        ("ann", "account_unreadable", f"prints: balance of user ann {wrong} 5"),
        ("bea", "account_unreadable", f"prints: balance of user bea {wrong} not recorded"),
        ("cid", "account_high", "prints: balance of user cid is 4, sum of entries 3"),
    ]
    with pytest.raises(asyncpg.DataError, match="balance of user bea can't be read"):
        await database.fetch("INSERT INTO public.print_orders (shopper) VALUES ('cid'), ('bea')")
    assert await make_print(database, "cid")
