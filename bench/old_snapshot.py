"""Cost of jobs and provider calls, with and without a REPEATABLE READ transaction that stays open.

Under such an old snapshot PostgreSQL removes no dead row version, so a statement that reads all versions of a row gets
slower with each call. Goal: the last calls cost at most twice as much as the first ones.

Calls are opened and closed one by one by two buyers; an INSERT of a job, a claim and a cancellation are also measured,
every thousand calls. With --grouped, jobs of type `generate` pass through as a worker's do: claimed, their calls opened
and closed, and completed, each by one statement for a group.

    .venv/bin/python -m bench.old_snapshot [--json] [--calls 8000] [--rounds 2] [--grouped]
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import cycle
from typing import TypeVar
from uuid import uuid4

import asyncpg

from bench.figures import Figures, machine, median, note, options, show
from bench.ground import GENERATIONS, JOBS, ground, run
from bench.noop_worker import RESULT
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, close_calls, open_call, open_calls
from models.queue.checkpoints import completed
from models.queue.claims import Claim, claim
from models.queue.groups import GroupWriter
from models.queue.leases import renew_lease
from pipelines.job_types import stage_deadlines
from pipelines.settings import Settings
from workers.gate.rules import rules_of
from workers.running.job import RunningJob

T = TypeVar("T")

BUYERS = 2
BLOCK = 1_000
JOBS_HELD = 100
BESIDE = 20
GROUP = 125

SETTINGS = Settings(
    budgets="day_usd=100000,user_day_calls=100000",
    provider_limits=f"gemini/concurrency={GROUP},gemini/first_concurrency={GROUP}",
)
RULES = rules_of(SETTINGS, "gemini")
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
    completing: list[float] = field(default_factory=list)


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


async def pass_in_groups(database: Database, writer: GroupWriter, number: int, times: Times) -> None:
    """Submit a block of jobs by one statement, and let them pass through in groups."""
    await timed(times.inserting, database.fetch(GENERATIONS, f"g{number}x", BLOCK, "a prompt"))
    for _ in range(BLOCK // GROUP):
        claims = await timed(times.claiming, claims_of(database, GROUP))
        asked = [(one, PLAN) for one in claims]
        opened = await timed(times.opening, database.run(partial(open_calls, asked=asked)))
        ends = [(one.intent, ANSWERED) for one in opened if isinstance(one, Admitted)]
        assert len(ends) == GROUP, f"{len(ends)} of {GROUP} calls were admitted"
        await timed(times.closing, database.run(partial(close_calls, ends=ends, rules=RULES)))
        await timed(times.completing, complete(writer, claims))


async def complete(writer: GroupWriter, claims: list[Claim]) -> None:
    end = completed("generate", "GENERATING", None, RESULT.to_json(), duration_ms=1, pipeline_id=None)
    await asyncio.gather(*(writer.add(one, end, waiting=RunningJob(one)) for one in claims))


def medians_ms(times: Times, per_block: dict[str, tuple[int, int]]) -> dict[str, list[float]]:
    """Return the median of each block of each step, in ms a job or call.

    Args:
        times: the seconds.
        per_block: how many values a block of each step has, and how many jobs or calls each value is for.
    """
    found = {}
    for step, (values, jobs) in per_block.items():
        seconds = getattr(times, step)
        blocks = [seconds[at : at + values] for at in range(0, len(seconds), values)]
        found[step] = [round(1000 * statistics.median(block) / jobs, 3) for block in blocks]
    return found


ONE_BY_ONE = {
    **dict.fromkeys(("opening", "closing"), (BLOCK, 1)),
    **dict.fromkeys(("inserting", "claiming", "cancelling"), (BESIDE, 1)),
}
GROUPED = {
    "inserting": (1, BLOCK),
    **dict.fromkeys(("claiming", "opening", "closing", "completing"), (BLOCK // GROUP, GROUP)),
}


async def measure(*, is_held: bool, is_grouped: bool, calls: int) -> dict[str, list[float]]:
    """Make calls on temporary services, with or without an old snapshot; return the ms of each step in each block."""
    async with ground() as place, AsyncExitStack() as stack:
        database = Database(
            parse_postgres_url(place.services.database_url), most_connections=BUYERS + 2, keeps_plans=True
        )
        await database.open()
        stack.push_async_callback(database.close)
        times, writer, claims = Times(), GroupWriter(database), []
        if not is_grouped:
            await database.fetch(JOBS, "held", JOBS_HELD)
            claims = await claims_of(database, JOBS_HELD)
        if is_held:
            other = await asyncpg.connect(place.services.database_url)
            stack.push_async_callback(other.close)
            await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await other.execute("SELECT 1")
        for number in range(calls // BLOCK):
            if is_grouped:
                await pass_in_groups(database, writer, number, times)
                continue
            await pass_through(database, times)
            await asyncio.gather(*(buy(database, claims[n::BUYERS], BLOCK // BUYERS, times) for n in range(BUYERS)))
        return medians_ms(times, GROUPED if is_grouped else ONE_BY_ONE)


async def main() -> None:
    parser = options(__doc__, rounds=2)
    parser.add_argument("--calls", type=int, default=8_000, help="how many calls; a multiple of 1,000")
    parser.add_argument("--grouped", action="store_true", help="let jobs pass through in groups")
    arguments = parser.parse_args()
    figures: Figures = {"benchmark": "old_snapshot", "calls": arguments.calls, "is_grouped": arguments.grouped}
    ratios: dict[str, dict[str, list[float]]] = {"none": {}, "old_snapshot": {}}
    for number in range(arguments.rounds):
        for name, found in ratios.items():
            blocks = await measure(is_held=name == "old_snapshot", is_grouped=arguments.grouped, calls=arguments.calls)
            for step, each in blocks.items():
                note(f"{number + 1}. {name:14} {step:10} {' '.join(f'{ms:6.2f}' for ms in each)}")
                tenth = max(1, len(each) // 10)
                first, last = statistics.median(each[:tenth]), statistics.median(each[-tenth:])
                found.setdefault(step, []).append(last / first)
    for name, found in ratios.items():
        figures |= {f"{name}_{step}_last_to_first": median(each) for step, each in found.items()}
    show(figures | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
