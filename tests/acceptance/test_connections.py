"""Connections to PostgreSQL: how many a process holds, and what it does when it gets none."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.connections import DatabaseLostError
from models.database import Database
from models.schema.migrate import upgrade
from tests.acceptance.test_faults_inside import ended, events
from tests.conftest import FAST_AND_LOSABLE
from tests.support.builders import make_generation, make_job
from tests.support.fleet import Fleet, eventually
from tests.support.pooler import needs_pgbouncer, pgbouncer
from tests.support.program import darkroom
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services

MOST = 3


@pytest.fixture
async def role(fleet):
    """A role with every right and no more, whose connections can be counted and limited."""
    name = f"dk{uuid4().hex[:8]}"
    await fleet.database.run(lambda connection: connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE CURRENT_USER"))
    yield name
    await fleet.database.run(lambda connection: connection.execute(f"DROP ROLE {name}"))


@pytest.fixture
def environment(fleet, role):
    url = parse_postgres_url(fleet.services.database_url)
    as_role = url.text().replace(f"//{url.user}@", f"//{role}@")
    return fleet.environment | {"DATABASE_URL": as_role, "DARKROOM_PROCESSES": "1", "DARKROOM_LANES": "8"}


async def sessions(fleet, role):
    return await fleet.database.fetch(
        "SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY backend_start", role
    )


async def limit(fleet, role, most):
    await fleet.database.run(lambda connection: connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT {most}"))


@pytest.mark.proof
async def test_process_holds_no_more_connections_than_it_may_and_survives_the_loss_of_its_leases(
    fleet, role, environment, tmp_path
):
    environment |= {"DARKROOM_CONNECTIONS": str(MOST)}
    user, image = await fleet.stored_picture(balance=1000)
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "\nready\n")
        jobs = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(6)]
        counts = []

        async def all_are_over():
            counts.append(len(await sessions(fleet, role)))
            return not await fleet.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

        await eventually(all_are_over)
        assert {(await ended(fleet, job))["status"] for job in jobs} == {"COMPLETED"}
        assert max(counts) <= MOST

        held = await sessions(fleet, role)
        await limit(fleet, role, len(held) - 1)
        lease = held[0]["pid"]  # opened before all others
        await fleet.database.fetch("SELECT pg_terminate_backend($1)", lease)
        await asyncio.to_thread(worker.says, "lease_connection_awaited")
        assert "too many connections for role" in worker.said
        job = await make_job(fleet.database, user_id=user, image_id=image)
        assert (await ended(fleet, job))["status"] == "COMPLETED"

        await limit(fleet, role, -1)
        await asyncio.to_thread(worker.says, "lease_connection_restored")
        assert worker.said.count("lease_connection_awaited") == 1
    assert await events(fleet, "rescued") == 0


async def test_start_without_a_connection_says_why_and_goes_on_with_the_first_that_is_free(
    fleet, role, environment, tmp_path
):
    await limit(fleet, role, 0)
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "too many connections for role")
        assert "connection_awaited" in worker.said

        await limit(fleet, role, 1)

        async def lease_is_reserved():
            return len(await sessions(fleet, role)) == 1 and worker.said.count("connection_awaited") > 1

        await eventually(lease_is_reserved)
        assert "ready" not in worker.said.splitlines()

        await limit(fleet, role, -1)
        await asyncio.to_thread(worker.says, "\nready\n")


@pytest.fixture
async def own_fleet(tmp_path):
    """A fleet on a PostgreSQL of its own, which may be restarted; its folder is short enough for sockets."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="dk", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        with EmbeddedInstance(Path(folder), postgres_settings=FAST_AND_LOSABLE) as instance:
            await upgrade(instance.database_url, prices=PRICES_TOKENS)
            database = Database(parse_postgres_url(instance.database_url), most_connections=2)
            await database.open()
            services = Services(
                database_url=instance.database_url,
                database_direct_url=instance.database_url,
                redis_url=instance.redis_url,
                broker_url=instance.redis_url,
                storage_url=(tmp_path / "objects").as_uri(),
                is_embedded=False,
            )
            fleet = Fleet(database, services, tmp_path)
            yield fleet, instance
            await asyncio.to_thread(fleet.stop)
            await database.close()
    os.environ.clear()
    os.environ.update(environment)


@pytest.mark.proof
async def test_jobs_of_a_worker_that_dies_while_postgresql_is_gone_are_claimed_soon_after_its_return(own_fleet):
    fleet, instance = own_fleet
    fleet.start(2, slow_s=60)
    job = await make_generation(fleet.database)

    async def is_held():
        return fleet.calls("generate") and await fleet.holder_pid(job)

    killed = await eventually(is_held)
    await asyncio.to_thread(instance.postgres.stop)
    os.kill(killed, signal.SIGKILL)
    await asyncio.sleep(1)  # in which the death is heard, and can't be written
    await asyncio.to_thread(instance.postgres.start)

    async def is_held_by_another():
        try:
            return await fleet.holder_pid(job) not in {None, killed}
        except DatabaseLostError:  # connections of before the restart
            return False

    await eventually(is_held_by_another, "taking over", within_s=8)  # and the lease of 15 s isn't over yet


@needs_pgbouncer
@pytest.mark.proof
async def test_pooler_that_nobody_declared_is_found_and_worked_through(fleet, tmp_path):
    user, image = await fleet.stored_picture(balance=100)
    with pgbouncer(fleet.services.database_url, tmp_path, ignore_startup_parameters="lock_timeout") as url:
        environment = fleet.environment | {"DATABASE_URL": url, "DARKROOM_PROCESSES": "2"}
        with (
            darkroom("worker", environment=environment, folder=tmp_path) as worker,
            darkroom("scheduler", environment=environment, folder=tmp_path) as scheduler,
        ):
            await asyncio.to_thread(worker.says, "\nready\n")
            jobs = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(6)]
            for _ in range(2):
                with darkroom("db", "check", environment=environment, folder=tmp_path) as check:
                    assert await asyncio.to_thread(check.ends) == 0, check.said
            with darkroom("doctor", environment=environment, folder=tmp_path) as doctor:
                assert await asyncio.to_thread(doctor.ends) == 0, doctor.said
            assert {(await ended(fleet, job))["status"] for job in jobs} == {"COMPLETED"}
            assert "DATABASE_DIRECT_URL" in doctor.said
            for process in (worker, scheduler):
                assert "notify_unheard" in process.said
                assert "Traceback" not in process.said


async def test_worker_renews_within_seconds_a_lease_that_is_over_by_the_databases_clock(fleet):
    fleet.start(1)
    await fleet.database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 hour'")

    async def is_renewed():
        return await fleet.database.fetchval(
            "SELECT lease_expires_at > now() + interval '10 seconds' FROM darkroom.workers"
        )

    await eventually(is_renewed, "the renewal", within_s=2.5)
