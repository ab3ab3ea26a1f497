"""Connections of the dashboard: slow ones are closed, and its pool for pages only reads, for two seconds."""

import asyncio
import re

import asyncpg
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from config.postgres_url import parse_postgres_url
from models.database import Database
from tests.integration.dashboard.conftest import add, csrf_of, site_of
from tests.support.patience import within
from tests.support.pooler import needs_pgbouncer, pgbouncer
from workers.dashboard import protocol
from workers.dashboard.app import make_pages

WAIT_S = 0.4


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(protocol, "REQUEST_S", WAIT_S)


async def dripped(site, *parts):
    """Send parts of a request, one after the other; return what was answered until the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.dashboard.address.port)
    answer = asyncio.create_task(reader.read())
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.wait((answer,), timeout=WAIT_S / 4)
            if answer.done():
                break
        return await asyncio.wait_for(answer, 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.usefixtures("hurried")
async def test_request_that_drips_is_closed(site, database):
    await add(database)
    host = f"Host: 127.0.0.1:{site.dashboard.address.port}\r\n".encode()
    browser = await site.browser()
    form = await browser.get("/sign-in")
    cookie = f"Cookie: darkroom_csrf={browser.cookies['darkroom_csrf']}\r\n".encode()
    head = b"POST /sign-in HTTP/1.1\r\n" + host + cookie + b"Content-Length: 500\r\n\r\n"
    assert csrf_of(form)

    letters = [b"%c" % one for one in b"X-Long: " + b"y" * 200]
    for parts in ([b""], [b"GET /sign-in HTTP/1.1\r\n" + host, *letters], [head, *letters]):
        with within(20):
            assert await dripped(site, *parts) == b""


def slow_pages(dashboard):
    async def answer_late(_request):
        await asyncio.sleep(2 * WAIT_S)
        return PlainTextResponse("late")

    pages = make_pages()
    pages.router.routes.append(Route("/late", answer_late))
    return pages


@pytest.mark.usefixtures("hurried")
async def test_request_that_is_complete_may_be_answered_late_and_followed_by_others(served, tmp_path):
    async with site_of(served, tmp_path, slow_pages) as site:
        host = f"Host: 127.0.0.1:{site.dashboard.address.port}\r\n".encode()
        late, next_one = (b"GET " + path + b" HTTP/1.1\r\n" + host + b"\r\n" for path in (b"/late", b"/nothing"))
        reader, writer = await asyncio.open_connection("127.0.0.1", site.dashboard.address.port)
        writer.write(late + next_one + late)
        with within(20):
            answers = await reader.read()  # the connection of a client that has nothing more to ask is closed
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404", b"200"]


async def test_connections_beyond_the_most_are_closed(site, monkeypatch):
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 2)
    held = [await asyncio.open_connection("127.0.0.1", site.dashboard.address.port) for _ in range(2)]

    assert await dripped(site, b"GET / HTTP/1.1\r\n") == b""
    for _, writer in held:
        writer.close()


SLOW = "SELECT pg_sleep(30)"
WRITE = "DELETE FROM darkroom.operators"


async def reads_only(database):
    await database.open()
    try:
        with within(10), pytest.raises(asyncpg.QueryCanceledError):
            await database.fetch(SLOW)
        with pytest.raises(Exception, match="read-only transaction"):
            await database.fetch(WRITE)
        assert await database.fetchval("SELECT 1") == 1
    finally:
        await database.close()


async def test_pool_of_pages_reads_only_and_for_two_seconds(site):
    with within(10), pytest.raises(asyncpg.QueryCanceledError):
        await site.dashboard.reading.database.fetch(SLOW)
    with pytest.raises(Exception, match="read-only transaction"):
        await site.dashboard.reading.database.fetch(WRITE)
    assert await site.dashboard.reading.database.fetchval("SELECT 1") == 1


@needs_pgbouncer
async def test_it_does_so_through_a_pooler(database_url, tmp_path):
    with pgbouncer(database_url, tmp_path) as url:
        await reads_only(Database(parse_postgres_url(url), most_connections=2, is_read_only=True))
