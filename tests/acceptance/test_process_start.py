"""What a worker checks before it starts, and what its supervisor does as the parent of orphaned processes."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
from uuid import uuid4

import psutil
import pytest

from config.postgres_url import parse_postgres_url
from tests.acceptance.test_faults_inside import ended, pixel_children, worker_pids
from tests.support.builders import make_job
from tests.support.fleet import eventually
from tests.support.program import darkroom

PR_SET_CHILD_SUBREAPER = 36
OURS = """
GRANT USAGE ON SCHEMA darkroom TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA darkroom TO {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA darkroom TO {role};
"""


@pytest.fixture
async def role(fleet):
    """A role with rights on the application's tables only."""
    name = f"dk{uuid4().hex[:8]}"

    async def run(sql):
        await fleet.database.run(lambda connection: connection.execute(sql))

    await run(f"CREATE ROLE {name} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    yield name
    await run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_role(fleet, role):
    url = parse_postgres_url(fleet.services.database_url)
    return fleet.environment | {"DATABASE_URL": url.text().replace(f"//{url.user}@", f"//{role}@")}


async def run(*arguments, environment, folder, before=None):
    """Run a command to its end; return its exit code and all that it said."""
    with darkroom(*arguments, environment=environment, folder=folder, before=before) as command:
        code = await asyncio.to_thread(command.ends)
        return code, command.said


async def test_role_without_rights_ends_worker_and_scheduler_with_one_line_that_names_them(fleet, role, tmp_path):
    environment = as_role(fleet, role)
    code, said = await run("worker", environment=environment, folder=tmp_path)
    assert (code, said.count("\n")) == (2, 1), said
    assert f"role {role} lacks USAGE on schema darkroom" in said

    await fleet.database.run(lambda connection: connection.execute(OURS.format(role=role)))
    for name in ("worker", "scheduler"):
        code, said = await run(name, environment=environment, folder=tmp_path)
        assert (code, said.count("\n")) == (2, 1), said
        assert f"role {role} lacks EXECUTE on darkroom." in said


async def test_rights_taken_from_a_role_before_its_workers_start_end_the_supervisor(fleet, role, tmp_path):
    environment = as_role(fleet, role) | {"DARKROOM_PROCESSES": "1"}
    everything = OURS + "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA darkroom TO {role};"
    await fleet.database.run(lambda connection: connection.execute(everything.format(role=role)))
    revoke = f"REVOKE UPDATE ON darkroom.job_queue FROM {role}"
    # `up`, whose scheduler could go on for ever without any worker
    with darkroom("up", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "\nready\n")
        (pid,) = await worker_pids(fleet)
        await fleet.database.run(lambda connection: connection.execute(revoke))
        os.kill(pid, signal.SIGKILL)

        assert await asyncio.to_thread(worker.ends) == 2
        assert f"role {role} lacks UPDATE on darkroom.job_queue" in worker.said


async def test_another_mode_of_money_ends_the_worker_with_one_line(fleet, tmp_path):
    code, said = await run("worker", environment=fleet.environment | {"TOKENS": "external"}, folder=tmp_path)

    assert (code, said.count("\n")) == (2, 1)
    assert "TOKENS=external, but the database is in mode managed" in said


async def test_hopeless_limit_of_open_files_is_named_at_the_start(fleet, tmp_path):
    code, said = await run(
        *("worker", "--lanes", "4"),
        environment=fleet.environment,
        folder=tmp_path,
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )

    assert (code, said.count("\n")) == (2, 1), said
    assert "at most 40 files may be open here, and a worker needs 64, with 4 lanes 80" in said


def become_subreaper():
    """Make orphans below this process its children, as they are of process 1 in a container."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0


def zombies_of(parent):
    found = []
    for child in parent.children():
        with contextlib.suppress(psutil.Error):  # reaped in between
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


@pytest.mark.proof
async def test_supervisor_reaps_the_orphans_of_killed_workers(fleet, tmp_path):
    user, image = await fleet.stored_picture(balance=100)
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path, before=become_subreaper) as worker:
        await asyncio.to_thread(worker.says, "\nready\n")
        supervisor, killed = psutil.Process(worker.process.pid), set()
        for _ in range(2):

            async def another_works():
                return (await worker_pids(fleet)) - killed

            (pid,) = await eventually(another_works)
            job = await make_job(fleet.database, user_id=user, image_id=image)
            assert (await ended(fleet, job))["status"] == "COMPLETED"
            assert pixel_children(pid)  # which will be orphans
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

        async def has_been_an_orphan():
            return zombies_of(supervisor)

        async def no_zombie_is_left():
            return not zombies_of(supervisor)

        await eventually(has_been_an_orphan, "an orphan's end")
        await eventually(no_zombie_is_left, "reaping")
        await eventually(another_works)  # whose master's exit code was left to its supervisor
        assert worker.said.count('"worker_died"') == 2
