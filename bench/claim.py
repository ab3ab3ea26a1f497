"""Claims, writes and reads of claimed jobs beside many waiting and finished jobs: time, and CPU time of PostgreSQL.

Prints, for each number of waiting jobs, percentiles of a claim of 16, and the CPU time of the session's process for
claiming a job, and for three checkpoints and completion. The plans are made while the queue is empty. To compare two
working trees, run it in each of them in turn.

    .venv/bin/python -m bench.claim [WAITING ... = 1000 1000000] [--finished 10000000] [--analyze no]
"""

import argparse
import time
from functools import partial
from uuid import UUID, uuid4

import psutil

from bench.ground import Ground, ground, percentiles, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.claims import Claim, claim
from models.queue.leases import renew_lease
from models.queue.transitions import Checkpoint, Completed, record

AT_ONCE = 16
CLAIMS = 200
WRITTEN = 400
DEADLINES_S = {"ANALYZING": 600.0}
ROWS = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, 'i' || n % 100 + 1, 'u' || n % 100 + 1, 'FREE', 0, $2::text::public."JobStatus", darkroom.utc_now()
FROM generate_series(1, $3::integer) n
"""
QUEUED = """
INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, position, max_attempts)
SELECT 'enhance', $1 || n, 'u' || n % 100 + 1, 'FREE', 'default', 'ANALYZING', n, 4
FROM generate_series(1, $2::integer) n
"""
STEPS = (
    Checkpoint("ANALYZING", "CROPPING", 600, 1, {"analysisResult": {"a": 1}}),
    Checkpoint("CROPPING", "PROMPTING", 600, 1, {"cropDimensions": {"x": 1}}),
    Checkpoint("PROMPTING", "GENERATING", 600, 1, {"geminiPrompt": "x"}),
    Completed("GENERATING", 1, {"enhancedR2Key": "x", "enhancedUrl": "x"}),
)
BATCH = 1_000_000


async def fill(place: Ground, name: str, status: str, count: int, *, is_queued: bool) -> None:
    """Insert jobs without triggers, as a restore does."""
    connection = await place.connect()
    await connection.execute("SET session_replication_role = replica")
    for begun in range(0, count, BATCH):
        part = min(BATCH, count - begun)
        await connection.execute(ROWS, f"{name}{begun}x", status, part, timeout=1200)
        if is_queued:
            await connection.execute(QUEUED, f"{name}{begun}x", part, timeout=1200)
    await connection.close()


async def cpu_us(database: Database) -> float:
    """Return the CPU time that the only session of a pool has used, in microseconds."""
    times = psutil.Process(await database.fetchval("SELECT pg_backend_pid()")).cpu_times()
    return (times.user + times.system) * 1e6


async def claim_some(database: Database, worker: UUID) -> list[Claim]:
    return await database.run(lambda connection: claim(connection, worker, "default", AT_ONCE, DEADLINES_S))


async def measure(place: Ground, waiting: int, finished: int, *, analyzes: bool) -> None:
    try:
        database = Database(parse_postgres_url(place.services.database_url), most_connections=1, keeps_plans=True)
    except TypeError:  # an older tree
        database = Database(parse_postgres_url(place.services.database_url), most_connections=1)
    await database.open()
    connection = await place.connect()
    worker = uuid4()
    lease = partial(
        renew_lease, worker_id=worker, host="bench", pid=1, queues=["default"], lanes=AT_ONCE, lease_s=3_600
    )
    await database.run(lease)
    await connection.execute("TRUNCATE darkroom.job_queue")
    await connection.execute("VACUUM ANALYZE darkroom.job_queue")
    for _ in range(10):  # the plans are made, and kept, while the queue is empty
        assert await claim_some(database, worker) == []
    await fill(place, f"w{waiting}y", "PENDING", waiting, is_queued=True)
    if analyzes:
        await connection.execute("VACUUM ANALYZE", timeout=1200)
    took_s, claims = [], []
    before = await cpu_us(database)
    for _ in range(min(CLAIMS, waiting // AT_ONCE)):
        began = time.perf_counter()
        claims += await claim_some(database, worker)
        took_s.append((time.perf_counter() - began) * 1000)
    claimed_us = (await cpu_us(database) - before) / len(claims)
    before = await cpu_us(database)
    for one in claims[:WRITTEN]:
        for step in STEPS:
            await database.run(lambda connection, one=one, step=step: record(connection, one, step))
    written_us = (await cpu_us(database) - before) / len(claims[:WRITTEN])
    print(percentiles(f"{waiting:,} waiting, {finished:,} finished: claim of {AT_ONCE}", took_s, "ms"))
    print(
        f"    PostgreSQL's CPU a job: claim {claimed_us:.0f} us, all checkpoints and completion {written_us:.0f} us",
        flush=True,
    )
    await connection.close()
    await database.close()


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("waiting", nargs="*", type=int, default=[1_000, 1_000_000])
    arguments.add_argument("--finished", type=int, default=0)
    arguments.add_argument("--analyze", choices=("yes", "no"), default="yes")
    given = arguments.parse_args()
    async with ground() as place:
        if given.finished:
            await fill(place, "f", "COMPLETED", given.finished, is_queued=False)
        for waiting in given.waiting:
            await measure(place, waiting, given.finished, analyzes=given.analyze == "yes")


if __name__ == "__main__":
    run(main)
