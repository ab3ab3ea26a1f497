"""The guard: which requests reach a page, and as whom."""

import asyncio
import contextlib
import json

import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from config.postgres_url import parse_postgres_url
from tests.integration.dashboard.conftest import add, csrf_of, sign_in, site_of
from tests.support.patience import within
from workers.dashboard.app import make_pages
from workers.dashboard.bodies import MOST_BYTES

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def pages_of(dashboard):
    """Return the dashboard's own pages, and some that say what the guard has let through."""

    async def act(request: Request):
        form = await request.form(max_fields=20_000)
        return JSONResponse(
            {"form": dict(form), "by": request.state.operator.name, "role": request.state.operator.role}
        )

    async def size(request: Request):
        return JSONResponse({"size": len(await request.body())})

    async def fail(_request: Request):
        raise ValueError("a bug with secrets")

    async def stream(request: Request):
        async def lines():
            while await dashboard.operators.is_current(request.state.access):
                yield f"{request.state.operator.name}\n"
                await asyncio.sleep(0.2)

        return StreamingResponse(lines(), media_type="text/event-stream")

    pages = make_pages()
    pages.router.routes[:0] = [
        Route("/act", act, methods=["POST", "DELETE"]),
        Route("/api/act", act, methods=["POST"]),
        Route("/size", size, methods=["POST"]),
        Route("/fail", fail),
        Route("/stream", stream),
        Route("/static/x.css", lambda _: PlainTextResponse("x", headers={"cache-control": "max-age=60"})),
        Route("/healthz", lambda _: PlainTextResponse("ok")),
        Route("/metrics", lambda _: PlainTextResponse("none")),
    ]
    return pages


@pytest.fixture
async def site(served, tmp_path, database):
    await add(database)
    await add(database, "vera", "viewer")
    async with site_of(served, tmp_path, pages_of) as site:
        yield site


def is_guarded(answer):
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert not any(word in policy for word in ("unsafe", "http:", "https:", "*", "data:"))
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    return True


async def test_form_reaches_its_page_with_who_sent_it(site):
    browser = await site.signed_in()
    token = csrf_of(await browser.get("/"))

    answer = await browser.post("/act", data={"csrf_token": token, "reason": "a & b"})
    by_header = await browser.post("/act", data={"reason": "x"}, headers={"x-csrf-token": token})
    in_parts = await browser.post("/act", files={"csrf_token": (None, token), "reason": (None, "parts")})

    assert answer.json() == {"form": {"csrf_token": token, "reason": "a & b"}, "by": "ada", "role": "operator"}
    assert by_header.json()["form"] == {"reason": "x"}
    assert in_parts.json()["form"]["reason"] == "parts"
    assert all(map(is_guarded, (answer, by_header, in_parts)))


OF_OTHERS = {
    "no token": ({}, {}),
    "another token": ({}, {"csrf_token": "x" * 43}),
    "an empty token": ({}, {"csrf_token": ""}),
    "odd letters": ({"x-csrf-token": "\xff"}, {}),
    "another site": ({"sec-fetch-site": "cross-site"}, {"csrf_token": "OWN"}),
    "a sibling": ({"sec-fetch-site": "same-site"}, {"csrf_token": "OWN"}),
    "an address bar": ({"sec-fetch-site": "none"}, {"csrf_token": "OWN"}),
    "another site with our origin": ({"sec-fetch-site": "cross-site", "origin": "OWN"}, {"csrf_token": "OWN"}),
    "another origin": ({"origin": "http://evil.example"}, {"csrf_token": "OWN"}),
    "an origin that is hidden": ({"origin": "null"}, {"csrf_token": "OWN"}),
    "another port": ({"origin": "http://127.0.0.1:1"}, {"csrf_token": "OWN"}),
}


@pytest.mark.parametrize("way", OF_OTHERS)
async def test_request_that_no_page_of_ours_sent_changes_nothing(site, way):
    browser = await site.signed_in()
    own = {"csrf_token": csrf_of(await browser.get("/")), "origin": site.url}
    headers, fields = ({key: own[key] if it == "OWN" else it for key, it in some.items()} for some in OF_OTHERS[way])
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    for path in ("/act", "/sign-out", "/nothing"):
        answer = await browser.post(path, data=fields, headers=raw)
        assert (answer.status_code, is_guarded(answer)) == (403, True), path
    assert (await browser.get("/")).status_code == 200
    for good in ({"origin": site.url}, {"sec-fetch-site": "same-origin"}, {}):
        assert (await browser.post("/act", data={"csrf_token": own["csrf_token"]}, headers=good)).status_code == 200


async def test_token_of_another_session_or_of_nobody_is_refused(site):
    ada, other, nobody = await site.signed_in(), await site.signed_in(), await site.browser()

    for token in (csrf_of(await other.get("/")), csrf_of(await nobody.get("/sign-in"))):
        assert (await ada.post("/act", data={"csrf_token": token})).status_code == 403


async def test_signing_in_needs_a_token_of_this_browser(site):
    mine, other = await site.browser(), await site.browser()
    token = csrf_of(await other.get("/sign-in"))
    await mine.get("/sign-in")
    fields = {"name": "ada", "password": "correct horse"}

    for sent in ({}, {"csrf_token": token}):
        assert (await mine.post("/sign-in", data=fields | sent)).status_code == 403
    assert (await other.post("/sign-in", data=fields | {"csrf_token": token})).status_code == 303
    # a tab whose form was opened before another tab signed in
    assert (await other.post("/sign-in", data=fields | {"csrf_token": token})).status_code == 303


async def test_open_dashboard_asks_for_tokens_too(served, tmp_path):
    async with site_of(served, tmp_path, pages_of) as site:
        browser = await site.browser()
        token = csrf_of(await browser.get("/"))
        assert (await browser.post("/act", data={})).status_code == 403
        assert (await (await site.browser()).post("/act", data={"csrf_token": token})).status_code == 403
        assert (await browser.post("/act", data={"csrf_token": token})).json()["role"] == "operator"


async def raw(site, *lines, body=b""):
    """Send a request as it is; return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.dashboard.address.port)
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_request_for_another_host_is_refused_except_for_health(site):
    browser = await site.signed_in()
    token = csrf_of(await browser.get("/"))
    for path in ("/", "/sign-in", "/static/x.css", "/metrics", "/api/act", "/nothing"):
        answer = await browser.get(path, headers={"host": "evil.example"})
        assert (answer.status_code, is_guarded(answer)) == (400, True), path
    answer = await browser.post("/act", data={"csrf_token": token}, headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert (await browser.get("/healthz", headers={"host": "10.0.0.1"})).text == "ok"
    assert (await browser.get("/metrics", headers={"host": "10.0.0.1", "authorization": "Bearer x"})).text == "none"
    own = f"Host: 127.0.0.1:{site.dashboard.address.port}"
    assert (await raw(site, "GET /sign-in HTTP/1.0")).startswith("HTTP/1.1 400")
    for lines in (("GET / HTTP/1.1", own, "Host: evil.example"), ("NONSENSE",), ("GET / HTTP/1.1", own, "a b: c")):
        answer = await raw(site, *lines)
        assert answer.startswith("HTTP/1.1 400"), answer
        assert "content-security-policy" in answer
    assert (await raw(site, "GET /sign-in HTTP/1.1", own)).startswith("HTTP/1.1 200")


async def test_every_answer_has_the_headers_and_tells_nothing(site):
    browser, nobody = await site.signed_in(), await site.browser()
    answers = {
        200: await browser.get("/"),
        303: await nobody.get("/"),
        401: await nobody.get("/api/jobs"),
        404: await browser.get("/nothing"),
        405: await browser.get("/act"),
        500: await browser.get("/fail"),
    }

    assert {status: (one.status_code, is_guarded(one)) for status, one in answers.items()} == {
        status: (status, True) for status in answers
    }
    assert {one.headers["cache-control"] for one in answers.values()} == {"no-store"}
    assert "with secrets" not in answers[500].text
    assert "<h1>Not found</h1>" in answers[404].text
    problem = answers[401]
    assert problem.headers["content-type"] == "application/problem+json"
    assert set(json.loads(problem.text)) == {"title", "status", "detail"}
    asset = await nobody.get("/static/x.css")
    assert (asset.text, asset.headers["cache-control"], is_guarded(asset)) == ("x", "max-age=60", True)
    assert "set-cookie" not in asset.headers


def routes_of(routes, before=""):
    for route in routes:
        if isinstance(route, Mount):
            yield from routes_of(route.routes, before + route.path)
        elif isinstance(route, Route):
            path = before + route.path
            for name in route.param_convertors:
                path = path.replace(f"{{{name}:path}}", "x").replace(f"{{{name}}}", "x")
            yield from ((method, path) for method in route.methods or ())


async def test_viewer_gets_pages_and_may_change_nothing(site):
    browser = await site.signed_in("vera")
    token = csrf_of(await browser.get("/"))
    routes = set(routes_of(pages_of(site.dashboard).routes)) | {
        ("POST", "/jobs/no-such-job/cancel"),
        ("PUT", "/nothing"),
    }
    unsafe = {(method, path) for method, path in routes if method not in {"GET", "HEAD"}}
    assert len(unsafe) >= 7

    for method, path in sorted(unsafe - {("POST", "/sign-in"), ("POST", "/sign-out")}):
        answer = await browser.request(method, path, data={"csrf_token": token})
        assert answer.status_code == 403, (method, path)
    forms = {path for method, path in unsafe if ("GET", path) in routes} - {"/sign-in"}
    assert len(forms) >= 7
    for path in sorted(forms):
        assert (await browser.get(path)).status_code == 403, path
    assert (await browser.request("DELETE", "/act", content=b"\x00nonsense")).status_code == 403
    assert (await browser.get("/")).status_code == 200
    assert (await browser.post("/sign-out", data={"csrf_token": token})).status_code == 303


async def test_viewers_of_an_hour_ago_get_the_rights_of_now(site, database):
    browser = await site.signed_in("vera")
    token = csrf_of(await browser.get("/"))

    await database.fetch("UPDATE darkroom.operators SET role = 'operator' WHERE name = 'vera'")
    assert (await browser.post("/act", data={"csrf_token": token})).json()["role"] == "operator"


async def test_body_of_more_than_a_megabyte_is_refused_before_it_is_read(site):
    browser = await site.signed_in()
    token = csrf_of(await browser.get("/"))
    largest = b"x" * MOST_BYTES

    async def chunks():
        for _ in range(11):
            yield largest[: MOST_BYTES // 10]

    headers = {"x-csrf-token": token}
    assert (await browser.post("/size", content=largest, headers=headers)).json() == {"size": MOST_BYTES}
    for content in (largest + b"x", chunks()):
        answer = await browser.post("/size", content=content, headers=headers)
        assert (answer.status_code, is_guarded(answer)) == (413, True)
    own = f"Host: 127.0.0.1:{site.dashboard.address.port}"
    for length in ("9" * 19, "1000001"):
        answer = await raw(site, "POST /size HTTP/1.1", own, f"Content-Length: {length}")
        assert answer.startswith("HTTP/1.1 413"), answer


async def test_nobody_is_asked_for_a_body_before_signing_in(site):
    own = f"Host: 127.0.0.1:{site.dashboard.address.port}"
    answer = await raw(site, "POST /act HTTP/1.1", own, "Content-Length: 100000")

    assert answer.startswith("HTTP/1.1 303")
    assert "\r\nlocation: /sign-in\r\n" in answer


ENDS = {
    "signing out": None,
    "removal": "DELETE FROM darkroom.operators WHERE name = 'ada'",
    "time": "UPDATE darkroom.sessions SET expires_at = now() WHERE operator = 'ada'",
}


@pytest.mark.parametrize("way", ENDS)
async def test_stream_ends_with_its_session(site, database, way):
    browser = await site.signed_in()
    other = await site.signed_in("vera")
    token = csrf_of(await browser.get("/"))

    async with asyncio.timeout(60), other.stream("GET", "/stream") as kept:
        async with browser.stream("GET", "/stream") as ended:
            lines, others = ended.aiter_lines(), kept.aiter_lines()
            assert (await anext(lines), await anext(others)) == ("ada", "vera")
            if statement := ENDS[way]:
                await database.fetch(statement)
            else:
                await browser.post("/sign-out", data={"csrf_token": token})
            assert all([line == "ada" async for line in lines])  # to the end
        assert await anext(others) == "vera"


async def test_stream_of_an_open_dashboard_ends_when_somebody_has_to_sign_in(served, tmp_path, database):
    async with site_of(served, tmp_path, pages_of) as site:
        browser = await site.browser()
        async with asyncio.timeout(60), browser.stream("GET", "/stream") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            await add(database)
            assert [line async for line in lines]


async def test_stream_that_goes_on_is_cut_off_when_the_dashboard_stops(site):
    browser = await site.signed_in()
    async with browser.stream("GET", "/stream") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "ada"
        with within(5), contextlib.suppress(httpx.RemoteProtocolError):
            site.dashboard.stopping.set()
            assert {line async for line in lines} == {"ada"}


async def test_many_streams_ask_the_database_as_one_does(site, database):
    access = await site.dashboard.operators.access((await site.signed_in()).cookies["darkroom_session"], None)
    looks = []
    run = site.dashboard.runtime.database.run

    async def counted(work):
        looks.append(work)
        return await run(work)

    site.dashboard.operators._database.run = counted
    for _ in range(50):
        assert await site.dashboard.operators.is_current(access)
    assert len(looks) <= 3


async def test_bearer_token_of_nobody_is_refused_by_api_and_means_nothing_elsewhere(site):
    browser = await site.browser(authorization="Bearer " + "x" * 40)

    assert (await browser.post("/api/act")).status_code == 401
    assert (await browser.get("/")).status_code == 303


async def test_pages_tell_that_the_database_is_away_and_go_on_once_it_is_back(site, database, services):
    browser = await site.signed_in()
    name = await database.fetchval("SELECT current_database()")
    away = f"""ALTER DATABASE {name} ALLOW_CONNECTIONS false"""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"

    connection = await asyncpg.connect(**parse_postgres_url(services.database_url).asyncpg_arguments())
    try:
        await connection.execute(away)
        await connection.fetch(ended, name)
        for path in ("/", "/api/jobs"):
            answer = await browser.get(path)
            assert (answer.status_code, is_guarded(answer)) == (503, True)
            assert "be used now; load this page again" in answer.text
        token = csrf_of(await browser.get("/"))
        assert token == ""
        assert (await browser.get("/healthz")).text == "ok"
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await connection.close()
    assert (await browser.get("/")).status_code == 200
    assert (await sign_in(await site.browser(), "ada", "correct horse")).status_code == 303
