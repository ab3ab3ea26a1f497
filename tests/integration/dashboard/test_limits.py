"""The limit on failed sign-ins is exact, whatever happens at the same moment, and at several dashboards."""

import asyncio
from collections import Counter

from models.operators.sessions import hash_of
from models.operators.sign_in_tries import begin_try
from tests.integration.dashboard.conftest import PASSWORD, add, sign_in, site_of

PROXIES = {"dashboard_proxies": ("127.0.0.1/32",)}
A_MINUTE_LATER = "UPDATE darkroom.sign_in_tries SET at = at - interval '61 s'"


async def tried_at_once(sites, count, name, password, address="203.0.113.{}"):
    browsers = [
        await sites[number % len(sites)].browser(x_forwarded_for=address.format(number)) for number in range(count)
    ]
    answers = await asyncio.gather(*(sign_in(browser, name, password) for browser in browsers))
    return Counter(answer.status_code for answer in answers), answers


async def test_five_of_fifty_wrong_tries_at_once_are_judged_at_two_dashboards(served, tmp_path, database):
    await add(database)
    async with site_of(served, tmp_path, **PROXIES) as first, site_of(served, tmp_path, **PROXIES) as second:
        codes, answers = await tried_at_once([first, second], 50, "ada", "wrong wrong")
        assert codes == {401: 5, 429: 45}
        assert first.hasher.verified + second.hasher.verified == 5
        assert all(1 <= int(one.headers["retry-after"]) <= 60 for one in answers if one.status_code == 429)

        right = await sign_in(await first.browser(), "ada", PASSWORD)
        assert (right.status_code, 'role="alert"' in right.text) == (429, True)
        assert (await sign_in(await first.browser(), "eve", "wrong wrong")).status_code == 401
        await database.fetch(A_MINUTE_LATER)
        assert (await sign_in(await first.browser(), "ada", PASSWORD)).status_code == 303
    assert await database.fetchval("SELECT count(*) FROM darkroom.sign_in_tries") == 0


async def test_five_tries_at_once_get_a_place_whatever_waits_beside_them(database):
    async def begin(connection):
        async with connection.transaction():
            return await begin_try(connection, hash_of("ada"), "203.0.113.1")

    begun = await asyncio.gather(*(database.commit("begin_sign_in", begin) for _ in range(60)))

    assert len([one for one in begun if one.number is not None]) == 5
    assert {one.retry_after for one in begun} == {None}  # none of the five has failed yet


async def test_fifty_right_tries_at_once_all_get_in(served, tmp_path, database):
    await add(database)
    async with site_of(served, tmp_path, **PROXIES) as first, site_of(served, tmp_path, **PROXIES) as second:
        codes, _ = await tried_at_once([first, second], 50, "ada", PASSWORD, "203.0.113.1")

    assert codes == {303: 50}
    assert await database.fetchval("SELECT count(*) FROM darkroom.sign_in_tries") == 0


async def test_failures_of_an_address_count_whatever_the_names(served, tmp_path, database):
    await add(database)
    async with site_of(served, tmp_path, **PROXIES) as site:
        browser = await site.browser(x_forwarded_for="2001:db8:1:2::1")
        told = [(await sign_in(browser, f"name{number}", "wrong wrong")).status_code for number in range(5)]
        assert told == [401] * 5
        neighbour = await site.browser(x_forwarded_for="2001:db8:1:2:ffff::9")  # the same customer's
        assert (await sign_in(neighbour, "ada", PASSWORD)).status_code == 429
        assert (
            await sign_in(await site.browser(x_forwarded_for="2001:db8:1:3::1"), "ada", PASSWORD)
        ).status_code == 303


async def test_address_that_no_proxy_vouches_for_is_the_connections(site, database):
    await add(database)
    for number in range(5):
        browser = await site.browser(x_forwarded_for=f"203.0.113.{number}")
        assert (await sign_in(browser, f"name{number}", "wrong wrong")).status_code == 401

    assert (await sign_in(await site.browser(x_forwarded_for="203.0.113.99"), "ada", PASSWORD)).status_code == 429


async def test_try_of_a_killed_dashboard_counts_as_failed(site, database):
    await add(database)
    for _ in range(5):
        await database.commit("begin_sign_in", lambda connection: begin_try(connection, hash_of("ada"), "203.0.113.1"))
    await database.fetch("UPDATE darkroom.sign_in_tries SET at = at - interval '11 s'")

    answer = await sign_in(await site.browser(), "ada", PASSWORD)

    assert (answer.status_code, 40 <= int(answer.headers["retry-after"]) <= 50) == (429, True)


async def test_no_name_that_was_typed_is_stored(site, database):
    await add(database)
    await sign_in(await site.browser(), "my secret password", "wrong wrong")

    (row,) = await database.fetch("SELECT t::text AS text, t.name_hash, t.address FROM darkroom.sign_in_tries t")
    assert (row["name_hash"], row["address"]) == (hash_of("my secret password"), "127.0.0.1")
    assert "secret" not in row["text"]
