"""Cost of opening and closing a provider call, with and without a REPEATABLE READ transaction that stays open.

Under such an old snapshot PostgreSQL removes no dead row version, so a statement that reads all versions of a row gets
slower with each call. Goal: the last calls cost as much as the first ones. An INSERT of a job, a claim and a
cancellation are also measured, every thousand calls.

    .venv/bin/python -m bench.old_snapshot [CALLS] [BUYERS] [ROUNDS]
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import cycle
from typing import TypeVar
from uuid import uuid4

import asyncpg

from bench.ground import JOBS, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, open_call
from models.queue.claims import Claim, claim
from models.queue.leases import renew_lease
from pipelines.job_types import stage_deadlines
from pipelines.settings import Settings
from workers.gate.rules import rules_of

T = TypeVar("T")

CALLS = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000
BUYERS = int(sys.argv[2]) if len(sys.argv) > 2 else 2
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 2
BLOCK = 1_000
JOBS_HELD = 100
BESIDE = 20

RULES = rules_of(Settings(budgets="day_usd=100000,user_day_calls=100000"), "gemini")
PLAN = CallPlan(
    "gemini", "generate", may_be_paid=True, model="m", price_usd=Decimal("0.05"), images=1, rules=RULES, call_hash="0"
)
ANSWERED = CallOutcome("answered", may_be_paid=True, latency_ms=1, cost_usd=Decimal("0.049"), verdict="answered")


@dataclass
class Times:
    """Seconds that each step took, in the order of the calls."""

    opening: list[float] = field(default_factory=list)
    closing: list[float] = field(default_factory=list)
    inserting: list[float] = field(default_factory=list)
    claiming: list[float] = field(default_factory=list)
    cancelling: list[float] = field(default_factory=list)


async def timed(into: list[float], work: Awaitable[T]) -> T:
    """Await work and append its duration, in seconds, to `into`; return the work's result."""
    began = time.perf_counter()
    result = await work
    into.append(time.perf_counter() - began)
    return result


async def claims_of(database: Database, most: int) -> list[Claim]:
    """Claim jobs for a worker whose lease lasts an hour."""
    worker = uuid4()
    await database.run(
        lambda connection: renew_lease(
            connection, worker, host="here", pid=1, queues=["default"], lanes=most, lease_s=3_600
        )
    )
    return await database.run(
        lambda connection: claim(connection, worker, "default", most, stage_deadlines(Settings()))
    )


async def buy(database: Database, claims: list[Claim], calls: int, times: Times) -> None:
    """Open and close `calls` provider calls, one after the other."""
    for held, _ in zip(cycle(claims), range(calls), strict=False):
        opened = await timed(times.opening, database.run(lambda c, held=held: open_call(c, held, PLAN)))
        assert isinstance(opened, Admitted), opened
        await timed(times.closing, database.run(lambda c, opened=opened: close_call(c, opened.intent, ANSWERED, RULES)))


async def pass_through(database: Database, times: Times) -> None:
    """Submit jobs, claim and cancel them, one after the other."""
    for _ in range(BESIDE):
        await timed(times.inserting, database.fetch(JOBS, f"x{uuid4().hex}", 1))
        (held,) = await timed(times.claiming, claims_of(database, 1))
        await timed(times.cancelling, database.fetch("SELECT darkroom.cancel_job($1)", held.job_id))


def table(name: str, times: Times) -> None:
    """Print the median of each block of calls in ms."""
    for step in ("opening", "closing"):
        values = getattr(times, step)
        blocks = [values[at : at + BLOCK] for at in range(0, len(values), BLOCK)]
        medians = " ".join(f"{1000 * statistics.median(block):6.2f}" for block in blocks if len(block) == BLOCK)
        print(f"{name:14} {step:10} {medians}")
    for step in ("inserting", "claiming", "cancelling"):
        values = getattr(times, step)
        medians = " ".join(
            f"{1000 * statistics.median(values[at : at + BESIDE]):6.2f}" for at in range(0, len(values), BESIDE)
        )
        print(f"{name:14} {step:10} {medians}", flush=True)


async def measure(*, is_held: bool, number: int) -> None:
    """Open and close CALLS calls on temporary services, with or without a transaction that keeps an old snapshot."""
    async with ground() as place, AsyncExitStack() as stack:
        database = Database(parse_postgres_url(place.services.database_url), most_connections=BUYERS + 2)
        await database.open()
        stack.push_async_callback(database.close)
        await database.fetch(JOBS, "held", JOBS_HELD)
        claims = await claims_of(database, JOBS_HELD)
        times = Times()
        if is_held:
            other = await asyncpg.connect(place.services.database_url)
            stack.push_async_callback(other.close)
            await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await other.execute("SELECT 1")
        for _ in range(CALLS // BLOCK):
            await pass_through(database, times)
            await asyncio.gather(*(buy(database, claims[n::BUYERS], BLOCK // BUYERS, times) for n in range(BUYERS)))
        table(f"{number} {'old snapshot' if is_held else 'none'}", times)


async def main() -> None:
    """Print the ms of each thousand calls, alternately without an old snapshot and with one."""
    print(f"{CALLS:,} calls by {BUYERS} buyers; median ms of each {BLOCK:,}")
    for number in range(1, ROUNDS + 1):
        for is_held in (False, True):
            await measure(is_held=is_held, number=number)


if __name__ == "__main__":
    run(main)
