"""Twenty scheduler processes under random SIGKILLs: every tick takes effect exactly once (promise I8).

`python -m bench.ticks --seed 7 --minutes 2` prints the results, and exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from bench.ground import Ground, ground, run

SCHEDULERS = 20
USERS = 2_500
TICK_S = 5
"""Seconds between two ticks; in each tick a user earns one token for each second."""

PERIOD = timedelta(seconds=TICK_S)
SETTLED_WITHIN_S = 120
PROGRAM = Path(sys.executable).with_name("darkroom")

USERS_ADDED = """
INSERT INTO public.users (id, "updatedAt") SELECT 'many' || n, now() FROM generate_series(1, $1::integer) n
"""
BALANCES_ADDED = """
INSERT INTO public.user_token_balances (id, "userId", balance, "lastRegeneration", "updatedAt")
SELECT 'many' || n, 'many' || n, 0, $2, now() FROM generate_series(1, $1::integer) n
"""
TICKS = """
SELECT tick_at, status, finished_at, (counts ->> 'users')::integer AS users
FROM darkroom.ticks WHERE task = 'regenerate-tokens' ORDER BY tick_at
"""

# Violations: each user's ledger rows must follow one another without a gap or an overlap, with one token per second.
BROKEN = """
WITH rows AS (
    SELECT t."userId", t.amount, t."balanceAfter", f.since, f.until,
           lag(f.until) OVER own AS before, sum(t.amount) OVER own AS given
    FROM public.token_transactions t,
         LATERAL (SELECT (t.metadata ->> 'from')::timestamp, (t.metadata ->> 'to')::timestamp) f (since, until)
    WHERE t."userId" LIKE 'many%'
    WINDOW own AS (PARTITION BY t."userId" ORDER BY f.since))
SELECT 'a row that does not follow' AS finding, count(*) FROM rows WHERE since IS DISTINCT FROM coalesce(before, $1)
UNION ALL
SELECT 'a row of a wrong amount', count(*) FROM rows
WHERE amount <> extract(epoch FROM until - since) OR "balanceAfter" <> given
UNION ALL
SELECT 'a balance that is not its seconds', count(*) FROM public.user_token_balances b
WHERE b."userId" LIKE 'many%' AND b.balance <> extract(epoch FROM b."lastRegeneration" - $1)
UNION ALL
SELECT finding, 1 FROM darkroom.money_violations
"""


class Fleet:
    """The scheduler processes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.processes: list[asyncio.subprocess.Process] = []

    async def start_all(self) -> None:
        """Start every scheduler process, and wait until all of them work."""
        self.processes = [await self.start() for _ in range(SCHEDULERS)]
        for process in self.processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n", "a scheduler didn't start"

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(PROGRAM, "scheduler"), env=self.environment, stdout=asyncio.subprocess.PIPE
        )

    async def kill(self, number: int) -> None:
        """Kill one scheduler process, and start another in its place."""
        self.processes[number].kill()
        await self.processes[number].wait()
        self.processes[number] = await self.start()

    async def stop(self) -> list[int]:
        for process in self.processes:
            process.terminate()
        return [await process.wait() for process in self.processes]


async def kill_at_random(fleet: Fleet, dice: random.Random, seconds: float) -> int:
    """Kill one process after another at random; return how many were killed."""
    until = time.monotonic() + seconds
    kills = 0
    while time.monotonic() < until:
        await asyncio.sleep(dice.uniform(0.2, 2.5))
        await fleet.kill(dice.randrange(SCHEDULERS))
        kills += 1
    return kills


async def settled(connection: "asyncpg.Connection[asyncpg.Record]", over: datetime) -> bool:
    """Wait until every tick up to the last kill exists and has ended; return whether that happened in time."""
    until = time.monotonic() + SETTLED_WITHIN_S
    while time.monotonic() < until:
        ticks = await connection.fetch(TICKS)
        if (
            ticks
            and ticks[-1]["tick_at"] >= over
            and all(row["finished_at"] for row in ticks if row["tick_at"] <= over)
        ):
            return True
        await asyncio.sleep(0.2)
    return False


async def findings(connection: "asyncpg.Connection[asyncpg.Record]", start: datetime, over: datetime) -> list[str]:
    """Return the promises that are broken."""
    ticks = await connection.fetch(TICKS)
    found = [
        f"tick {row['tick_at']:%T} is {row['status']}"
        for row in ticks
        # a later tick may be unfinished when the schedulers stop
        if row["status"] != "finished" and row["tick_at"] <= over
    ]
    found += [
        f"no tick between {one['tick_at']:%T} and {other['tick_at']:%T}"
        for one, other in itertools.pairwise(ticks)
        if other["tick_at"] - one["tick_at"] != PERIOD
    ]
    found += [
        f"tick {row['tick_at']:%T} gave {row['users']} users their tokens"
        for row in ticks
        if row["status"] == "finished" and row["users"] != USERS
    ]
    rows = await connection.fetch(BROKEN, start)
    return found + [f"{row['finding']}: {row['count']}" for row in rows if row["count"]]


def environment_of(here: Ground) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": here.services.database_url,
        "REDIS_URL": here.services.redis_url,
        "STORAGE_URL": here.services.storage_url,
        "PROVIDER": "local",
        "LOG_LEVEL": "error",
        "DARKROOM_REGENERATION": "drip",
        "DARKROOM_DRIP_INTERVALS": "FREE=1",
        "DARKROOM_DRIP_CAPS": "FREE=1000000",
        "DARKROOM_SCHEDULES": f'{{"regenerate-tokens": {{"schedule": "PT{TICK_S}S", "missed": "catch_up"}}}}',
    }


async def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--minutes", type=float, default=2)
    given = options.parse_args()
    print(f"seed {given.seed}: {given.minutes:g} minutes, {SCHEDULERS} schedulers, {USERS:,} users")
    async with ground() as here:
        connection = await here.connect()
        await connection.execute("SET timezone TO utc")
        start = await connection.fetchval("SELECT date_trunc('second', now() AT TIME ZONE 'utc')")
        await connection.execute(USERS_ADDED, USERS)
        await connection.execute(BALANCES_ADDED, USERS, start)
        fleet = Fleet(environment_of(here))
        try:
            await fleet.start_all()
            kills = await kill_at_random(fleet, random.Random(given.seed), given.minutes * 60)
            over = await connection.fetchval("SELECT clock_timestamp()")
            is_settled = await settled(connection, over)
        finally:
            codes = await fleet.stop()
        found = await findings(connection, start, over)
        ticks = len(await connection.fetch(TICKS))
        rows, tokens = await connection.fetchrow(
            """SELECT count(*), sum(amount) FROM public.token_transactions WHERE "userId" LIKE 'many%'"""
        )
        await connection.close()
    if not is_settled:
        found.append(f"ticks were still unfinished {SETTLED_WITHIN_S} s after the last kill")
    if not set(codes) <= {0, 143, -signal.SIGTERM}:  # the last two codes: told to stop while it started
        found.append(f"schedulers that were told to stop ended with {sorted(set(codes))}")
    print(f"{kills} SIGKILLs, {ticks} ticks, {rows:,} ledger rows, {tokens:,} tokens")
    print("\n".join(found) or "every tick once, in the rows and in its effect")
    sys.exit(bool(found))


if __name__ == "__main__":
    run(main)
