"""What submit_generation refuses, without a charge: what a worker would refuse without reading a picture."""

import asyncpg
import pytest

from config.job_terms import MAX_PROMPT_CHARS, MAX_URL_CHARS
from tests.support.builders import balance_of, make_api_key, make_user, queue_row

GENERATE = """
SELECT darkroom.submit_generation($1, type => $2, tier => $3, prompt => $4, input_key => $5, input_url => $6,
                                  api_key_id => $7)
"""


async def submit(foreign, user, *, kind="GENERATE", tier="TIER_1K", prompt="a cat", key=None, url=None, api_key=None):
    return await foreign.fetchval(GENERATE, user, kind, tier, prompt, key, url, api_key)


async def refused(awaitable):
    with pytest.raises(asyncpg.PostgresError) as caught:
        await awaitable
    return caught.value.sqlstate, str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": None}, "prompt is empty"),
        ({"prompt": " \n\t\u2003\u00a0\x1f"}, "prompt is empty"),
        ({"prompt": "x" * (MAX_PROMPT_CHARS + 1)}, "8,001 characters; the limit is 8,000"),
        ({"kind": "MODIFY"}, "needs an input picture"),
        ({"kind": "MODIFY", "key": "", "url": ""}, "needs an input picture"),
        ({"kind": "MODIFY", "url": "ftp://example.test/a.png"}, "neither http"),
        ({"kind": "MODIFY", "url": "https:///a.png"}, "names no host"),
        ({"kind": "MODIFY", "url": "https://example.test/" + "a" * MAX_URL_CHARS}, "the limit is 2,000"),
        ({"kind": "MODIFY", "url": "https://example.test/a b.png"}, "a space, a backslash or a control character"),
        ({"kind": "MODIFY", "url": "https://me:key@example.test/a.png"}, "input_url holds a user name"),
        ({"kind": "MODIFY", "url": "https://example.test:8443/a.png"}, "port 8443; allowed are 80 and 443"),
        ({"kind": "MODIFY", "url": "http://10.1.2.3/a.png"}, "a host that isn't a public one"),
        ({"kind": "MODIFY", "key": "mcp-input/USER/../other/a.png"}, "no key: it holds a part that is . or .."),
        ({"kind": "MODIFY", "key": "/mcp-input/USER/a.png"}, "no key: it starts or ends with /"),
        ({"kind": "MODIFY", "key": "mcp-input/USER/" + "é" * 513}, "bytes; a key has 1 to 1,024"),
        ({"kind": "MODIFY", "key": "https://example.test/a.png"}, "input_key is no key"),
        ({"kind": "PAINT"}, "no type 'PAINT'"),
        ({"kind": "generate"}, "no type 'generate'"),
        ({"kind": None}, "no type"),
        ({"tier": "TIER_9K"}, "no tier 'TIER_9K'"),
        ({"tier": None}, "no tier NULL"),
    ],
)
async def test_generation_that_no_worker_would_take_is_refused_uncharged(database, foreign, arguments, said):
    user = await make_user(database, balance=10)

    if "key" in arguments:
        arguments = arguments | {"key": arguments["key"].replace("USER", user)}
    state, message = await refused(submit(foreign, user, **arguments))

    assert (state, said in message) == ("22023", True), message
    assert await balance_of(database, user) == 10
    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "\u00e9" * MAX_PROMPT_CHARS},
        {"prompt": "\u3000x\u3000"},
        {"kind": "MODIFY", "url": "HTTPS://example.test/a.png"},
        {"kind": "GENERATE", "url": "ignored"},
    ],
)
async def test_generation_at_the_bounds_is_taken(database, foreign, arguments):
    user = await make_user(database)

    assert await queue_row(database, await submit(foreign, user, **arguments))


async def test_input_key_of_another_user_is_not_yours(database, foreign):
    user, other = await make_user(database), await make_user(database)

    for key in (f"mcp-input/{other}/a.png", f"users/{user}x/a.png", f"other/{user}/a.png", f"mcp-input/{user}"):
        state, message = await refused(submit(foreign, user, kind="MODIFY", key=key))
        assert (state, message) == ("42501", f"input key {key} is not yours")

    assert await queue_row(database, await submit(foreign, user, kind="MODIFY", key=f"mcp-input/{user}/a.png"))


async def test_inactive_api_key_is_refused(database, foreign):
    user = await make_user(database)
    key = await make_api_key(database, user, is_active=False)

    assert await refused(submit(foreign, user, api_key=key)) == ("42501", f"API key {key} is not active")
    assert (await refused(submit(foreign, user, api_key="nothing")))[0] == "P0002"


async def subscribe(database, user, *, price, tier="BASIC", status="ACTIVE"):
    await database.fetch(
        """INSERT INTO public.subscriptions (id, "userId", "stripeSubscriptionId", "stripePriceId", status, tier,
               "currentPeriodStart", "currentPeriodEnd", "tokensPerMonth", "updatedAt")
           VALUES ($1, $1, $1, $2, $3::text::public."SubscriptionStatus", $4::text::public."SubscriptionTier",
                   darkroom.utc_now(), darkroom.utc_now() + interval '20 d', 20, darkroom.utc_now())""",
        user,
        price,
        status,
        tier,
    )


async def make_plan(database, name, *, price, has_api):
    await database.fetch(
        """INSERT INTO public.subscription_plans
               (id, name, "tokensPerMonth", "priceGBP", "stripePriceId", "apiAccess", "updatedAt")
           VALUES ($1, $2, 20, 1, $1, $3, darkroom.utc_now())""",
        price,
        name,
        has_api,
    )


async def test_plan_without_api_access_is_refused(database, foreign):
    await make_plan(database, "Basic", price="p-basic", has_api=False)
    await make_plan(database, "Pro yearly", price="p-pro", has_api=True)
    by_price, by_name, with_access, over = [await make_user(database) for _ in range(4)]
    await subscribe(database, by_price, price="p-basic", tier="PREMIUM")
    await subscribe(database, by_name, price="voucher", status="TRIALING")
    await subscribe(database, with_access, price="p-pro")
    await subscribe(database, over, price="p-basic", status="CANCELED")

    for user in (by_price, by_name):
        key = await make_api_key(database, user)
        state, message = await refused(submit(foreign, user, api_key=key))
        assert (state, "no API access" in message) == ("42501", True)
        assert await queue_row(database, await submit(foreign, user))
    for user in (with_access, over, await make_user(database)):
        assert await queue_row(database, await submit(foreign, user, api_key=await make_api_key(database, user)))


async def test_plan_of_the_balances_tier_counts_where_nothing_is_subscribed(database, foreign):
    await make_plan(database, "standard", price="p-standard", has_api=False)
    user = await make_user(database, tier="STANDARD")

    state, _ = await refused(submit(foreign, user, api_key=await make_api_key(database, user)))

    assert state == "42501"
