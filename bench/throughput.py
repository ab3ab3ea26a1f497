"""Throughput of no-op jobs of four stages with two worker processes, and of raw asyncpg with the same writes.

Raw means: claim, four checkpoints and completion as plain single-row UPDATEs of the job row by id, without queue,
fence, ledger, history or notification. No system that commits each step of a job can usually be faster.

    .venv/bin/python -m bench.throughput
"""

import asyncio
import time

from bench.ground import JOBS, Ground, ground, run

JOB_COUNT = 3_000
PROCESSES = 2
ROUNDS = 3
LANES = 16

STEPS = (
    """SET status = 'PROCESSING', "currentStage" = 'ANALYZING', "processingStartedAt" = darkroom.utc_now()""",
    """SET "currentStage" = 'CROPPING', "analysisResult" = '{"a": 1}'""",
    """SET "currentStage" = 'PROMPTING', "cropDimensions" = '{"x": 1}'""",
    """SET "currentStage" = 'GENERATING', "geminiPrompt" = 'x'""",
    """SET "enhancedR2Key" = 'x', "enhancedUrl" = 'x'""",
    """SET status = 'COMPLETED', "currentStage" = NULL, "processingCompletedAt" = darkroom.utc_now()""",
)


async def raw(place: Ground) -> float:
    connections = [await place.connect() for _ in range(PROCESSES * LANES)]
    await connections[0].execute("SET session_replication_role = replica")
    await connections[0].execute(JOBS, "raw", JOB_COUNT)
    for connection in connections:
        await connection.execute("SET session_replication_role = replica")
    left = iter(range(1, JOB_COUNT + 1))

    async def lane(connection) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        for number in left:
            for step in STEPS:
                await connection.execute(f"UPDATE public.image_enhancement_jobs {step} WHERE id = $1", f"raw{number}")

    began = time.perf_counter()
    await asyncio.gather(*map(lane, connections))
    took = time.perf_counter() - began
    for connection in connections:
        await connection.close()
    return JOB_COUNT / took


async def ours(place: Ground, name: str) -> float:
    connection = await place.connect()
    with place.workers(PROCESSES, lanes=LANES):
        await connection.execute(JOBS, name, JOB_COUNT)
        began = time.perf_counter()
        while await connection.fetchval("SELECT count(*) FROM darkroom.job_queue"):  # noqa: ASYNC110 - rows ring nothing
            await asyncio.sleep(0.1)
        took = time.perf_counter() - began
    done = await connection.fetchval(
        "SELECT count(*) FROM public.image_enhancement_jobs WHERE starts_with(id, $1) AND status = 'COMPLETED'", name
    )
    assert done == JOB_COUNT, f"{done} of {JOB_COUNT} completed"
    return JOB_COUNT / took


async def main() -> None:
    async with ground() as place:
        for number in range(ROUNDS):
            plain = await raw(place)
            darkroom = await ours(place, f"ours{number}x")
            connection = await place.connect()
            await connection.execute("DELETE FROM public.image_enhancement_jobs")
            await connection.close()
            print(f"raw {plain:,.0f} jobs/s   darkroom {darkroom:,.0f} jobs/s   {darkroom / plain:.0%} of raw")


if __name__ == "__main__":
    run(main)
