"""Renewed subscriptions give exactly the tokens of a simple computation, month by month."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.database import Database
from tests.support.builders import balance_of, make_user, new_id, set_mode
from tests.support.periodic_rows import (
    Subscribed,
    earned,
    make_subscription,
    month_later,
    move_tokens,
    naive,
    subscription_of,
)

START = datetime(2028, 1, 31, 12, tzinfo=UTC)  # a leap year, and a day that most months lack
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 70)),
        st.tuples(st.just("wait"), st.integers(0, 45)),
        st.tuples(st.just("spend"), st.integers(1, 80)),
        st.tuples(st.just("buy"), st.integers(1, 50)),
    ),
    max_size=14,
)


async def renew(make_engine, at: datetime) -> dict[str, int]:
    counts: dict[str, int] = await make_engine(subscriptions=True).run_extra("renew-subscriptions", at)
    return counts


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, day=st.integers(0, 40), most=st.sampled_from([0, 30, 1000]))
async def test_any_year_equals_the_oracle(database: Database, make_engine, steps, day, most):
    start = START + timedelta(days=day)
    end = month_later(start, start.day)
    user_id = await make_user(database, balance=100)
    await make_subscription(database, user_id, start, end, maxRollover=most)
    oracle = Subscribed(100, naive(start), naive(end), 100, most)
    now = start

    for step, amount in steps:
        if step == "run":
            now += timedelta(days=amount, hours=1)
            for _twice in range(2):
                await renew(make_engine, now)
            oracle.run(naive(now))
        elif step == "wait":
            now += timedelta(days=amount)
        elif step == "spend":
            now += timedelta(hours=5)
            spent = min(amount, oracle.balance)
            await move_tokens(database, user_id, -spent, now, "SPEND_ENHANCEMENT")
            oracle.move(naive(now), -spent)
        else:
            await move_tokens(database, user_id, amount, now, "EARN_PURCHASE")
            oracle.move(naive(now), amount)

        row = await subscription_of(database, user_id)
        assert await balance_of(database, user_id) == oracle.balance
        assert (row["currentPeriodStart"], row["currentPeriodEnd"]) == (oracle.start, oracle.end)
        assert row["rolloverTokens"] == oracle.rollover


async def test_year_with_month_ends_leap_day_and_missed_ticks_keeps_the_anchor(database, make_engine):
    user_id = await make_user(database, balance=100)
    await make_subscription(database, user_id, START, datetime(2028, 2, 29, 12, tzinfo=UTC))
    seen = []

    for month in (2, 3, 6, 12):  # nobody was there in the months between
        await renew(make_engine, datetime(2028, month, 29, 12, tzinfo=UTC))
        seen.append((await subscription_of(database, user_id))["currentPeriodEnd"])

    assert [f"{end:%m-%d}" for end in seen] == ["03-31", "03-31", "06-30", "12-31"]
    assert len(await earned(database, user_id)) == 10
    assert await balance_of(database, user_id) == 100


@pytest.mark.parametrize("bought", [0, 50])
@pytest.mark.parametrize("missed", [0, 2])
async def test_late_run_gives_what_a_prompt_one_would_have_given(database, make_engine, bought, missed):
    """What is spent between a period's end and its settlement is the next period's, once."""
    balances = []
    for is_late in (False, True):
        user_id = await make_user(database, balance=100)
        await move_tokens(database, user_id, bought, START, "EARN_PURCHASE") if bought else None
        ends = [START]
        for _ in range(missed + 2):
            ends.append(month_later(ends[-1], START.day))
        await make_subscription(database, user_id, START, ends[1], maxRollover=20)
        seen = []
        for end in ends[1:]:
            if not is_late or end == ends[-1]:
                await renew(make_engine, end)
            await move_tokens(database, user_id, -30, end + timedelta(minutes=10), "SPEND_ENHANCEMENT")
            if is_late and end == ends[-2]:
                await renew(make_engine, end + timedelta(minutes=15))
            if end in ends[-2:]:
                seen.append(await balance_of(database, user_id))
        balances.append(seen)

    assert balances[0] == balances[1]


async def test_late_spending_of_what_had_expired_leaves_no_debt(database, make_engine):
    user_id = await make_user(database, balance=100)
    end = START + timedelta(days=29)
    await make_subscription(database, user_id, START, end, downgradeTo="FREE")
    await move_tokens(database, user_id, -100, end + timedelta(minutes=10), "SPEND_ENHANCEMENT")

    await renew(make_engine, end + timedelta(minutes=15))

    assert await balance_of(database, user_id) == 0


async def test_purchased_tokens_never_expire_and_unused_ones_are_carried_up_to_the_limit(database, make_engine):
    user_id = await make_user(database, balance=100)
    await move_tokens(database, user_id, 70, START, "EARN_PURCHASE")
    await make_subscription(database, user_id, START, START + timedelta(days=29), maxRollover=25)
    await move_tokens(database, user_id, -60, START + timedelta(days=3), "SPEND_ENHANCEMENT")
    await move_tokens(database, user_id, 20, START + timedelta(days=4), "REFUND")

    counts = await renew(make_engine, START + timedelta(days=29))

    # 130 left, 100 given and 40 spent: 60 unused, of which 25 are carried and 35 expire
    (row,) = await earned(database, user_id)
    assert counts == {"renewed": 1, "ended": 0}
    assert (row["amount"], row["balanceAfter"], row["source"]) == (65, 195, "subscription_period")
    assert {name: row["metadata"][name] for name in ("spent", "unused", "carried", "tokensPerMonth")} == {
        "spent": 40,
        "unused": 60,
        "carried": 25,
        "tokensPerMonth": 100,
    }
    assert (await subscription_of(database, user_id))["rolloverTokens"] == 25


async def test_downgrade_takes_the_plan_of_the_tier_or_else_its_allowance(database, make_engine):
    await database.fetch(
        """INSERT INTO public.subscription_plans
               (id, name, "tokensPerMonth", "priceGBP", "stripePriceId", "maxRollover", active, "updatedAt")
           VALUES ($1, 'BASIC', 40, 1, $1, 15, true, darkroom.utc_now()),
                  ($2, 'BASIC', 999, 1, $2, 99, false, darkroom.utc_now())""",
        new_id("p"),
        new_id("p"),
    )
    planned, unplanned = await make_user(database, balance=100), await make_user(database, balance=100)
    for user_id, tier in ((planned, "BASIC"), (unplanned, "STANDARD")):
        await make_subscription(
            database, user_id, START, START + timedelta(days=29), tier="PREMIUM", maxRollover=500, downgradeTo=tier
        )

    await renew(make_engine, START + timedelta(days=29))

    rows = [await subscription_of(database, user_id) for user_id in (planned, unplanned)]
    assert [(row["tier"], row["downgradeTo"], row["tokensPerMonth"], row["maxRollover"]) for row in rows] == [
        ("BASIC", None, 40, 15),
        ("STANDARD", None, 50, 0),
    ]
    assert [await balance_of(database, user_id) for user_id in (planned, unplanned)] == [15 + 40, 50]
    tiers = await database.fetch("SELECT tier::text FROM public.user_token_balances ORDER BY 1")
    assert [row["tier"] for row in tiers] == ["BASIC", "STANDARD"]


async def test_cancel_at_period_end_ends_free_with_the_balance_kept(database, make_engine):
    user_id = await make_user(database, balance=77, tier="PREMIUM")
    await make_subscription(
        database, user_id, START, START + timedelta(days=29), tier="PREMIUM", cancelAtPeriodEnd=True
    )

    first = await renew(make_engine, START + timedelta(days=29))
    second = await renew(make_engine, START + timedelta(days=90))

    row = await subscription_of(database, user_id)
    assert (first["ended"], second["ended"]) == (1, 0)
    assert (row["status"], row["tier"], await balance_of(database, user_id)) == ("CANCELED", "FREE", 77)
    assert await earned(database, user_id) == []


@pytest.mark.parametrize("status", ["PAST_DUE", "UNPAID", "CANCELED"])
async def test_unpaid_subscriptions_get_nothing(database, make_engine, status):
    user_id = await make_user(database, balance=5)
    await make_subscription(database, user_id, START, START + timedelta(days=29), status=status)

    counts = await renew(make_engine, START + timedelta(days=90))

    assert (counts, await balance_of(database, user_id)) == ({"renewed": 0, "ended": 0}, 5)


async def test_user_without_a_balance_row_gets_one(database, make_engine):
    user_id = await make_user(database, balance=None)
    await make_subscription(database, user_id, START, START + timedelta(days=29))

    await renew(make_engine, START + timedelta(days=29))

    assert await balance_of(database, user_id) == 100


async def test_period_set_back_is_not_given_twice(database, make_engine):
    user_id = await make_user(database, balance=0)
    await make_subscription(database, user_id, START, START + timedelta(days=29))
    await renew(make_engine, START + timedelta(days=29))
    await database.fetch(
        'UPDATE public.subscriptions SET "currentPeriodStart" = $1, "currentPeriodEnd" = $2',
        naive(START),
        naive(START + timedelta(days=29)),
    )

    await renew(make_engine, START + timedelta(days=29))

    assert await balance_of(database, user_id) == 100
    assert len(await earned(database, user_id)) == 1


async def test_nothing_is_renewed_unless_it_is_switched_on_and_managed(database, make_engine):
    user_id = await make_user(database, balance=5)
    await make_subscription(database, user_id, START, START + timedelta(days=29))

    assert await make_engine().run_extra("renew-subscriptions", START + timedelta(days=90)) == {}
    await set_mode(database, "external")
    assert await renew(make_engine, START + timedelta(days=91)) == {}
    await set_mode(database, "managed")

    assert await balance_of(database, user_id) == 5


async def test_locked_subscription_is_waited_for(database, database_url, make_engine):
    user_id = await make_user(database, balance=0)
    await make_subscription(database, user_id, START, START + timedelta(days=29))
    foreign = await asyncpg.connect(database_url)
    await foreign.execute("BEGIN")
    await foreign.execute('UPDATE public.user_token_balances SET balance = balance WHERE "userId" = $1', user_id)

    postponed = await renew(make_engine, START + timedelta(days=60))
    await foreign.execute("COMMIT")
    await foreign.close()
    counts = await renew(make_engine, START + timedelta(days=60, minutes=15))

    assert (postponed["renewed"], postponed["postponed"]) == (0, 1)
    assert counts["renewed"] == 2


@pytest.mark.parametrize("status", ["TRIALING", "ACTIVE"])
@pytest.mark.parametrize("subscription", [None, "", "  ", "sub_1"])
async def test_trial_without_a_subscription_id_ends_with_its_period(database, make_engine, status, subscription):
    await database.fetch('ALTER TABLE public.subscriptions ALTER "stripeSubscriptionId" DROP NOT NULL')
    user_id = await make_user(database, balance=70, tier="BASIC")
    end = START + timedelta(days=14)
    await make_subscription(database, user_id, START, end, status=status, downgradeTo="STANDARD")
    await database.fetch('UPDATE public.subscriptions SET "stripeSubscriptionId" = $1', subscription)

    early = await renew(make_engine, end - timedelta(seconds=1))
    dry = await make_engine(subscriptions=True).count("renew-subscriptions", end)
    counts = await renew(make_engine, end)
    again = await renew(make_engine, end + timedelta(days=60))

    row = await subscription_of(database, user_id)
    assert early == {"renewed": 0, "ended": 0}
    if status == "ACTIVE" or subscription == "sub_1":
        assert counts == dry == {"renewed": 1, "ended": 0}
        return
    assert counts == dry == {"renewed": 0, "ended": 1}
    assert again == {"renewed": 0, "ended": 0}
    assert (row["status"], row["tier"], row["currentPeriodEnd"]) == ("CANCELED", "FREE", naive(end))
    assert await balance_of(database, user_id) == 70
    assert await database.fetchval("SELECT tier::text FROM public.user_token_balances") == "FREE"
    assert await earned(database, user_id) == []


@pytest.mark.parametrize("terms", [{"subscriptions": False}, {"subscriptions": True, "mode": "producer"}])
async def test_trial_is_left_alone_where_periods_are_somebody_elses(database, make_engine, terms):
    terms = dict(terms)
    user_id = await make_user(database, balance=70)
    await make_subscription(database, user_id, START, START + timedelta(days=14), status="TRIALING")
    await database.fetch("""UPDATE public.subscriptions SET "stripeSubscriptionId" = ''""")
    if mode := terms.pop("mode", None):
        await set_mode(database, mode)

    await make_engine(**terms).run_extra("renew-subscriptions", START + timedelta(days=15))

    assert (await subscription_of(database, user_id))["status"] == "TRIALING"


async def test_trial_of_a_table_without_subscription_ids_is_renewed_as_any(database, make_engine):
    user_id = await make_user(database, balance=70)
    await make_subscription(database, user_id, START, START + timedelta(days=14), status="TRIALING")
    await database.fetch('ALTER TABLE public.subscriptions DROP "stripeSubscriptionId"')

    assert await renew(make_engine, START + timedelta(days=15)) == {"renewed": 1, "ended": 0}
