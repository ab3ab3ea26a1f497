"""What a scheduler process does without workers and without commands."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.builders import balance_of, make_user
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S
from tests.support.periodic_rows import set_last
from tests.support.program import darkroom

PROGRAM = Path(sys.executable).with_name("darkroom")
SEQUENCE_BEHIND = """
INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, purpose, may_be_paid)
VALUES ('enhance', 'old', 'somebody', 1, 'local', 'analyze', false);
SELECT setval('darkroom.provider_calls_id_seq', 1, false);
"""
FINISHED = "SELECT count(*) FROM darkroom.ticks WHERE task = 'regenerate-tokens' AND status = 'finished'"


async def test_scheduler_makes_a_tick_that_is_due_without_being_asked(fleet):
    user_id = await make_user(fleet.database, balance=0)
    now = await fleet.database.fetchval("SELECT clock_timestamp()")
    await set_last(fleet.database, user_id, now - timedelta(days=40))
    schedules = '{"regenerate-tokens": "PT1S"}'
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "scheduler"),
        env=os.environ | fleet.environment | {"DARKROOM_SCHEDULES": schedules, "LOG_LEVEL": "error"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), HANGS_AFTER_S) == b"ready\n"

        async def is_finished():  # which is written after what it gives
            return await fleet.database.fetchval(FINISHED) > 0

        await eventually(is_finished, "the tick's end")
    finally:
        process.terminate()
        code = await process.wait()

    assert await balance_of(fleet.database, user_id) == 10
    assert code == 0


@pytest.mark.parametrize("command", ["scheduler", "up", "worker"])
async def test_sigterm_ends_what_waits_for_a_server_that_does_not_answer(fleet, tmp_path, command):
    environment = fleet.environment | {"DATABASE_URL": "postgresql://darkroom@127.0.0.1:9/darkroom"}

    with darkroom(command, environment=environment, folder=tmp_path) as running:
        await asyncio.to_thread(running.says, "connection_awaited")
        running.process.terminate()

        assert await asyncio.to_thread(running.ends) == 0, running.said


@pytest.mark.parametrize("command", ["scheduler", "up"])
async def test_sigterm_ends_what_waits_for_the_upgrade(fleet, tmp_path, command):
    await fleet.database.run(lambda connection: connection.execute(SEQUENCE_BEHIND))

    with darkroom(command, environment=fleet.environment, folder=tmp_path) as running:
        await asyncio.to_thread(running.says, "migration_awaited")
        running.process.terminate()

        assert await asyncio.to_thread(running.ends) == 0, running.said
