"""The gate beside a transaction that stays open: PostgreSQL keeps every row version, and no call may read them all."""

import json

import pytest

from models.gate.provider_calls import Admitted
from tests.integration.gate.test_gate import RULES, attempt, close, die
from tests.support.builders import claim_jobs, make_claim

MANY = 300

ENDED = "'answered', true, 1, 'm', 1, 1, 1, 0.04, true, 'answered', NULL, NULL"

# calls of one claim, each of its two halves a transaction as the gate makes it
BUY = """
DO $do$
DECLARE
    opened record;
BEGIN
    FOR n IN 1..{calls} LOOP
        SELECT * INTO opened FROM darkroom.open_call({call});
        ASSERT opened.intent IS NOT NULL, opened.reason;
        COMMIT;
        PERFORM darkroom.close_call(opened.intent, {ended}, {rules});
        COMMIT;
    END LOOP;
END $do$
"""


def arguments(claim, rules):
    """Return open_call's arguments and the rules, as SQL."""
    values = f"'{claim.job_type}', '{claim.job_id}', {claim.id}, '{claim.lease_token}', '{claim.user_id}'"
    text = f"'{json.dumps(rules)}'::jsonb"
    return f"{values}, {claim.attempt}, 'gemini', 'm', 'generate', true, 0.05, 1, {text}, NULL", text


async def pages_of(connection, statement):
    """Return how many pages a statement looks at, once its plans are made."""
    pages = []
    for _ in range(8):
        (top,) = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        pages.append(top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"])
    return min(pages)


@pytest.mark.parametrize(
    "limits",
    [
        {"first_concurrency": 1000, "budgets": {"day_usd": 1000, "user_day_calls": 10_000}},
        {"first_concurrency": 1000, "requests_per_day": 100_000, "images_per_day": 100_000},
        {"first_concurrency": 1, "concurrency": 1},
    ],
    ids=["budgets", "days", "at its ceiling"],
)
async def test_call_costs_the_same_after_hundreds_under_an_old_snapshot(database, limits):
    claim, rules = await make_claim(database), RULES | limits
    call, as_sql = arguments(claim, rules)
    looking = f"SELECT * FROM darkroom.call_wait('gemini', 'user:{claim.user_id}', 0.05, 1, {as_sql})"
    buying = f"SELECT darkroom.close_call(o.intent, {ENDED}, {as_sql}) FROM darkroom.open_call({call}) o"
    async with database.connection() as old, old.transaction(isolation="repeatable_read"):
        await old.fetchval("SELECT count(*) FROM darkroom.limits")
        async with database.connection() as buyer:
            await buyer.execute(BUY.format(calls=20, call=call, rules=as_sql, ended=ENDED))
            before = [await pages_of(buyer, statement) for statement in (looking, buying)]
            await buyer.execute(BUY.format(calls=MANY, call=call, rules=as_sql, ended=ENDED))
            after = [await pages_of(buyer, statement) for statement in (looking, buying)]

    assert after[0] <= before[0] + 10
    assert after[1] <= before[1] * 1.5


async def test_calls_in_flight_are_counted_from_the_oldest_that_is_open(database):
    claim = await make_claim(database)
    rules = RULES | {"first_concurrency": 2, "concurrency": 2}
    call, as_sql = arguments(claim, rules)
    async with database.connection() as buyer:
        await buyer.execute(BUY.format(calls=MANY, call=call, rules=as_sql, ended=ENDED))
        assert isinstance(await attempt(database, claim, rules=rules), Admitted)
        assert isinstance(await attempt(database, claim, rules=rules), Admitted)
        refused = await attempt(database, claim, rules=rules)
        counting = f"SELECT * FROM darkroom.call_wait('gemini', NULL, 0, 1, {as_sql})"
        pages = await pages_of(buyer, counting)

    assert (refused.kind, refused.reason) == ("concurrency", "2 calls are in flight, as many as it takes now")
    assert pages < 60


async def test_call_that_ends_after_its_claim_was_lost_frees_no_place_twice(database):
    rules = {"first_concurrency": 2, "concurrency": 2}
    lost = [await attempt(database, rules=rules) for _ in range(2)]
    await die(database)
    claims = [one for _ in range(2) for one in await claim_jobs(database)]  # suspects are claimed one at a time
    first = await attempt(database, claims[0], rules=rules)  # counted anew: the dead workers' calls are none
    for one in lost:  # the workers weren't dead: they hang up now, and their calls were off the count already
        await close(database, one, rules=rules)
    second = await attempt(database, claims[1], rules=rules)
    third = await attempt(database, claims[1], rules=rules)

    assert [type(one) for one in (*lost, first, second)] == [Admitted] * 4
    assert third.kind == "concurrency"
