"""Time of a scheduler's search for jobs without a queue row when many jobs wait: one page of them, and all at once.

.venv/bin/python -m bench.adoption [JOBS, 1000000 by default]
"""

import statistics
import sys
import time

from bench.ground import ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.sweep import Sweep
from models.queue.unqueued import AdoptionTerms, adopt_unqueued_jobs, end_unqueued_jobs

PASSES = 20
TERMS = AdoptionTerms(max_wait_s=86_400, silence_s=630)
WAITING = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT 'w' || n, 'i' || n % 100 + 1, 'u' || n % 100 + 1, 'FREE', 0, 'PENDING',
       darkroom.utc_now() - n * interval '1 ms' * $2::integer
FROM generate_series(1, $1::integer) n
"""
QUEUED = """
INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, position, max_attempts)
SELECT 'enhance', 'w' || n, 'u' || n % 100 + 1, 'FREE', 'default', 'ANALYZING', n, 4
FROM generate_series(1, $1::integer) n
"""


async def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    async with ground() as place:
        connection = await place.connect()
        database = Database(parse_postgres_url(place.services.database_url))
        await database.open()
        for name, spread in (("written one after the other", 1), ("written in one statement", 0)):
            await connection.execute("SET session_replication_role = replica")
            await connection.execute("TRUNCATE public.image_enhancement_jobs CASCADE")
            await connection.execute("TRUNCATE darkroom.job_queue")
            await connection.execute(WAITING, jobs, spread, timeout=600)
            await connection.execute(QUEUED, jobs, timeout=600)
            await connection.execute("VACUUM ANALYZE", timeout=600)
            sweep, pages_s = Sweep(), []
            for _ in range(PASSES):
                began = time.perf_counter()
                page = await sweep.next_page(database)
                assert await adopt_unqueued_jobs(database, TERMS, page) == (0, 0)
                assert await end_unqueued_jobs(database, TERMS, page) == 0
                pages_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
            assert await end_unqueued_jobs(database, TERMS) == 0
            whole_s = time.perf_counter() - began
            print(
                f"{jobs:,} jobs wait, {name}: a page {statistics.median(pages_s) * 1000:.0f} ms (median of {PASSES}, "
                f"longest {max(pages_s) * 1000:.0f}), all of them {whole_s:.1f} s",
                flush=True,
            )
        await database.close()


if __name__ == "__main__":
    run(main)
