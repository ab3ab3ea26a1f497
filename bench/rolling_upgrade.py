"""`db upgrade` of this checkout, three times, while workers, a scheduler and a producer of an earlier commit run.

The earlier commit creates the database and starts its processes (two workers whose stages do nothing, or fail);
producers with a role of their own insert, submit and cancel throughout. Goal: no error in any log, no failed statement
of a producer, no lost job.

    .venv/bin/python -m bench.rolling_upgrade [COMMIT]

COMMIT must be one whose stages have a StageName. From c4acb30 on, a commit needs another worker for this benchmark
than earlier ones.
"""

import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import asyncpg

from bench.ground import ROOT, until
from config.tiers import PRICES_TOKENS
from models.schema.migrate import check, upgrade

COMMIT = sys.argv[1] if len(sys.argv) > 1 else "7c77644"
UPGRADES_AT_S: Final = (4.0, 8.0, 12.0)
LOAD_S: Final = 16.0
PRODUCERS: Final = 3

WORKER: Final = """
import random
from bench import noop_worker
from pipelines.errors import PermanentError

async def result_or_failure(context):
    if random.random() < 0.25:
        raise PermanentError("no such picture")
    return noop_worker.RESULT

noop_worker.STAGES = (*noop_worker.STAGES[:-1], type(noop_worker.STAGES[-1])(noop_worker.StageName.GENERATING,
                                                                             result_or_failure))

def main():
    noop_worker.main()
"""

OLD_SIDE: Final = """
import asyncio, json, sys
from bench.ground import NoopWorkers, ground

class Workers(NoopWorkers):
    ENTRY_POINT = "bench.rolling_worker:main"

async def main():
    async with ground() as place:
        connection = await place.connect()
        await connection.execute('''CREATE ROLE producer LOGIN;
            GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO producer;
            SELECT darkroom.grant_to('producer')''')
        with place.workers(2, lanes=4, kind=Workers), place.scheduler():
            print(json.dumps(place.services.database_url), flush=True)
            await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""

SUBMIT: Final = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => $3)"
DRAW: Final = "SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_1K', 'a cat')"
INSERT: Final = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
VALUES ($1, $2, $3, 'TIER_1K', 2, 'PENDING', now() AT TIME ZONE 'utc')
"""
CANCEL: Final = "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1"
UNFINISHED: Final = """
SELECT (SELECT count(*) FROM public.image_enhancement_jobs WHERE status IN ('PENDING', 'PROCESSING'))
     + (SELECT count(*) FROM public.mcp_generation_jobs WHERE status IN ('PENDING', 'PROCESSING'))
"""


def old_tree(folder: Path) -> Path:
    """Unpack the earlier commit, with the worker of this benchmark in it."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    (folder / "bench/rolling_worker.py").write_text(WORKER)
    return folder


async def produce(database_url: str, name: str, jobs: set[str], *, until_s: float) -> None:
    """Insert, submit and cancel on one connection until a given time; every statement has to succeed."""
    connection = await asyncpg.connect(database_url, user="producer")
    number = 0
    while asyncio.get_running_loop().time() < until_s:
        number += 1
        owner, key = f"u{random.randint(1, 100)}", f"{name}x{number}"
        image = owner.replace("u", "i")
        way = random.random()
        if way < 0.4:
            await connection.execute(INSERT, key, image, owner)
            jobs.add(key)
            if way < 0.08:
                await connection.execute(CANCEL, key)
        elif way < 0.7:
            jobs.add(await connection.fetchval(SUBMIT, owner, image, key))
        else:
            job = await connection.fetchval(DRAW, owner)
            jobs.add(job)
            if way > 0.95:
                await connection.fetchval("SELECT darkroom.cancel_job($1)", job)
        await asyncio.sleep(0.02)
    await connection.close()


async def upgrade_three_times(database_url: str) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for at_s in UPGRADES_AT_S:
        await asyncio.sleep(max(0.0, began_s + at_s - loop.time()))
        upgraded_s = loop.time()
        result = await upgrade(database_url, prices=PRICES_TOKENS)
        took_s = loop.time() - upgraded_s
        print(f"upgrade in {took_s:.1f} s: {len(result.applied)} revisions, {len(result.replaced)} objects", flush=True)


async def run_beside(database_url: str) -> None:
    """Submit jobs and upgrade while the earlier commit's processes run, and compare the rows at the end."""
    jobs: set[str] = set()
    until_s = asyncio.get_running_loop().time() + LOAD_S
    producers = (produce(database_url, f"p{number}", jobs, until_s=until_s) for number in range(PRODUCERS))
    await asyncio.gather(upgrade_three_times(database_url), *producers)
    connection = await asyncpg.connect(database_url)

    async def is_over() -> bool:
        return await connection.fetchval(UNFINISHED) == 0

    await until(is_over, "the queue", within_s=180)
    there = {row[0] for row in await connection.fetch("SELECT id FROM darkroom.jobs")}
    ends = dict(await connection.fetch("SELECT status, count(*) FROM darkroom.jobs GROUP BY 1 ORDER BY 1"))
    violations = await connection.fetch("SELECT * FROM darkroom.money_violations")
    refused = await connection.fetchval("SELECT count(*) FROM darkroom.refused_ends")
    print(f"{len(jobs)} jobs, lost {len(jobs - there)}; ends {ends}; refused ends {refused}")
    assert jobs == there
    assert not violations, violations
    assert not refused
    problems = [problem for problem in await check(database_url) if problem.is_reason_to_wait]
    assert not problems, problems
    await connection.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="dkr", dir="/tmp") as folder:
        tree = old_tree(Path(folder) / "old")
        log_path = Path(folder) / "log"
        environment = os.environ | {"PYTHONPATH": str(tree), "LOG_FORMAT": "json"}
        with log_path.open("wb") as log:
            old = subprocess.Popen(
                [sys.executable, "-c", OLD_SIDE],
                cwd=tree,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                assert old.stdout is not None
                # Earlier lines have another form: structlog prints them before it is configured
                url = next((line for line in old.stdout if line.startswith('"')), None)
                assert url, log_path.read_text()
                asyncio.run(run_beside(json.loads(url)))
            finally:
                old.communicate("\n", timeout=60)
        lines = log_path.read_text(errors="replace").splitlines()
        wrong = [line for line in lines if '"level": "error"' in line or "critical" in line or "Traceback" in line]
        print(f"{len(lines)} lines in the logs of {COMMIT}, {len(wrong)} of them errors")
        for line in wrong[:20]:
            print(line)
        assert not wrong
        assert old.returncode == 0, old.returncode


if __name__ == "__main__":
    main()
