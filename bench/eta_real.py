"""Measure estimates of 500 real jobs: four tiers, two job types, three users, twice the lanes from the middle on.

.venv/bin/python -m bench.eta_real [--json]
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import asyncpg

from bench.ground import Ground, ground, run
from workers.process.supervisor import WorkerProcesses

JOBS: Final = 500
EARLIER: Final = 60
"""How many jobs run first, so that times of stages are known."""

LANES: Final = 6
LIMIT_S: Final = 400
TIERS: Final = ("FREE", "TIER_1K", "TIER_2K", "TIER_4K")
PRICE: Final = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

ENHANCEMENT: Final = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
VALUES ($1, 'i' || $2::text, 'u' || $2::text, $3::text::public."EnhancementTier", $4, 'PENDING', darkroom.utc_now())
"""
GENERATION: Final = """
INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
VALUES ($1, 'u' || $2::text, 'GENERATE', $3::text::public."EnhancementTier", $4, 'PENDING', 'a cat', darkroom.utc_now())
"""
UNFINISHED: Final = "SELECT q.job_id FROM darkroom.job_queue q"
ENDED: Final = """
SELECT j.id, extract(epoch FROM coalesce(j."processingCompletedAt", j."updatedAt") AT TIME ZONE 'utc')::float8 AS at
FROM darkroom.jobs j
"""
ASK: Final = "SELECT p.*, extract(epoch FROM clock_timestamp())::float8 AS at FROM darkroom.job_progress($1) p"


class SleepingWorkers(WorkerProcesses):
    """Worker processes whose stages sleep."""

    ENTRY_POINT = "bench.sleeping_worker:main"


@dataclass(slots=True)
class Answer:
    job_id: str
    row: asyncpg.Record
    ended_s: float = 0.0

    @property
    def took_s(self) -> float:
        return max(self.ended_s - float(self.row["at"]), 0.001)

    @property
    def error(self) -> float:
        return abs(self.row["eta_s"] - self.took_s) / self.took_s


async def submit(connection: "asyncpg.Connection[asyncpg.Record]", prefix: str, count: int) -> None:
    dice = random.Random(prefix)
    async with connection.transaction():
        for number in range(count):
            tier, user = dice.choice(TIERS), dice.choices((1, 2, 3), (6, 3, 1))[0]
            insert = ENHANCEMENT if dice.random() < 0.6 else GENERATION
            await connection.execute(insert, f"{prefix}{number}", str(user), tier, PRICE[tier])


async def drain(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    began_s = time.monotonic()
    while await connection.fetchval("SELECT count(*) FROM darkroom.job_queue"):
        assert time.monotonic() - began_s < LIMIT_S, "the jobs weren't done in time"
        await asyncio.sleep(0.2)


async def roll_up(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Do what a scheduler does each minute, so that the times of the earlier jobs' stages are known."""
    while not await connection.fetchval("SELECT is_done FROM darkroom.roll_up_stage_runs(1000)"):
        pass


async def measure(place: Ground) -> dict[str, Any]:
    connection = await place.connect()
    dice = random.Random(1)
    answers: list[Answer] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(place.workers(1, lanes=LANES, kind=SleepingWorkers))
        await submit(connection, "earlier", EARLIER)
        await drain(connection)
        await roll_up(connection)
        await submit(connection, "job", JOBS)
        changed_s: float | None = None
        change: asyncio.Task[WorkerProcesses] | None = None
        began_s = time.monotonic()
        while unfinished := await connection.fetch(UNFINISHED):
            assert time.monotonic() - began_s < LIMIT_S, "the jobs weren't done in time"
            if change is None and len(unfinished) < JOBS / 2:
                more = place.workers(1, lanes=LANES, kind=SleepingWorkers)
                change = asyncio.create_task(asyncio.to_thread(stack.enter_context, more))
            if changed_s is None and change is not None and change.done():
                changed_s = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            asked = dice.choice(unfinished)["job_id"]
            row = await connection.fetchrow(ASK, asked)
            if row is not None and row["eta_s"] is not None:
                answers.append(Answer(asked, row))
            await asyncio.sleep(0.15)
        if change is not None:
            await change
    ended = {row["id"]: row["at"] for row in await connection.fetch(ENDED)}
    for one in answers:
        one.ended_s = ended[one.job_id]
    await connection.close()
    known = [one for one in answers if changed_s is None or one.row["at"] > changed_s or one.ended_s < changed_s]
    return {"estimates": len(answers), **_figures("all", answers), **_figures("lanes_known", known)}


def _figures(name: str, answers: list[Answer]) -> dict[str, Any]:
    def held(part: int) -> float:
        inside = sum(one.row[f"eta_{part}_low_s"] <= one.took_s <= one.row[f"eta_{part}_high_s"] for one in answers)
        return round(100 * inside / len(answers), 1)

    waiting = [one for one in answers if one.row["place"] is not None]
    return {
        f"{name}_estimates": len(answers),
        f"{name}_median_error_percent": round(100 * median(one.error for one in answers), 1),
        f"{name}_waiting_median_error_percent": round(100 * median(one.error for one in waiting), 1),
        f"{name}_median_ratio": round(median(one.row["eta_s"] / one.took_s for one in answers), 2),
        f"{name}_held_50_percent": held(50),
        f"{name}_held_90_percent": held(90),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    async with ground() as place:
        figures = await measure(place)
    print(json.dumps(figures, indent=None if arguments.json else 1))


if __name__ == "__main__":
    run(main)
