"""Regenerated tokens are exactly those of a simple computation, step by step from interval to interval."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.database import Database
from tests.support.builders import ledger_of, make_user, set_mode
from tests.support.patience import HANGS_AFTER_S
from tests.support.periodic_rows import (
    Drip,
    Monthly,
    earned,
    make_subscription,
    move_tokens,
    naive,
    regeneration_of,
    set_last,
)

START = datetime(2027, 12, 31, 10, 30, tzinfo=UTC)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 100 * 24 * 60)),
        st.tuples(st.just("clock back"), st.integers(1, 5000)),
        st.tuples(st.just("charge"), st.integers(1, 40)),
        st.tuples(st.just("refund"), st.integers(1, 20)),
        st.tuples(st.just("tier"), st.sampled_from(["FREE", "BASIC", "STANDARD", "PREMIUM"])),
        st.tuples(st.just("own refresh"), st.integers(0, 60)),
    ),
    max_size=12,
)


@pytest.mark.parametrize("policy", ["monthly", "drip"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, day=st.integers(0, 40), minutes_per_step=st.sampled_from([1, 7, 60]))
async def test_any_history_equals_the_oracle(database: Database, make_engine, policy, steps, day, minutes_per_step):
    engine = make_engine(regeneration=policy)
    now = START + timedelta(days=day)
    user_id = await make_user(database, balance=5)
    await set_last(database, user_id, now)
    oracle = {"monthly": Monthly, "drip": Drip}[policy](5, naive(now))
    tier = "FREE"

    for step, amount in steps:
        if step == "run":
            now += timedelta(minutes=amount * minutes_per_step / 60)
            for _twice in range(2):
                await engine.run_extra("regenerate-tokens", now)
            oracle.run(naive(now), tier)
        elif step == "clock back":
            now -= timedelta(minutes=amount)
            await engine.run_extra("regenerate-tokens", now)
        elif step == "own refresh":
            now += timedelta(minutes=amount)
            await database.fetchval("SELECT darkroom.regenerate_at($1, $2)", user_id, naive(now))
            oracle.run(naive(now), tier)
        elif step == "tier":
            tier = amount
            await database.fetch(
                """UPDATE public.user_token_balances SET tier = $2::text::public."SubscriptionTier"
                   WHERE "userId" = $1""",
                user_id,
                tier,
            )
        else:
            moved = -min(amount, oracle.balance) if step == "charge" else amount
            kind = "SPEND_ENHANCEMENT" if step == "charge" else "REFUND"
            await move_tokens(database, user_id, moved, now, kind)
            oracle.balance += moved

        assert await regeneration_of(database, user_id) == (oracle.balance, oracle.last)
    rows = await ledger_of(database, user_id)
    assert 5 + sum(row["amount"] for row in rows) == oracle.balance


async def test_month_end_is_kept_over_short_months(database, make_engine):
    user_id = await make_user(database, balance=0)
    await set_last(database, user_id, datetime(2028, 1, 31, 12, tzinfo=UTC))
    seen = []

    for month, day in ((2, 28), (2, 29), (3, 30), (3, 31), (4, 30)):
        await make_engine().run_extra("regenerate-tokens", datetime(2028, month, day, 12, tzinfo=UTC))
        seen.append(await regeneration_of(database, user_id))

    assert [balance for balance, _ in seen] == [0, 10, 10, 20, 30]
    assert seen[-1][1] == datetime(2028, 4, 30, 12)  # noqa: DTZ001 - the column's own form


async def test_subscriber_earns_nothing_and_runs_up_no_credit(database, make_engine):
    user_id = await make_user(database, balance=3)
    await set_last(database, user_id, START)
    await make_subscription(database, user_id, START, START + timedelta(days=31))

    await make_engine().run_extra("regenerate-tokens", START + timedelta(days=100))
    await database.fetch("""UPDATE public.subscriptions SET status = 'CANCELED'""")
    await make_engine().run_extra("regenerate-tokens", START + timedelta(days=101))

    balance, last = await regeneration_of(database, user_id)
    assert (balance, last.month) == (3, 3)
    assert await earned(database, user_id) == []


async def test_drip_at_the_cap_takes_nothing_and_runs_up_no_credit(database, make_engine):
    rich, full = await make_user(database, balance=500), await make_user(database, balance=10)
    for user_id in (rich, full):
        await set_last(database, user_id, START)
    engine = make_engine(regeneration="drip")

    await engine.run_extra("regenerate-tokens", START + timedelta(hours=10, minutes=7))
    await move_tokens(database, full, -5, START, "SPEND_ENHANCEMENT")
    await engine.run_extra("regenerate-tokens", START + timedelta(hours=10, minutes=15))

    assert await regeneration_of(database, rich) == (500, naive(START + timedelta(hours=10, minutes=15)))
    assert await regeneration_of(database, full) == (6, naive(START + timedelta(hours=10, minutes=15)))


async def test_ledger_row_says_range_and_balance_after(database, make_engine):
    user_id = await make_user(database, balance=1, tier="STANDARD")
    await set_last(database, user_id, START)

    counts = await make_engine().run_extra("regenerate-tokens", START + timedelta(days=70))

    (row,) = await earned(database, user_id)
    assert counts == {"users": 1, "tokens": 100}
    assert (row["amount"], row["source"], row["balanceAfter"]) == (100, "regeneration", 101)
    assert row["metadata"]["from"].startswith("2027-12-31T10:30")
    assert row["metadata"]["to"].startswith("2028-02-29T10:30")
    assert (row["metadata"]["intervals"], row["metadata"]["policy"]) == (2, "monthly")


async def test_same_range_given_back_is_not_given_twice(database, make_engine):
    user_id = await make_user(database, balance=0)
    for _twice in range(2):
        await set_last(database, user_id, START)
        await make_engine().run_extra("regenerate-tokens", START + timedelta(days=40))

    assert (await regeneration_of(database, user_id))[0] == 10
    assert len(await earned(database, user_id)) == 1


async def test_off_gives_nothing_and_keeps_the_date(database, make_engine):
    user_id = await make_user(database, balance=0)
    await set_last(database, user_id, START)

    await make_engine(regeneration="off").run_extra("regenerate-tokens", START + timedelta(days=400))

    assert await regeneration_of(database, user_id) == (0, naive(START))


async def test_other_modes_of_money_give_nothing(database, make_engine):
    user_id = await make_user(database, balance=0)
    await set_last(database, user_id, START)
    await set_mode(database, "producer")

    counts = await make_engine().run_extra("regenerate-tokens", START + timedelta(days=400))

    assert counts == {}
    assert await database.fetchval("SELECT darkroom.regenerate($1)", user_id) == 0
    await set_mode(database, "managed")


async def test_own_refresh_beside_many_schedulers_gives_once(database, make_engine):
    user_id = await make_user(database, balance=0)
    await set_last(database, user_id, datetime(2020, 1, 1, tzinfo=UTC))
    now = await database.fetchval("SELECT clock_timestamp()")

    given = await asyncio.gather(
        *(database.fetchval("SELECT darkroom.regenerate($1)", user_id) for _ in range(8)),
        *(make_engine().run_extra("regenerate-tokens", now + timedelta(milliseconds=n)) for n in range(8)),
    )

    balance, _last = await regeneration_of(database, user_id)
    months = (now.year - 2020) * 12 + now.month - 1
    assert balance == months * 10
    assert sum(one if isinstance(one, int) else one["tokens"] for one in given) == balance


async def test_locked_balance_is_waited_for_at_the_end(database, database_url, make_engine):
    users = [await make_user(database, balance=0) for _ in range(5)]
    for user_id in users:
        await set_last(database, user_id, START)
    foreign = await asyncpg.connect(database_url)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute('UPDATE public.user_token_balances SET balance = 0 WHERE "userId" = $1', users[2])

    running = asyncio.create_task(make_engine().run_extra("regenerate-tokens", START + timedelta(days=40)))
    async with asyncio.timeout(HANGS_AFTER_S):
        while sum([(await regeneration_of(database, user_id))[0] for user_id in users]) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await transaction.commit()
    await foreign.close()

    counts = await running
    assert counts["users"] + counts.get("postponed", 0) == 5


async def test_dry_run_counts_and_writes_nothing(database, make_engine):
    user_id = await make_user(database, balance=0)
    await set_last(database, user_id, START)

    counts = await make_engine().count("regenerate-tokens", START + timedelta(days=70))

    assert counts == {"users": 1, "tokens": 20}
    assert await regeneration_of(database, user_id) == (0, naive(START))


async def test_unknown_user_is_refused_with_p0002(database):
    with pytest.raises(asyncpg.NoDataFoundError):
        await database.fetchval("SELECT darkroom.regenerate('nobody')")
