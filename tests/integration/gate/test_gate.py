"""The provider's gate: which calls it admits, counted over all processes."""

import asyncio
import time
from datetime import timedelta
from decimal import Decimal

import pytest

from config.gate_terms import FIRST_CONCURRENT
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, Refused, close_call, open_call, provider_wait
from models.queue.rescue import NEVER, rescue_lost_claims
from models.queue.transitions import Snoozed, record
from tests.support.builders import claim_jobs, make_claim, make_job, make_user, waiting_for_locks
from tests.support.buyer import bought_by

RULES = {"first_concurrency": 100, "concurrency": 100, "breaker_failures": 3, "breaker_s": 10}


async def attempt(database, claim=None, *, rules=None, price=1, images=1, **changes):
    claim = claim or await make_claim(database)
    limits = RULES | (rules or {}) | changes
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=price, images=images, rules=limits)
    return await database.run(lambda connection: open_call(connection, claim, plan))


async def close(database, opened, verdict="answered", *, rules=None, **values):
    outcome = CallOutcome(verdict, may_be_paid=True, latency_ms=1, verdict=verdict, **values)
    await database.run(lambda connection: close_call(connection, opened.intent, outcome, RULES | (rules or {})))


async def shift(database, seconds):
    """Let so much time pass for every call and every promise of the gate."""
    await database.fetch(
        "UPDATE darkroom.provider_calls SET started_at = started_at - make_interval(secs => $1)", float(seconds)
    )
    await database.fetch(
        "UPDATE darkroom.job_queue SET started_at = started_at - make_interval(secs => $1)", float(seconds)
    )
    for name in ("paused_until", "open_until", "decreased_at"):
        await database.fetch(
            """UPDATE darkroom.limits SET state = state || jsonb_build_object($1::text,
                   (state ->> $1)::timestamptz - make_interval(secs => $2)) WHERE state ? $1""",
            name,
            float(seconds),
        )


async def cell(database, scope, name):
    return await database.fetchrow(
        "SELECT used, state FROM darkroom.limits WHERE scope = $1 AND name = $2 ORDER BY window_start DESC LIMIT 1",
        scope,
        name,
    )


async def ceiling(database):
    """Return how many calls the provider is thought to take at a time; None as long as no answer has told it."""
    return (await cell(database, "provider", "gemini"))["state"].get("ceiling")


@pytest.mark.parametrize(
    "limits",
    [
        {"budgets": {"total_calls": 13}},
        {"budgets": {"day_usd": 13}},
        {"requests_per_minute": 13},
        {"images_per_day": 13},
        {"first_concurrency": 13, "concurrency": 13},
    ],
    ids=["calls", "usd", "minute", "day", "in flight"],
)
async def test_exactly_so_many_calls_under_8_processes(database, database_url, limits):
    for _ in range(48):
        await make_job(database)
    rules = RULES | limits
    ends = "" if "first_concurrency" in limits else "answered"

    assert await bought_by(8, database_url, rules, ends) == 13
    assert await database.fetchval("SELECT count(*) FROM darkroom.provider_calls") == 13


async def test_no_window_of_a_minute_holds_more_than_its_limit(database):
    limit = {"requests_per_minute": 2}
    began_s = time.monotonic()
    await close(database, await attempt(database, **limit))
    await shift(database, 40)
    await close(database, await attempt(database, **limit))
    refused = await attempt(database, **limit)
    await shift(database, 22)
    admitted = await attempt(database, **limit)
    again = await attempt(database, **limit)
    took_s = time.monotonic() - began_s

    assert (refused.kind, 21 - took_s < refused.wait_s <= 21.1) == ("rate", True)
    assert isinstance(admitted, Admitted)
    assert (again.kind, 39 - took_s < again.wait_s <= 39.1) == ("rate", True)


async def test_call_counts_from_the_moment_it_is_admitted_and_not_from_when_it_asked(database):
    await close(database, await attempt(database))
    claim = await make_claim(database)
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT FROM darkroom.limits WHERE scope = 'provider' FOR UPDATE")
        asking = asyncio.create_task(attempt(database, claim))
        while not await waiting_for_locks(database):  # noqa: ASYNC110 - another session's lock
            await asyncio.sleep(0.01)
        released_at = await other.fetchval("SELECT clock_timestamp()")
    opened = await asking

    started_at = await database.fetchval("SELECT started_at FROM darkroom.provider_calls WHERE id = $1", opened.intent)
    assert started_at >= released_at


async def test_call_that_was_never_sent_is_given_back(database):
    limits = {"budgets": {"total_calls": 1, "day_usd": 1}, "requests_per_minute": 1, "requests_per_day": 1}
    await close(database, await attempt(database, **limits), "failed", was_sent=False)
    second = await attempt(database, **limits)
    await close(database, second, "failed")

    assert isinstance(second, Admitted)
    assert isinstance(await attempt(database, **limits), Refused)


async def test_known_cost_settles_what_was_counted_and_unknown_counts_in_full(database):
    await close(database, await attempt(database), cost_usd=Decimal("0.25"))
    await close(database, await attempt(database), "failed")

    assert (await cell(database, "budget", "all"))["used"] == Decimal("1.25")
    costs = await database.fetch("SELECT cost_usd FROM darkroom.provider_calls ORDER BY id")
    assert [row["cost_usd"] for row in costs] == [Decimal("0.25"), Decimal(1)]


async def test_users_budget_is_their_own_and_anonymous_jobs_share_one(database):
    limits = {"budgets": {"user_day_calls": 1, "anonymous_day_calls": 2}}
    user = await make_user(database)
    mine = [await attempt(database, await make_claim(database, user_id=user), **limits) for _ in range(2)]
    other = await attempt(database, **limits)
    anonymous = [await attempt(database, await make_claim(database, isAnonymous=True), **limits) for _ in range(3)]

    assert [type(one) for one in [*mine, other]] == [Admitted, Refused, Admitted]
    assert [type(one) for one in anonymous] == [Admitted, Admitted, Refused]
    assert mine[1].reason == "the budget of 1 calls a day and user is spent"


async def test_budget_warns_once_at_its_threshold(database):
    warnings = [(await attempt(database, budgets={"day_calls": 10}, warning_fraction=0.8)).warning for _ in range(10)]

    assert [number for number, warning in enumerate(warnings, 1) if warning] == [8]


async def test_kill_switch_stops_buying_at_once(database):
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true, "reason": "test"}')""")
    stopped = await attempt(database)
    shut = await database.run(lambda connection: provider_wait(connection, "gemini", RULES))
    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'buying'")

    assert (stopped.kind, stopped.reason, shut.kind) == ("stopped", "buying is stopped: test", "stopped")
    assert stopped.wait_s <= 5
    assert isinstance(await attempt(database), Admitted)


async def test_throttle_pauses_everyone_and_halves_concurrency_once(database):
    limits = {"first_concurrency": 4}
    began_s = time.monotonic()
    opened = [await attempt(database, **limits) for _ in range(3)]
    for one in opened:
        await close(database, one, "throttled", rules=limits, retry_after_s=30.0)
    refused = await attempt(database, **limits)
    took_s = time.monotonic() - began_s
    halved = await ceiling(database)
    await shift(database, 31)
    for one in [await attempt(database, **limits) for _ in range(2)]:
        await close(database, one, rules=limits)

    assert (refused.kind, 30 - took_s < refused.wait_s <= 30) == ("paused", True)
    assert halved == 2
    assert await ceiling(database) == pytest.approx(2 + 1 / 2 + 1 / 2.5)  # by one a round from now on


async def test_concurrency_doubles_with_each_round_of_answered_calls(database):
    rules = {"first_concurrency": 2, "concurrency": 9}
    in_flight = []
    for _ in range(4):
        opened = []
        while isinstance(one := await attempt(database, **rules), Admitted):
            opened.append(one)
        in_flight.append(len(opened))
        for one in opened:
            await close(database, one, rules=rules)

    assert in_flight == [2, 4, 8, 9]


async def test_concurrency_stays_where_fewer_calls_are_made_at_a_time(database):
    limits = {"first_concurrency": 3, "concurrency": 9}
    for _ in range(3):
        for one in [await attempt(database, **limits) for _ in range(2)]:
            await close(database, one, rules=limits)
    unproven = await ceiling(database)
    early = [await attempt(database, **limits) for _ in range(3)]  # as many as it allows
    for one in early[:2]:
        await close(database, one, rules=limits)
    await close(database, await attempt(database, **limits), rules=limits)  # begun when there was room for more
    grown = await ceiling(database)
    await close(database, early[2], rules=limits)

    assert (unproven, grown, await ceiling(database)) == (None, 5, 6)


async def test_calls_of_dead_workers_fill_no_ceiling(database):
    limits = {"first_concurrency": 2, "concurrency": 9}
    await attempt(database, **limits)
    await die(database)
    await close(database, await attempt(database, *await claim_jobs(database), **limits), rules=limits)

    assert await ceiling(database) is None


async def test_lowered_concurrency_holds_for_the_next_call(database):
    for one in [await attempt(database, first_concurrency=2) for _ in range(2)]:
        await close(database, one)  # the ceiling has grown
    opened = [await attempt(database, first_concurrency=1, concurrency=1) for _ in range(2)]

    assert isinstance(opened[0], Admitted)
    assert opened[1].kind == "concurrency"


async def test_breaker_opens_probes_with_one_call_and_closes(database):
    for _ in range(3):
        await close(database, await attempt(database), "failed", reason="down")
    opened = await attempt(database)
    await shift(database, 11)
    probe = await attempt(database)
    meanwhile = await attempt(database)
    began_s = time.monotonic()
    await close(database, probe, "failed")
    longer = await attempt(database)
    took_s = time.monotonic() - began_s
    await shift(database, 21)
    await close(database, await attempt(database))
    free = [await attempt(database) for _ in range(3)]

    assert (opened.kind, opened.reason) == ("breaker", "its breaker is open: down")
    assert isinstance(probe, Admitted)
    assert (meanwhile.kind, meanwhile.wait_s) == ("breaker", 2)
    assert 20 - took_s < longer.wait_s <= 20
    assert [type(one) for one in free] == [Admitted] * 3


async def die(database):
    """Let every worker die, as its supervisor hears it, and its claims be rescued."""
    await database.fetch("DELETE FROM darkroom.workers")
    assert (await rescue_lost_claims(database, NEVER)).requeued > 0


async def test_calls_of_dead_workers_are_in_flight_no_more(database):
    limit = {"first_concurrency": 2, "concurrency": 2}
    opened = [await attempt(database, **limit) for _ in range(2)]
    refused = await attempt(database, **limit)
    await die(database)
    after = await attempt(database, *await claim_jobs(database), **limit)

    assert [type(one) for one in opened] == [Admitted] * 2
    assert (refused.kind, type(after)) == ("concurrency", Admitted)


async def test_as_many_calls_are_in_flight_as_a_provider_may_begin_with_where_no_rule_says_it(database):
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1, rules={})
    opened = []
    for _ in range(FIRST_CONCURRENT + 1):
        claim = await make_claim(database)
        opened.append(await database.run(lambda connection, claim=claim: open_call(connection, claim, plan)))

    assert [type(one) for one in opened[:-1]] == [Admitted] * FIRST_CONCURRENT
    assert opened[-1].kind == "concurrency"


async def test_call_left_open_is_not_in_flight_again_with_the_next_claim_of_the_same_attempt(database):
    claim = await make_claim(database)
    assert isinstance(await attempt(database, claim, first_concurrency=1), Admitted)
    snoozed = Snoozed("ANALYZING", "later", timedelta())  # its attempt is given back
    await database.run(lambda connection: record(connection, claim, snoozed))

    (again,) = await claim_jobs(database)

    assert again.attempt == claim.attempt
    assert isinstance(await attempt(database, again, first_concurrency=1), Admitted)


async def test_probe_of_a_dead_worker_holds_no_breaker(database):
    for _ in range(3):
        await close(database, await attempt(database), "failed", reason="down")
    await shift(database, 11)
    probe = await attempt(database)
    await die(database)

    assert isinstance(probe, Admitted)
    assert isinstance(await attempt(database, *await claim_jobs(database)), Admitted)


async def test_call_that_can_never_work_stops_the_lane_at_once(database):
    await close(database, await attempt(database), "stopped", reason="ProviderNotConfiguredError")
    refused = await attempt(database)

    assert (refused.kind, refused.wait_s > 290) == ("breaker", True)


async def test_day_of_the_quota_is_the_providers(database):
    start = await database.fetchval(
        "SELECT darkroom.day_start('2026-07-01T06:30:00Z'::timestamptz, 'America/Los_Angeles')"
    )
    limits = {"requests_per_day": 1, "zone": "America/Los_Angeles"}
    await close(database, await attempt(database, **limits))
    refused = await attempt(database, **limits)

    assert f"{start:%d %H:%M}" == "30 07:00"
    assert refused.kind == "quota"
    assert 0 < refused.wait_s <= 25 * 3600


async def test_free_call_passes_a_shut_gate(database):
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}')""")
    await make_job(database)
    (claim,) = await claim_jobs(database)
    plan = CallPlan("local", "generate", may_be_paid=False)

    assert isinstance(await database.run(lambda connection: open_call(connection, claim, plan)), Admitted)
