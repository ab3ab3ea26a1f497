"""A process that makes as many paid calls as the gate admits, each for a claim of its own; `test_gate.py` runs it."""

import asyncio
import json
import sys

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, open_call
from tests.support.builders import claim_jobs


async def main(url: str, tries: int, rules: dict[str, object], close: str) -> None:
    database = Database(parse_postgres_url(url), most_connections=8)
    await database.open()
    claims = await claim_jobs(database, most=tries)

    async def buy(claim):
        plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1, rules=rules)
        opened = await database.run(lambda connection: open_call(connection, claim, plan))
        if isinstance(opened, Admitted) and close:
            outcome = CallOutcome(close, may_be_paid=True, latency_ms=1, verdict=close)
            await database.run(lambda connection: close_call(connection, opened.intent, outcome, rules))
        return isinstance(opened, Admitted)

    print(sum(await asyncio.gather(*map(buy, claims))))  # noqa: T201 - the parent reads it
    await database.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]))
