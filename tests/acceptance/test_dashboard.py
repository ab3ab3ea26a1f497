"""The dashboard as a process of its own, and in `darkroom up`."""

import asyncio
import contextlib
import re
import socket

import httpx
import pytest

from tests.integration.dashboard.conftest import PASSWORD, add, sign_in
from tests.support.patience import is_within
from tests.support.program import darkroom

PLACE = re.compile(r"^dashboard at (http://(\S+):(\d+)/)$", re.MULTILINE)


def place_of(running):
    """Wait until a process is ready; return the URL that it said before."""
    said = asyncio.to_thread(running.says, "\nready\n")

    async def wait():
        text = await said
        found = PLACE.search(text)
        assert found, text
        assert text.index(found[0]) < text.index("\nready\n")
        return found[1]

    return wait()


async def ended(running):
    """Tell a process to end; return its exit code and the seconds that this took."""
    began_s = asyncio.get_running_loop().time()
    running.process.terminate()
    code = await asyncio.to_thread(running.ends)
    return code, asyncio.get_running_loop().time() - began_s


async def test_dashboard_says_where_it_is_lets_people_in_and_ends_in_time(fleet, tmp_path):
    await add(fleet.database)
    with darkroom("dashboard", "--address", "[::1]:0", environment=fleet.environment, folder=tmp_path) as running:
        url = await place_of(running)
        async with httpx.AsyncClient(base_url=url, timeout=60) as browser:
            assert url.startswith("http://[::1]:")
            assert (await browser.get("/")).status_code == 303
            assert (await sign_in(browser, "ada", PASSWORD)).status_code == 303
            assert (await browser.get("/")).status_code == 200
            held = socket.create_connection(("::1", int(url.rpartition(":")[2].strip("/"))))
            held.sendall(b"GET / HTTP/1.1\r\n")  # a request that never comes
            code, took_s = await ended(running)
            held.close()
    assert (code, is_within(took_s, 5.0)) == (0, True), running.said
    key = await fleet.database.fetchval("SELECT value FROM darkroom.settings WHERE key = 'secret_key'")
    assert key not in running.said
    assert browser.cookies["darkroom_session"] not in running.said
    assert [f'"{event}"' in running.said for event in ("dashboard_started", "operator_signed_in", "dashboard_stopped")]


async def test_address_that_is_taken_or_open_to_strangers_ends_with_the_reason(fleet, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in (("dashboard",), ("up", "--processes", "1")):
            environment = fleet.environment | {"DARKROOM_DASHBOARD_ADDRESS": address}
            with darkroom(*command, environment=environment, folder=tmp_path) as running:
                assert await asyncio.to_thread(running.ends) == 2
            assert f"can't listen at {address}: Address already in use" in running.said
    none = fleet.environment | {"DARKROOM_DASHBOARD_AUTH": "none"}
    for environment, words in ((fleet.environment, "there are no operators"), (none, "DARKROOM_DASHBOARD_AUTH=none")):
        with darkroom("dashboard", "--address", "0.0.0.0:0", environment=environment, folder=tmp_path) as running:
            assert await asyncio.to_thread(running.ends) == 2
        assert words in running.said
        assert "ready" not in running.said


async def test_up_runs_a_dashboard_at_a_free_port_if_the_usual_one_is_taken(fleet, tmp_path):
    await add(fleet.database)
    taken = []
    with contextlib.suppress(OSError):  # another program has it
        taken.append(socket.create_server(("127.0.0.1", 8600)))
    try:
        with darkroom("up", "--processes", "1", environment=fleet.environment, folder=tmp_path) as running:
            url = await place_of(running)
            assert not url.endswith(":8600/")
            async with httpx.AsyncClient(base_url=url, timeout=60) as browser:
                assert (await sign_in(browser, "ada", PASSWORD)).status_code == 303
                assert (await browser.get("/")).status_code == 200
            code, _ = await ended(running)
            assert code == 0, running.said
    finally:
        for one in taken:
            one.close()


async def test_up_that_nobody_could_sign_in_to_ends_with_the_reason(fleet, tmp_path):
    environment = fleet.environment | {"DARKROOM_DASHBOARD_ADDRESS": "0.0.0.0:0"}
    with darkroom("up", "--processes", "1", environment=environment, folder=tmp_path) as running:
        assert await asyncio.to_thread(running.ends) == 2
    assert "nobody could sign in at 0.0.0.0:" in running.said


@pytest.mark.parametrize("command", ["dashboard"])
async def test_dashboard_that_waits_for_a_database_ends_when_it_is_told_to(fleet, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"
    with darkroom(command, environment=fleet.environment | {"DATABASE_URL": place}, folder=tmp_path) as running:
        await asyncio.to_thread(running.says, "connection_awaited")
        code, took_s = await ended(running)
    assert (code, is_within(took_s, 5.0)) == (0, True), running.said
