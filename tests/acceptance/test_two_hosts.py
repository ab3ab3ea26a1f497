"""Two hosts, each with a supervisor and a scheduler, on one PostgreSQL and one broker; one of them is lost."""

import asyncio
import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.support.builders import balance_of, make_job, money_violations
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S

ROOT = Path(__file__).resolve().parents[2]
HOSTS = 2
LANES = 4
IN_FLIGHT = HOSTS * LANES
USERS = 5
JOBS_EACH = 12
CAPS = {"FREE": 3, "STANDARD": 1}
RUNNING = """
SELECT q.user_id, count(*) AS jobs FROM darkroom.job_queue q WHERE q.status = 'processing' GROUP BY q.user_id
"""
CLAIMS = "SELECT job_id, min(at) AS at FROM darkroom.stage_runs WHERE event = 'claimed' GROUP BY job_id ORDER BY at"


@dataclass
class Host:
    """One `darkroom up`, with a folder and a name of its own."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    async def works(self):
        async def is_ready():
            assert self.popen.poll() is None, self.log.read_text()
            return "ready" in self.log.read_text().splitlines()

        await eventually(is_ready, f"the start of {self.name}")

    def lose(self):
        """Kill it with all that is below it, so that nobody signs off, as when a machine is lost."""
        own = psutil.Process(self.popen.pid)
        family = [own, *own.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait(HANGS_AFTER_S)

    def end(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            self.popen.wait(HANGS_AFTER_S)


@pytest.fixture
def hosts(fleet, broker_server, tmp_path):
    """Function that starts hosts."""
    started = []

    def start(name):
        home = tmp_path / name
        home.mkdir()
        log = home / "log"
        environment = fleet.environment | {
            "BROKER_URL": broker_server.url,
            "REDIS_URL": "",
            "DARKROOM_HOME": str(home),
            "DARKROOM_LANES": str(LANES),
            "DARKROOM_PROCESSES": "1",
            "DARKROOM_LEASE_S": "3",
            "DARKROOM_SHUTDOWN_GRACE_S": "0",
            "HOST_NAME": name,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "warning",
            "SLOW_S": "0.3",
            "SLOW_CALLS": str(fleet.calls_path),
        }
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.slow_darkroom", "up"],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        started.append(Host(name, popen, log))
        return started[-1]

    yield start
    for one in started:
        one.end()


async def most_running(fleet, over, most):
    """Keep the most jobs of each user that ran at once in one snapshot, until told that all is over."""
    while not over.is_set():
        for row in await fleet.database.fetch(RUNNING):
            most[row["user_id"]] = max(most.get(row["user_id"], 0), row["jobs"])
        await asyncio.sleep(0.01)


@pytest.mark.proof
async def test_one_of_two_hosts_is_lost_and_every_job_is_done_in_order_and_within_caps(fleet, hosts, tmp_path):
    await fleet.database.fetch("INSERT INTO darkroom.settings (key, value) VALUES ('user_caps', $1)", CAPS)
    free = [await fleet.stored_picture(balance=100) for _ in range(USERS)]
    standard = await fleet.stored_picture(balance=100, tier="STANDARD")
    users = [*free, standard]
    jobs = [
        await make_job(fleet.database, user_id=user, image_id=image) for user, image in users for _ in range(JOBS_EACH)
    ]
    tags = {
        row["job_id"]: (row["position"], row["id"])
        for row in await fleet.database.fetch("SELECT id, job_id, position, user_id FROM darkroom.job_queue")
    }
    owner = {
        row["id"]: row["userId"]
        for row in await fleet.database.fetch('SELECT id, "userId" FROM public.image_enhancement_jobs')
    }
    over, most = asyncio.Event(), {}
    watching = asyncio.create_task(most_running(fleet, over, most))
    lost, left = hosts("host-a"), hosts("host-b")
    for one in (lost, left):
        await one.works()
    names = {row["host"] for row in await fleet.database.fetch("SELECT host FROM darkroom.workers")}

    async def both_work():
        rows = await fleet.database.fetch(
            "SELECT count(DISTINCT worker_id) AS workers FROM darkroom.job_queue WHERE status = 'processing'"
        )
        return rows[0]["workers"] == HOSTS

    await eventually(both_work, "jobs on both hosts")
    await asyncio.to_thread(lost.lose)

    async def all_are_over():
        return not await fleet.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

    await eventually(all_are_over, "the end of all jobs")
    over.set()
    await watching
    statuses = await fleet.database.fetch("SELECT DISTINCT status FROM public.image_enhancement_jobs")
    assert [row["status"] for row in statuses] == ["COMPLETED"]
    rescued = await fleet.database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'rescued'")
    assert 1 <= rescued <= LANES
    assert len(jobs) <= fleet.calls("generate") <= len(jobs) + LANES
    assert await money_violations(fleet.database) == []
    assert {await balance_of(fleet.database, user) for user, _ in users} == {100 - 2 * JOBS_EACH}

    assert max(most[user] for user, _ in free) <= CAPS["FREE"]
    assert most[standard[0]] == CAPS["STANDARD"]

    claimed = [row["job_id"] for row in await fleet.database.fetch(CLAIMS)]
    of_free = [tags[job] for job in claimed if owner[job] != standard[0]]
    overtaken = [sum(later < tag for later in of_free[place + 1 :]) for place, tag in enumerate(of_free)]
    assert max(overtaken) <= IN_FLIGHT
    for user, _ in users:
        own = [tags[job] for job in claimed if owner[job] == user]
        assert sum(after < before for before, after in pairwise(own)) <= IN_FLIGHT
    assert names == {"host-a", "host-b"} or os.geteuid() != 0
