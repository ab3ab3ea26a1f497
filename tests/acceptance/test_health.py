"""Health of real processes: alive, ready, and why not; and who may ask."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest

from tests.support.builders import make_generation
from tests.support.fleet import eventually
from tests.support.patience import is_within
from tests.support.program import DARKROOM, darkroom
from tests.support.scraping import Scrape, site_of

AT_ANY_PORT = {"DARKROOM_METRICS_ADDRESS": "127.0.0.1:0", "DARKROOM_PROCESSES": "1"}
TOKEN = "t" * 32


def asked(*arguments, **environment):
    """Run `darkroom healthcheck`."""
    return subprocess.run(
        [DARKROOM, "healthcheck", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


async def sessions(fleet):
    """Return the processes of all sessions in this test's database."""
    rows = await fleet.database.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    return [row["pid"] for row in rows]


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # a session has ended meanwhile
            os.kill(pid, number)


@pytest.mark.parametrize("command", ["worker", "scheduler"])
async def test_process_is_alive_while_its_database_hangs_and_ready_again_after_it(fleet, services, tmp_path, command):
    with darkroom(command, environment=fleet.environment | AT_ANY_PORT, folder=tmp_path) as running:
        site = await asyncio.to_thread(site_of, running)
        await asyncio.to_thread(running.says, "\nready\n")
        checks = {"database", "migrations", "stopping", *(["lease"] if command == "worker" else [])}
        assert await asyncio.to_thread(site.ready) == (200, dict.fromkeys(checks, "ok"))
        assert (await asyncio.to_thread(asked, site.base)).returncode == 0
        servers = [services.postgres.pid(), *await sessions(fleet)]
        signal_all(servers, signal.SIGSTOP)
        try:
            answer = await asyncio.to_thread(site.get, "/readyz")
            alive = await asyncio.to_thread(site.get, "/healthz")
            scraped = await asyncio.to_thread(site.get, "/metrics")
            refused = await asyncio.to_thread(asked, site.base)
        finally:
            signal_all(servers, signal.SIGCONT)

        assert answer.status == 503
        assert is_within(answer.took_s, 3)
        failed = [one for one in json.loads(answer.text)["checks"] if one["status"] != "ok"]
        assert [one["name"] for one in failed] == ["database"]
        assert (alive.status, alive.text, scraped.status) == (200, "ok", 200)
        assert is_within(scraped.took_s, 2)
        assert not Scrape(scraped.text).has("workers_live")  # what isn't known isn't shown
        assert (refused.returncode, "not ready: database:" in refused.stderr) == (1, True)

        async def is_ready():
            return (await asyncio.to_thread(site.ready))[0] == 200

        await eventually(is_ready)

        async def knows_again():
            return command == "worker" or (await asyncio.to_thread(site.scrape)).has("workers_live")

        await eventually(knows_again)


@pytest.mark.parametrize("command", ["worker", "scheduler"])
async def test_process_that_waits_for_its_database_is_alive_and_not_ready(fleet, tmp_path, command):
    environment = fleet.environment | AT_ANY_PORT | {"DATABASE_URL": "postgresql://darkroom@127.0.0.1:9/darkroom"}
    with darkroom(command, environment=environment, folder=tmp_path) as running:
        site = await asyncio.to_thread(site_of, running)
        await asyncio.to_thread(running.says, "connection_awaited")

        assert (await asyncio.to_thread(site.get, "/healthz")).status == 200
        status, checks = await asyncio.to_thread(site.ready)
        assert (status, set(checks.values())) == (503, {"fail"} if command == "scheduler" else {"fail", "ok"})
        assert (await asyncio.to_thread(site.scrape)).has("build_info")


async def test_worker_is_not_ready_before_it_works_nor_while_it_stops(fleet, tmp_path):
    await make_generation(fleet.database)
    environment = fleet.environment | AT_ANY_PORT | {"DARKROOM_SHUTDOWN_GRACE_S": "20"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        site = await asyncio.to_thread(site_of, worker)
        assert (await asyncio.to_thread(site.ready))[0] == 503
        assert (await asyncio.to_thread(site.get, "/healthz")).status == 200
        await asyncio.to_thread(worker.says, "\nready\n")
        (row,) = await fleet.database.fetch("SELECT pid FROM darkroom.workers")
        os.kill(row["pid"], signal.SIGSTOP)  # it can't end, so its supervisor goes on waiting
        worker.process.terminate()

        async def is_stopping():
            status, checks = await asyncio.to_thread(site.ready)
            return status == 503 and checks["stopping"] == "fail"

        await eventually(is_stopping)
        os.kill(row["pid"], signal.SIGCONT)
        assert await asyncio.to_thread(worker.ends) == 0


async def test_worker_whose_leases_are_over_is_not_ready(fleet, tmp_path):
    environment = fleet.environment | AT_ANY_PORT | {"DARKROOM_LEASE_S": "3"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        site = await asyncio.to_thread(site_of, worker)
        await asyncio.to_thread(worker.says, "\nready\n")
        (row,) = await fleet.database.fetch("SELECT pid FROM darkroom.workers")
        os.kill(row["pid"], signal.SIGSTOP)
        try:

            async def is_over():
                status, checks = await asyncio.to_thread(site.ready)
                return status == 503 and checks["lease"] == "fail"

            await eventually(is_over)
        finally:
            os.kill(row["pid"], signal.SIGCONT)


@pytest.mark.parametrize("command", ["worker", "scheduler", "up"])
async def test_address_in_use_ends_with_exit_2_and_a_sentence(fleet, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = fleet.environment | {"DARKROOM_METRICS_ADDRESS": address}
        with darkroom(command, environment=environment, folder=tmp_path) as running:
            assert await asyncio.to_thread(running.ends) == 2

    line = json.loads(running.said)
    assert f"DARKROOM_METRICS_ADDRESS={address} can't be listened at: Address already in use" in line["error"]


async def test_metrics_elsewhere_than_on_loopback_need_the_token(fleet, tmp_path):
    anywhere = {"DARKROOM_METRICS_ADDRESS": "0.0.0.0:0"}
    for environment, sent, status in (
        ({"DARKROOM_API_TOKEN": TOKEN}, f"Bearer {TOKEN}", 200),
        ({}, f"Bearer {TOKEN}", 401),
    ):
        with darkroom("scheduler", environment=fleet.environment | anywhere | environment, folder=tmp_path) as running:
            site = await asyncio.to_thread(site_of, running)
            site.base = site.base.replace("0.0.0.0", "127.0.0.1")
            assert (await asyncio.to_thread(site.get, "/metrics")).status == 401
            for wrong in ("Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
                assert (await asyncio.to_thread(site.get, "/metrics", {"Authorization": wrong})).status == 401
            answer = await asyncio.to_thread(site.get, "/metrics", {"Authorization": sent})
            assert answer.status == status
            assert (await asyncio.to_thread(site.get, "/healthz")).status == 200
            running.process.terminate()
            assert await asyncio.to_thread(running.ends) == 0
