"""Signing in and out: who gets in, what a browser is given, and when a session ends."""

import asyncio
import unicodedata

import pytest

from models.operators.operators import change_operator
from models.operators.sessions import hash_of, open_session
from tests.integration.dashboard.conftest import PASSWORD, CountingHasher, add, csrf_of, sign_in, site_of


async def test_operator_signs_in_is_led_to_the_page_and_signs_out_for_good(site, database):
    await add(database)
    browser = await site.browser()

    asked = await browser.get("/jobs?status=FAILED&error=a%20b")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/sign-in?next=%2Fjobs%3Fstatus%3DFAILED%26error%3Da%2520b"
    form = await browser.get(asked.headers["location"])
    assert (form.status_code, 'value="/jobs?status=FAILED&amp;error=a%20b"' in form.text) == (200, True)
    fields = {
        "name": "ada",
        "password": PASSWORD,
        "csrf_token": csrf_of(form),
        "next": "/jobs?status=FAILED&error=a%20b",
    }
    signed_in = await browser.post("/sign-in", data=fields)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/jobs?status=FAILED&error=a%20b")
    (cookie,) = [one for one in signed_in.headers.get_list("set-cookie") if one.startswith("darkroom_session=")]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    page = await browser.get("/")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert (await browser.get("/sign-in")).status_code == 303

    token = browser.cookies["darkroom_session"]
    assert not await database.fetch("SELECT FROM darkroom.sessions WHERE token_hash::text LIKE '%' || $1 || '%'", token)
    signed_out = await browser.post("/sign-out", data={"csrf_token": csrf_of(page)})
    assert (signed_out.status_code, signed_out.headers["location"]) == (303, "/sign-in")
    assert "darkroom_session" not in browser.cookies
    browser.cookies["darkroom_session"] = token  # somebody has kept it
    assert (await browser.get("/")).status_code == 303


async def test_cookie_is_for_https_where_people_use_https(served, tmp_path, database):
    await add(database)
    async with site_of(served, tmp_path, dashboard_url="https://dash.example.com") as site:
        browser = await site.browser(host="dash.example.com")
        form = await browser.get("/sign-in")
        csrf = form.headers["set-cookie"]
        answer = await browser.post(
            "/sign-in",
            data={"name": "ada", "password": PASSWORD, "csrf_token": csrf_of(form)},
            headers={"cookie": csrf.partition(";")[0], "origin": "https://dash.example.com"},
        )

    assert answer.status_code == 303
    assert all(one.endswith("; Secure") for one in (csrf, *answer.headers.get_list("set-cookie")))


async def test_wrong_password_and_unknown_name_are_told_alike_and_cost_the_same(site, database):
    await add(database)
    browser = await site.browser()

    told = set()
    for name, password in (("ada", "wrong wrong"), ("nobody", "wrong wrong"), ("a b", PASSWORD), ("ada", "x" * 5_000)):
        before = site.hasher.verified
        answer = await sign_in(browser, name, password)
        assert site.hasher.verified == before + 1, name
        token = csrf_of(answer)
        told.add((answer.status_code, answer.text.replace(f'value="{name}"', "").replace(token, "")))

    ((status, text),) = told
    assert (status, '<p role="alert">wrong name or password</p>' in text) == (401, True)


HOSTILE = [
    "ada\x00",
    "\x00",
    "",
    "ada' OR '1'='1",
    "<script>alert(1)</script>",
    "a" * 65,
    "../../etc",
    "ada\r\nX: y",
    "🗝" * 70,
]


async def test_hostile_names_and_passwords_are_wrong_and_shown_as_text(served, tmp_path, database):
    await add(database)
    async with site_of(served, tmp_path, dashboard_proxies=("127.0.0.1/32",)) as site:
        browser = await site.browser()
        for number, text in enumerate(HOSTILE):
            browser.headers["x-forwarded-for"] = f"203.0.113.{number}"
            for name, password in ((text, PASSWORD), (f"b{number}", text)):
                answer = await sign_in(browser, name, password)
                assert answer.status_code == 401, text
                assert "<script>alert" not in answer.text

    assert await database.fetchval("SELECT count(*) FROM darkroom.sessions") == 0


async def test_names_and_passwords_are_the_same_however_a_keyboard_writes_them(site, database):
    name, password = unicodedata.normalize("NFC", "zoë"), unicodedata.normalize("NFC", "pässwörd \x00🗝")
    await add(database, name, password=password)

    browser = await site.browser()
    answer = await sign_in(browser, unicodedata.normalize("NFD", name), unicodedata.normalize("NFD", password))

    assert answer.status_code == 303


async def test_hash_of_old_parameters_is_renewed_when_its_password_is_known(site, database):
    old = CountingHasher(memory_cost=16).hash(PASSWORD.encode())
    await add(database)
    await database.fetch("UPDATE darkroom.operators SET password_hash = $1", old)

    browsers = [await site.browser() for _ in range(4)]
    answers = await asyncio.gather(*(sign_in(browser, "ada", PASSWORD) for browser in browsers))

    assert [answer.status_code for answer in answers] == [303] * 4
    renewed = await database.fetchval("SELECT password_hash FROM darkroom.operators")
    assert (renewed == old, CountingHasher().check_needs_rehash(renewed)) == (False, False)


async def test_sessions_end_when_idle_when_old_and_with_their_operator(site, database):
    await add(database)
    ways = {
        "idle": "UPDATE darkroom.sessions SET seen_at = now() - interval '12 h 1 s'",
        "old": "UPDATE darkroom.sessions SET expires_at = now() - interval '1 s'",
        "removed": "DELETE FROM darkroom.operators WHERE name = 'ada'",
    }
    await add(database, "eve")  # or nobody would have to sign in after the removal
    for way, statement in ways.items():
        browser = await site.signed_in()
        assert (await browser.get("/")).status_code == 200
        await database.fetch(statement)
        assert (await browser.get("/")).status_code == 303, way

    await site.signed_in("eve")  # which deletes what is over
    assert await database.fetchval("SELECT count(*) FROM darkroom.sessions") == 1


async def test_use_of_a_session_is_recorded_once_in_a_minute(site, database):
    await add(database)
    browser = await site.signed_in()
    seen = await database.fetchval("SELECT seen_at FROM darkroom.sessions")
    await browser.get("/")
    assert await database.fetchval("SELECT seen_at FROM darkroom.sessions") == seen

    await database.fetch("UPDATE darkroom.sessions SET seen_at = now() - interval '2 min'")
    await browser.get("/")
    assert await database.fetchval("SELECT seen_at > now() - interval '1 min' FROM darkroom.sessions")
    lasts = await database.fetchval(
        "SELECT extract(epoch FROM expires_at - created_at)::integer FROM darkroom.sessions"
    )
    assert lasts == 7 * 24 * 3600


async def test_another_password_ends_sessions_and_sign_ins_that_are_under_way(site, database):
    await add(database)
    await add(database, "eve")
    browser = await site.signed_in()
    old = await database.fetchval("SELECT password_hash FROM darkroom.operators WHERE name = 'ada'")

    async def change(connection):
        async with connection.transaction():
            return await change_operator(connection, "ada", "viewer", CountingHasher().hash(b"another one"))

    async def open_late(connection):
        async with connection.transaction():
            return await open_session(connection, "ada", hash_of("late"), password_hash=old, new_hash=None)

    assert await database.commit("add_operator", change) == "operator"
    assert (await browser.get("/")).status_code == 303
    assert await database.commit("sign_in", open_late) is False
    assert await database.fetchval("SELECT count(*) FROM darkroom.sessions") == 0
    assert (await sign_in(await site.browser(), "ada", PASSWORD)).status_code == 401
    await site.signed_in("ada", "another one")


async def test_first_operator_closes_a_dashboard_that_was_open(site, database):
    browser = await site.browser()
    assert (await browser.get("/")).status_code == 200

    await add(database)
    assert (await browser.get("/")).status_code == 303
    assert (await browser.get("/api/jobs")).status_code == 401
    await database.fetch("DELETE FROM darkroom.operators")
    assert (await browser.get("/")).status_code == 200


async def test_sessions_and_forms_outlive_a_restart_and_another_dashboard(served, tmp_path, database, logging_restored):
    await add(database)
    async with (
        site_of(served, tmp_path, secret_key=None) as first,
        site_of(served, tmp_path, secret_key=None) as second,
    ):
        browser = await first.signed_in()
        page = await browser.get("/")
        cookies = dict(browser.cookies)
        other = await second.browser()
        other.cookies.update(cookies)
        assert (await other.get("/")).status_code == 200
    async with site_of(served, tmp_path, secret_key=None) as third:
        again = await third.browser()
        again.cookies.update(cookies)
        assert (await again.get("/")).status_code == 200
        assert (await again.post("/sign-out", data={"csrf_token": csrf_of(page)})).status_code == 303

    key = await database.fetchval("SELECT value FROM darkroom.settings WHERE key = 'secret_key'")
    assert len(key) >= 32


async def test_two_dashboards_that_start_at_once_agree_on_the_key(served, tmp_path, database, logging_restored):
    async def start():
        async with site_of(served, tmp_path, secret_key=None) as site:
            return site.dashboard.settings.secret_key.get_secret_value()

    keys = await asyncio.gather(*(start() for _ in range(4)))

    assert set(keys) == {await database.fetchval("SELECT value FROM darkroom.settings WHERE key = 'secret_key'")}


@pytest.mark.parametrize("name", ["ada", "vera"])
async def test_proxy_names_who_somebody_is_and_nobody_else_may(served, tmp_path, database, name):
    await add(database)
    await add(database, "vera", "viewer")
    terms = {"dashboard_auth": "proxy", "dashboard_proxies": ("127.0.0.1/32",)}
    async with site_of(served, tmp_path, **terms) as site:
        browser = await site.browser(x_forwarded_user=name)
        page = await browser.get("/")
        assert page.status_code == 200
        done = await browser.post("/nothing", data={"csrf_token": csrf_of(page)})
        assert done.status_code == (404 if name == "ada" else 403)
        for other in ("nobody", "", "ada, vera", "ada\tx"):
            browser.headers["x-forwarded-user"] = other
            assert (await browser.get("/")).status_code == 303
        form = await browser.get("/sign-in")
        assert ('role="alert"' in form.text, "Password" in form.text) == (True, False)
        fields = {"name": "ada", "password": PASSWORD, "csrf_token": csrf_of(form)}
        assert (await browser.post("/sign-in", data=fields)).status_code == 403
    async with site_of(served, tmp_path, **terms | {"dashboard_proxies": ("10.0.0.0/8",)}) as site:
        assert (await (await site.browser(x_forwarded_user=name)).get("/")).status_code == 303
