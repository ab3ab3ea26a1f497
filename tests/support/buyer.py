"""A process that makes as many paid calls at once as the gate admits, each for a claim of its own.

It may be told to die at a failpoint.
"""

import asyncio
import json
import os
import sys

from config import failpoints
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan
from tests.support.builders import claim_jobs
from workers.gate.call_records import CallRecords

DIED = 99


async def main(url: str, tries: int, rules: dict[str, object], close: str, *, die_at: str | None) -> None:
    database = Database(parse_postgres_url(url), most_connections=8)
    await database.open()
    claims = await claim_jobs(database, most=tries)
    records = CallRecords(database, rules)
    if die_at is not None:
        failpoints.on_pass = lambda name: os._exit(DIED) if name == die_at else None

    async def buy(claim):
        plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1, rules=rules)
        opened = await records.open(claim, plan)
        if isinstance(opened, Admitted) and close:
            await records.close(opened.intent, CallOutcome(close, may_be_paid=True, latency_ms=1, verdict=close))
        return isinstance(opened, Admitted)

    print(sum(await asyncio.gather(*map(buy, claims))))  # noqa: T201 - the parent reads it
    await database.close()


asyncio.run(
    main(
        *(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]),
        die_at=sys.argv[5] if len(sys.argv) > 5 else None,
    )
)
