"""What a scheduler process does by itself."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from tests.acceptance.conftest import eventually
from tests.builders import balance_of, make_user
from tests.integration.periodic.rows import set_last

PROGRAM = Path(sys.executable).with_name("darkroom")


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
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"

        async def is_given():
            return await balance_of(fleet.database, user_id) == 10

        await eventually(is_given, 20, "regeneration")
    finally:
        process.terminate()
        code = await process.wait()

    finished = "SELECT count(*) FROM darkroom.ticks WHERE task = 'regenerate-tokens' AND status = 'finished'"
    assert await fleet.database.fetchval(finished) > 0
    assert code == 0
