"""Regeneration of 1,000,000 balances while users are charged: by the periodic task in chunks, and by one statement.

.venv/bin/python -m bench.regenerate [BALANCES]
"""

import asyncio
import sys
import time
from datetime import timedelta
from random import randrange

import asyncpg

from bench.ground import Ground, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.storage.backends import open_storage
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000

LOAD = """
TRUNCATE public.users CASCADE;
TRUNCATE darkroom.opening_balances;
INSERT INTO public.users (id, email, "updatedAt")
SELECT 'u' || n, 'u' || n, darkroom.utc_now() FROM generate_series(1, {count}) n;
SET session_replication_role = replica; -- a deferred trigger for each row would take longer than the run
INSERT INTO public.user_token_balances (id, "userId", balance, "lastRegeneration", "updatedAt")
SELECT 'b' || n, 'u' || n, 100, darkroom.utc_now() - interval '40 days', darkroom.utc_now()
FROM generate_series(1, {count}) n;
SET session_replication_role = DEFAULT;
SELECT darkroom.record_opening_balances();
VACUUM_HERE
"""

SINGLE = """
WITH changed AS (
    UPDATE public.user_token_balances b
    SET balance = b.balance + 10, "lastRegeneration" = b."lastRegeneration" + interval '1 month',
        "updatedAt" = darkroom.utc_now()
    WHERE b."lastRegeneration" <= darkroom.utc_now() - interval '1 month'
    RETURNING b."userId", b.balance, b."lastRegeneration")
INSERT INTO public.token_transactions (id, "userId", amount, type, source, "balanceAfter", metadata, "createdAt")
SELECT darkroom.new_id(), c."userId", 10, 'EARN_REGENERATION', 'regeneration', c.balance,
       jsonb_build_object('to', c."lastRegeneration"), darkroom.utc_now()
FROM changed c
"""

CHARGE = """
WITH paid AS (
    UPDATE public.user_token_balances SET balance = balance - 1 WHERE "userId" = $1 AND balance >= 1
    RETURNING "userId", balance)
INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
SELECT darkroom.new_id(), p."userId", -1, 'SPEND_ENHANCEMENT', p.balance FROM paid p
"""


async def load(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(LOAD.format(count=COUNT).replace("VACUUM_HERE", ""))
    for table in ("users", "user_token_balances", "token_transactions"):
        await connection.execute(f"VACUUM ANALYZE public.{table}")
    await connection.execute("CHECKPOINT")


async def charging(place: Ground, done: asyncio.Event) -> list[float]:
    """Charge random users one after another until `done`; return how long each charge took, in ms."""
    connection = await place.connect()
    waits = []
    while not done.is_set():
        began = time.perf_counter()
        await connection.execute(CHARGE, f"u{randrange(COUNT) + 1}")
        waits.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    await connection.close()
    return sorted(waits)


async def measured(place: Ground, name: str, work) -> float:  # type: ignore[no-untyped-def]  # noqa: ANN001
    done = asyncio.Event()
    charger = asyncio.create_task(charging(place, done))
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    done.set()
    waits = await charger
    print(
        f"{name:18} {took:6.1f} s   {COUNT / took:,.0f} balances/s   "
        f"a charge waits p50 {waits[len(waits) // 2]:.1f} ms, p99 {waits[int(len(waits) * 0.99)]:.1f} ms, "
        f"longest {waits[-1]:.1f} ms of {len(waits)}",
        flush=True,
    )
    return took


async def main() -> None:
    async with ground() as place:
        connection = await place.connect()
        await load(connection)
        single = await measured(place, "one statement", lambda: connection.execute(SINGLE))
        await load(connection)
        database = Database(parse_postgres_url(place.services.database_url))
        await database.open()
        periodic_engine = PeriodicEngine(
            database, open_storage(place.services.storage_url), place.settings, periodic_tasks(place.settings)
        )
        now = await database.fetchval("SELECT clock_timestamp() - interval '1 second'")
        ours = await measured(place, "ticks, in chunks", lambda: periodic_engine.run_extra("regenerate-tokens", now))
        again = await periodic_engine.run_extra("regenerate-tokens", now + timedelta(seconds=1))
        assert again == {"users": 0, "tokens": 0}, again
        given = await connection.fetchval(
            "SELECT count(*) FROM public.token_transactions WHERE type = 'EARN_REGENERATION'"
        )
        assert given == COUNT, given
        assert await connection.fetchval("SELECT count(*) FROM darkroom.money_violations") == 0
        print(f"ours took {ours / single:.2f} times as long")
        await database.close()
        await connection.close()


if __name__ == "__main__":
    run(main)
