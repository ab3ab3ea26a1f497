"""Calls that a process opens and ends together: each is decided and counted as if it had come alone."""

import asyncio
from decimal import Decimal

import pytest

from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, Refused
from models.queue.claims import FencedError
from models.queue.transitions import Released, record
from tests.integration.gate.test_gate import RULES, cell
from tests.support.builders import claim_jobs, make_image, make_job, make_user, waiting_for_locks
from tests.support.buyer import DIED, die_buying
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S
from workers.gate.call_records import CallRecords

ANSWERED = CallOutcome("answered", may_be_paid=True, latency_ms=1, verdict="answered")


def plan_of(rules, *, images=1, is_paid=True):
    return CallPlan("gemini", "generate", may_be_paid=is_paid, model="m", price_usd=1, images=images, rules=rules)


async def claims_of(database, users, each=1):
    """Claim jobs, so many for each user; return them user by user."""
    claims = []
    for user in users:
        image = await make_image(database, user)
        for _ in range(each):
            await make_job(database, user_id=user, image_id=image)
        claims += await claim_jobs(database, most=each)
    return claims


async def opened_together(database, claims, *, is_paid=True, **limits):
    rules = RULES | limits
    records, plan = CallRecords(database, rules), plan_of(rules, is_paid=is_paid)
    return records, await asyncio.gather(*(records.open(claim, plan) for claim in claims), return_exceptions=True)


def kinds(opened):
    return [one.kind if isinstance(one, Refused) else type(one) for one in opened]


async def counted(database):
    """Return what the cells count, and what they should: from the calls."""
    state = (await cell(database, "provider", "gemini"))["state"]
    day = await cell(database, "provider_day", "gemini")
    budgets = await database.fetch(  # a payer without calls may have a cell with nothing counted
        """SELECT name, used, (state ->> 'calls')::integer AS calls FROM darkroom.limits
           WHERE scope = 'budget' AND (used <> 0 OR state <> '{}')"""
    )
    calls = await database.fetch(
        "SELECT payer, outcome, quoted_images, coalesce(cost_usd, quoted_usd) AS usd FROM darkroom.provider_calls"
    )
    payers = {
        payer: (sum(one["usd"] for one in calls if payer in ("all", one["payer"])), len(calls))
        if payer == "all"
        else (
            sum(one["usd"] for one in calls if one["payer"] == payer),
            len([one for one in calls if one["payer"] == payer]),
        )
        for payer in {"all", *(one["payer"] for one in calls)}
    }
    are = (
        *(state["in_flight"], day["used"], day["state"]["images"]),
        {(row["name"], row["used"], row["calls"]) for row in budgets},
    )
    should = (
        *(len([one for one in calls if one["outcome"] == "open"]), len(calls)),
        sum(one["quoted_images"] for one in calls),
        {(payer, usd, number) for payer, (usd, number) in payers.items()},
    )
    return are, should


async def test_calls_of_one_moment_share_a_transaction_and_are_counted_exactly(database):
    users = [await make_user(database) for _ in range(4)]
    claims = await claims_of(database, users, each=5)
    records, opened = await opened_together(database, claims)
    transactions = await database.fetchval("SELECT count(DISTINCT xmin::text) FROM darkroom.provider_calls")
    are, should = await counted(database)

    assert (transactions, kinds(opened)) == (1, [Admitted] * 20)
    assert are == should
    by_job = await database.fetch("SELECT id, job_id FROM darkroom.provider_calls")
    assert {row["id"]: row["job_id"] for row in by_job} == {
        one.intent: claim.job_id for one, claim in zip(opened, claims, strict=True)
    }

    ends = [
        CallOutcome("answered", may_be_paid=True, latency_ms=1, cost_usd=Decimal(n) / 10, verdict="answered")
        for n in range(20)
    ]
    await asyncio.gather(*(records.close(one.intent, end) for one, end in zip(opened, ends, strict=True)))
    transactions = await database.fetchval("SELECT count(DISTINCT xmin::text) FROM darkroom.provider_calls")
    are, should = await counted(database)
    assert (transactions, are) == (1, should)


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        ({"budgets": {"user_day_calls": 3}}, 6),
        ({"budgets": {"user_day_usd": 3, "total_calls": 5}}, 5),
        ({"budgets": {"day_usd": 4}}, 4),
        ({"requests_per_minute": 7}, 7),
        ({"images_per_minute": 6}, 6),
        ({"requests_per_day": 2}, 2),
        ({"images_per_day": 1}, 1),
        ({"first_concurrency": 3, "concurrency": 3}, 3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_group_is_refused_in_part_and_never_exceeds_a_limit(database, limits, admitted):
    claims = await claims_of(database, [await make_user(database) for _ in range(2)], each=5)
    _, opened = await opened_together(database, claims, **limits)
    are, should = await counted(database)

    assert sum(isinstance(one, Admitted) for one in opened) == admitted
    assert all(isinstance(one, Admitted | Refused) for one in opened)
    assert are == should


async def test_budget_warns_once_in_a_group(database):
    claims = await claims_of(database, [await make_user(database)], each=10)
    _, opened = await opened_together(database, claims, budgets={"day_calls": 20}, warning_fraction=0.25)

    assert [number for number, one in enumerate(opened, 1) if one.warning] == [5]


async def test_group_tests_a_provider_whose_breaker_was_open_with_one_call(database):
    await database.fetch(
        """INSERT INTO darkroom.limits (scope, name, state)
           VALUES ('provider', 'gemini', jsonb_build_object('failures', 3, 'open_until', now() - interval '1 s'))"""
    )
    claims = await claims_of(database, [await make_user(database)], each=3)
    _, opened = await opened_together(database, claims)

    assert kinds(opened) == [Admitted, "breaker", "breaker"]


async def test_kill_switch_refuses_a_whole_group(database):
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}')""")
    claims = await claims_of(database, [await make_user(database)], each=3)
    _, opened = await opened_together(database, claims)

    assert kinds(opened) == ["stopped"] * 3


async def test_lost_claim_is_refused_and_its_group_is_admitted(database):
    claims = await claims_of(database, [await make_user(database)], each=3)
    await database.run(lambda connection: record(connection, claims[1], Released("ANALYZING")))
    _, opened = await opened_together(database, claims)

    assert kinds(opened) == [Admitted, FencedError, Admitted]
    assert await database.fetchval("SELECT count(*) FROM darkroom.provider_calls") == 2


@pytest.mark.parametrize("is_paid", [True, False])
async def test_group_waits_for_no_row_that_another_program_holds(database, is_paid):
    claims = await claims_of(database, [await make_user(database)], each=3)
    records, plan = CallRecords(database, RULES), plan_of(RULES, is_paid=is_paid)
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT FROM darkroom.job_queue WHERE job_id = $1 FOR UPDATE", claims[0].job_id)
        opening = [asyncio.create_task(records.open(claim, plan)) for claim in claims]
        await asyncio.wait(opening[1:], timeout=HANGS_AFTER_S)
        assert [one.done() for one in opening] == [False, True, True]

    assert kinds(await asyncio.gather(*opening)) == [Admitted] * 3


async def test_ends_wait_for_no_row_that_another_program_holds(database):
    claims = await claims_of(database, [await make_user(database)], each=3)
    records, opened = await opened_together(database, claims)
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT FROM darkroom.provider_calls WHERE id = $1 FOR UPDATE", opened[0].intent)
        closing = [asyncio.create_task(records.close(one.intent, ANSWERED)) for one in opened]
        await asyncio.wait(closing[1:], timeout=HANGS_AFTER_S)
        assert [one.done() for one in closing] == [False, True, True]
        ended = await database.fetch("SELECT xmin::text FROM darkroom.provider_calls WHERE outcome = 'answered'")
        assert (len(ended), len(set(ended))) == (2, 1)  # together, and before the held row could stop them
    await asyncio.gather(*closing)

    are, should = await counted(database)
    assert are == should


async def test_end_that_waits_for_a_held_row_holds_no_cell(database):
    claims = await claims_of(database, [await make_user(database)], each=2)
    records, opened = await opened_together(database, claims)
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT FROM darkroom.provider_calls WHERE id = $1 FOR UPDATE", opened[0].intent)
        closing = asyncio.create_task(records.close(opened[0].intent, ANSWERED))
        await eventually(lambda: waiting_for_locks(database))
        free = await database.fetch("SELECT name FROM darkroom.limits WHERE scope = 'provider' FOR UPDATE SKIP LOCKED")
        assert [row["name"] for row in free] == ["gemini"]
    await asyncio.gather(closing, records.close(opened[1].intent, ANSWERED))

    are, should = await counted(database)
    assert are == should


async def test_call_whose_job_was_cancelled_on_the_way_is_given_back(database):
    claims = await claims_of(database, [await make_user(database)], each=2)
    records, plan = CallRecords(database, RULES), plan_of(RULES)
    async with database.connection() as other, other.transaction():
        await other.execute("SELECT darkroom.lock_cell('provider', 'gemini', 'epoch')")
        opening = [asyncio.create_task(records.open(claim, plan)) for claim in claims]
        await asyncio.sleep(0.3)
        opening[0].cancel()

    assert isinstance(await opening[1], Admitted)

    async with asyncio.timeout(HANGS_AFTER_S):
        while not await database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'cut_off'"):  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.05)
    assert (await cell(database, "provider", "gemini"))["state"]["in_flight"] == 1
    calls = "SELECT (state ->> 'calls')::integer FROM darkroom.limits WHERE scope = 'budget' AND window_start = 'epoch'"
    assert await database.fetchval(calls) == 1


async def test_call_that_the_database_refuses_fails_alone(database):
    claims = await claims_of(database, [await make_user(database)], each=2)
    records = CallRecords(database, RULES)
    broken = CallPlan("gemini", "translate", may_be_paid=True, rules=RULES)
    opened = await asyncio.gather(
        *(records.open(claims[0], plan_of(RULES)), records.open(claims[1], broken)), return_exceptions=True
    )

    assert [type(one).__name__ for one in opened] == ["Admitted", "CheckViolationError"]


@pytest.mark.parametrize("place", ["before open_calls", "after open_calls", "before close_calls", "after close_calls"])
async def test_process_that_dies_at_a_group_leaves_all_of_it_or_nothing(database, database_url, place):
    users = [await make_user(database) for _ in range(2)]
    for user in users:
        image = await make_image(database, user)
        for _ in range(5):
            await make_job(database, user_id=user, image_id=image)
    rules = RULES | {"budgets": {"user_day_calls": 3}}  # a group that is refused in part

    assert await die_buying(database_url, 10, rules, "answered", place) == DIED

    outcomes = await database.fetch("SELECT outcome FROM darkroom.provider_calls")

    assert [row["outcome"] for row in outcomes] == {
        "before open_calls": [],
        "after open_calls": ["open"] * 6,
        "before close_calls": ["open"] * 6,
        "after close_calls": ["answered"] * 6,
    }[place]
    if outcomes:
        are, should = await counted(database)
        assert are == should


RATE = {"requests_per_minute": 7}
PLACES = {"first_concurrency": 7, "concurrency": 7}


@pytest.mark.parametrize(
    ("limits", "name", "find", "put"),
    [
        (RATE, "open_calls", "OR NOT darkroom.have_room(provider, admitted, rules, day, at)", ""),
        (RATE, "have_room", "IF FOUND THEN", "IF false THEN"),
        (PLACES, "open_calls", "asked[:coalesce(places, cardinality(asked))]", "asked"),
        ({}, "record_intents", "ORDER BY c.ordinality", "ORDER BY c.ordinality DESC"),
    ],
    ids=["no room asked for", "calls of the last minute not seen", "beyond its places", "intents in another order"],
)
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
async def test_part_that_a_group_needs_to_be_exact_is_missed(database, limits, name, find, put, is_broken):
    text = await database.fetchval(f"SELECT pg_get_functiondef('darkroom.{name}'::regproc)")
    assert text.count(find) == 1
    if is_broken:
        await database.fetch(text.replace(find, put))
    claims = await claims_of(database, [await make_user(database)], each=10)
    opened = [
        *(await opened_together(database, claims[:4], **limits))[1],
        *(await opened_together(database, claims[4:], **limits))[1],
    ]
    answered = {
        (one.intent, claim.job_id) for one, claim in zip(opened, claims, strict=True) if isinstance(one, Admitted)
    }
    rows = {(row["id"], row["job_id"]) for row in await database.fetch("SELECT * FROM darkroom.provider_calls")}

    assert (len(rows) > (7 if limits else 10) or rows != answered) == is_broken
