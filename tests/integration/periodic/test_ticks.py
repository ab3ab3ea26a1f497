"""Ticks: each takes effect once, whichever schedulers run and die (promise I8)."""

import asyncio
import os
import random
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from tests.support.builders import make_user, money_violations
from tests.support.patience import HANGS_AFTER_S
from tests.support.periodic_rows import set_last
from workers.periodic.engine import PeriodicEngine
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

ROOT = Path(__file__).resolve().parents[3]


async def _nothing(_work: Work) -> dict[str, int]:
    return {}


def counting_task(chunks: int = 4, *, missed: str = "catch_up") -> Task:
    """A task whose effect is a row per chunk, so that every loss and every double shows."""

    async def chunk(work: Work) -> Chunk:
        number = work.cursor["number"] if work.cursor else 0
        await work.connection.execute("INSERT INTO effects VALUES ($1, $2)", work.at, number)
        await asyncio.sleep(0)
        return Chunk({"number": number + 1} if number + 1 < chunks else None, {"effects": 1})

    return Task("count", Schedule("* * * * *", missed=missed), chunk, _nothing)  # type: ignore[arg-type]


@pytest.fixture
async def effects(database: Database) -> None:
    await database.fetch("CREATE TABLE effects (at timestamptz, number integer)")


@pytest.fixture
def process(database, storage, clock):
    """Make a scheduler process's engine for tasks of the test's own."""

    def make(*tasks: Task, own_database: Database = database) -> PeriodicEngine:
        from pipelines.settings import Settings  # noqa: PLC0415

        return PeriodicEngine(own_database, storage, Settings(), tasks, clock=clock)

    return make


async def begun(engine: PeriodicEngine, clock) -> None:
    """Look for the first time, by which a schedule begins."""
    await engine.run_once()
    assert clock.now


async def ticks_of(database: Database, task: str) -> list[tuple[datetime, str]]:
    rows = await database.fetch("SELECT tick_at, status FROM darkroom.ticks WHERE task = $1 ORDER BY tick_at", task)
    return [(row["tick_at"], row["status"]) for row in rows]


async def effects_of(database: Database) -> list[tuple[datetime, int]]:
    return [(row["at"], row["number"]) for row in await database.fetch("SELECT * FROM effects ORDER BY 1, 2")]


async def test_twenty_schedulers_that_are_cut_off_make_every_tick_once(database, database_url, process, clock, effects):
    databases = [Database(parse_postgres_url(database_url), most_connections=2) for _ in range(20)]
    for one in databases:
        await one.open()
    chance = random.Random(7)
    await begun(process(counting_task()), clock)
    start = clock.now

    async def scheduler(own: Database) -> None:
        while True:
            await process(counting_task(), own_database=own).run_once()
            await asyncio.sleep(0.01)

    running = [asyncio.create_task(scheduler(own)) for own in databases]
    async with asyncio.timeout(HANGS_AFTER_S):
        for minute in range(1, 13):
            clock.now = start + timedelta(minutes=minute)
            for _ in range(4):
                number = chance.randrange(20)
                running[number].cancel()
                await asyncio.wait([running[number]])
                running[number] = asyncio.create_task(scheduler(databases[number]))
                await asyncio.sleep(0.01)
        while len(await effects_of(database)) < 48:  # noqa: ASYNC110 - rows have no event
            await asyncio.sleep(0.05)
    for task in running:
        task.cancel()
    await asyncio.wait(running)

    minutes = [start + timedelta(minutes=minute) for minute in range(1, 13)]
    assert await ticks_of(database, "count") == [(minute, "finished") for minute in minutes]
    assert await effects_of(database) == [(minute, number) for minute in minutes for number in range(4)]
    for one in databases:
        await one.close()


async def test_killed_processes_lose_and_double_nothing(database, database_url, tmp_path):
    users = [await make_user(database, balance=0) for _ in range(60)]
    begin = await database.fetchval("SELECT date_trunc('second', clock_timestamp())")
    for user_id in users:
        await set_last(database, user_id, begin - timedelta(minutes=15 * 8 + 7))
    chance = random.Random(3)

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.scheduler_process", database_url, str(tmp_path)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )

    running = [await start() for _ in range(3)]
    try:
        async with asyncio.timeout(HANGS_AFTER_S):
            for process in running:
                assert process.stdout is not None
                await process.stdout.readline()
            for _ in range(3):
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                number = chance.randrange(3)
                os.kill(running[number].pid, signal.SIGKILL)
                await running[number].wait()
                running[number] = await start()
            while await database.fetchval(  # noqa: ASYNC110 - rows have no event
                "SELECT count(*) FROM public.user_token_balances WHERE balance < 8"
            ):
                await asyncio.sleep(0.05)
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
            await process.wait()

    balances = await database.fetch("SELECT DISTINCT balance FROM public.user_token_balances")
    assert [row["balance"] for row in balances] == [8]
    assert await database.fetchval("SELECT count(*) FROM public.token_transactions") == 60
    assert await money_violations(database) == []


@pytest.mark.parametrize(
    ("missed", "minutes"),
    [("skip", [40]), ("coalesce", [40]), ("catch_up", list(range(17, 41)))],
)
async def test_missed_ticks_follow_the_policy(database, process, clock, effects, missed, minutes):
    engine = process(counting_task(1, missed=missed))
    await begun(engine, clock)
    start = clock.now

    clock.now = start + timedelta(minutes=40, seconds=2)
    for _ in range(2):
        await engine.run_once()

    assert [at for at, _ in await effects_of(database)] == [start + timedelta(minutes=minute) for minute in minutes]


async def test_skipped_tick_that_is_late_is_not_made_up(database, process, clock, effects):
    task = counting_task(1)
    hourly = Task("count", Schedule("0 * * * *", missed="skip"), task.chunk, task.count)
    engine = process(hourly)
    await begun(engine, clock)

    clock.now += timedelta(hours=3, minutes=30)
    await engine.run_once()

    assert await effects_of(database) == []


async def test_clock_set_back_makes_no_tick_twice(database, process, clock, effects):
    engine = process(counting_task(1))
    await begun(engine, clock)
    start = clock.now

    for minutes in (3, 1, 2, 3, 4):
        clock.now = start + timedelta(minutes=minutes)
        await engine.run_once()

    expected = [start + timedelta(minutes=minutes) for minutes in (1, 2, 3, 4)]
    assert [at for at, _ in await effects_of(database)] == expected


async def test_failed_chunk_keeps_what_was_committed_and_is_tried_again(database, process, clock, effects):
    task = counting_task(3)
    is_broken = True

    async def chunk(work: Work) -> Chunk:
        done = await task.chunk(work)
        if is_broken and work.cursor and work.cursor["number"] == 1:
            raise ValueError("out of order")
        return done

    engine = process(Task("count", task.schedule, chunk, task.count))
    await begun(engine, clock)
    clock.now += timedelta(minutes=1)

    await engine.run_once()
    (row,) = await database.fetch("SELECT status, error, failures FROM darkroom.ticks")
    assert (row["status"], row["error"], row["failures"]) == ("running", "ValueError: out of order", 1)
    is_broken = False
    await database.fetch("UPDATE darkroom.ticks SET retry_at = clock_timestamp()")
    await engine.run_once()

    assert [number for _, number in await effects_of(database)] == [0, 1, 2]
    assert await ticks_of(database, "count") == [(clock.now, "finished")]


async def test_hopeless_tick_is_over_and_the_next_one_runs(database, process, clock, effects):
    task = counting_task(1)
    first = clock.now + timedelta(minutes=1)

    async def chunk(work: Work) -> Chunk:
        if work.at == first:
            raise ValueError("out of order")
        return await task.chunk(work)

    engine = process(Task("count", task.schedule, chunk, task.count))
    await begun(engine, clock)
    clock.now += timedelta(minutes=2)
    for _ in range(6):
        await engine.run_once()
        await database.fetch("UPDATE darkroom.ticks SET retry_at = NULL")

    assert [status for _, status in await ticks_of(database, "count")] == ["failed", "finished"]


async def test_tick_keeps_to_its_budget_and_goes_on_later(database, storage, clock, effects):
    from pipelines.settings import Settings  # noqa: PLC0415

    engine = PeriodicEngine(database, storage, Settings(tick_budget_s=0.001), [counting_task(6)], clock=clock)
    await begun(engine, clock)
    clock.now += timedelta(minutes=1)

    looks = 0
    while not await effects_of(database) or (await ticks_of(database, "count"))[0][1] != "finished":
        await engine.run_once()
        looks += 1

    assert looks > 1
    assert [number for _, number in await effects_of(database)] == list(range(6))


async def test_operator_changes_and_pauses_a_schedule_while_it_runs(database, process, clock, effects):
    engine = process(counting_task(1, missed="coalesce"))
    await begun(engine, clock)
    start = clock.now
    change = """INSERT INTO darkroom.settings (key, value) VALUES ('schedule:count', $1)
                ON CONFLICT (key) DO UPDATE SET value = excluded.value"""

    await database.fetch(change, {"paused": True})
    clock.now = start + timedelta(minutes=5)
    await engine.run_once()
    assert await effects_of(database) == []
    await database.fetch(change, {"schedule": "*/10 * * * *"})
    clock.now = start + timedelta(minutes=9)
    await engine.run_once()
    assert await effects_of(database) == []
    clock.now = start + timedelta(minutes=11)
    await engine.run_once()

    assert [at for at, _ in await effects_of(database)] == [start + timedelta(minutes=10)]


async def test_schedule_in_a_time_zone_is_right_on_both_days_of_the_change():
    london = Schedule("30 1 * * *", "Europe/London")
    spring, autumn = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)

    assert [london.after(day) for day in (spring, autumn)] == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),  # 01:30 doesn't exist: at once after the gap
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    ]
