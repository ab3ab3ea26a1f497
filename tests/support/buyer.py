"""Processes that make as many paid calls at once as the gate admits, each for a claim of its own.

They may be told to die at a failpoint.
"""

import asyncio
import os
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue

from config import failpoints
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan
from tests.support.builders import claim_jobs
from tests.support.forked import FORKS
from tests.support.patience import HANGS_AFTER_S
from workers.gate.call_records import CallRecords

DIED = 99


async def buy(url: str, tries: int, rules: dict[str, object], close: str, *, die_at: str | None = None) -> int:
    """Return how many of so many calls were admitted."""
    database = Database(parse_postgres_url(url), most_connections=8)
    await database.open()
    claims = await claim_jobs(database, most=tries)
    records = CallRecords(database, rules)
    if die_at is not None:
        failpoints.on_pass = lambda name: os._exit(DIED) if name == die_at else None

    async def buy_one(claim):
        plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1, rules=rules)
        opened = await records.open(claim, plan)
        if isinstance(opened, Admitted) and close:
            await records.close(opened.intent, CallOutcome(close, may_be_paid=True, latency_ms=1, verdict=close))
        return isinstance(opened, Admitted)

    bought = sum(await asyncio.gather(*map(buy_one, claims)))
    await database.close()
    return bought


def live(url: str, tries: int, rules: dict[str, object], close: str, die_at: str | None, told: SimpleQueue) -> None:
    """Buy in a process that the fork server made, and tell how much."""
    told.put(asyncio.run(buy(url, tries, rules, close, die_at=die_at)))


async def bought_by(processes: int, url: str, rules: dict[str, object], close: str) -> int:
    """Return how many calls were admitted to so many processes that try six each."""
    told = FORKS.SimpleQueue()
    buyers = [FORKS.Process(target=live, args=(url, 6, rules, close, None, told)) for _ in range(processes)]
    for buyer in buyers:
        buyer.start()
    assert [await ended(buyer) for buyer in buyers] == [0] * processes
    return sum(told.get() for _ in buyers)


async def die_buying(url: str, tries: int, rules: dict[str, object], close: str, place: str) -> int:
    """Let a process buy until it is told to die; return its exit status."""
    told = FORKS.SimpleQueue()  # kept, since the process that starts looks for it by its name
    buyer = FORKS.Process(target=live, args=(url, tries, rules, close, place, told))
    buyer.start()
    return await ended(buyer)


async def ended(process: BaseProcess) -> int | None:
    """Wait for a process; return its exit status."""
    await asyncio.to_thread(process.join, HANGS_AFTER_S)
    return process.exitcode
