"""What the rows, commits and files of a drain of `generate` cost without Darkroom's code.

Bare asyncpg takes the waiting jobs group by group, on one connection and without triggers, guards, fences, limits,
log or asyncio tasks: one statement and one commit for each thing that has to be durable before the next (the claim, the
intents of calls, their ends, the records of objects, the pictures' records, the ends of jobs), over the same tables
with their indexes. Each picture is one file, written as `FileStorage` does: synced, renamed, its folder synced. So no
code that makes these things durable in groups of this size takes less CPU a job; Darkroom's own is `bench.job_types`.

    .venv/bin/python -m bench.floor [--json] [--rounds 5] [--jobs 4000] [--group 10]
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.drains import GENERATED, emptied
from bench.figures import Figures, machine, median, options, show
from bench.ground import Ground, ground, run
from bench.instant_worker import PICTURE
from pipelines.storage.file import MAX_THREADS

FOLDERS = 100

STEPS = {
    "claim": """
        WITH q AS (
            UPDATE darkroom.job_queue SET status = 'processing', ready = false, attempts = 1, started_at = now(),
                worker_id = gen_random_uuid(), lease_token = gen_random_uuid(), deadline_at = now()
            WHERE job_id = ANY ($1::text[])),
        j AS (
            UPDATE public.mcp_generation_jobs SET status = 'PROCESSING', "updatedAt" = now() WHERE id = ANY ($1))
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt)
        SELECT 'GENERATE', id, 'claimed', 'GENERATING', 1 FROM unnest($1) id""",
    "intent": """
        INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid,
            payer, quoted_usd, quoted_images, started_at, input_hash)
        SELECT 'GENERATE', id, id, 1, 'scripted', 'scripted-1', 'generate', true, id, 0.25, 1, now(), repeat('0', 64)
        FROM unnest($1::text[]) id""",
    "end of call": """
        UPDATE darkroom.provider_calls SET outcome = 'answered', latency_ms = 1, images = 1, cost_usd = 0.25,
            finished_at = now() WHERE job_id = ANY ($1::text[])""",
    "object": """
        INSERT INTO darkroom.objects (key, job_type, job_id, sha256, size_bytes)
        SELECT 'mcp-generated/' || id, 'GENERATE', id, repeat('0', 64), 600 FROM unnest($1::text[]) id""",
    "picture": """
        INSERT INTO darkroom.artifacts (job_type, job_id, user_id, input_hash, key, sha256, bytes, width, height, model,
            temperature)
        SELECT 'GENERATE', id, id, repeat('0', 64), 'mcp-generated/' || id, repeat('0', 64), 600, 64, 64, 'scripted-1',
            0.4 FROM unnest($1::text[]) id""",
    "end of job": """
        WITH q AS (DELETE FROM darkroom.job_queue WHERE job_id = ANY ($1::text[])),
        j AS (
            UPDATE public.mcp_generation_jobs SET status = 'COMPLETED', "outputImageUrl" = 'mcp-generated/' || id,
                "processingCompletedAt" = now(), "updatedAt" = now() WHERE id = ANY ($1))
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, duration_ms)
        SELECT 'GENERATE', id, 'finished', 'GENERATING', 1, 1 FROM unnest($1) id""",
}


def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file as FileStorage does, without its checks."""
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(f"~{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=within)
    os.write(file, data)
    os.fsync(file)
    os.close(file)
    os.rename(f"~{name}", name, src_dir_fd=within, dst_dir_fd=within)
    os.fsync(within)
    os.close(within)


def files(folder: Path, ids: Sequence[str]) -> float:
    """Write a file for each job; return the CPU seconds."""
    folders = [folder / f"u{number}" for number in range(FOLDERS)]
    for one in folders:
        one.mkdir(parents=True)
    before_s = time.process_time()
    with ThreadPoolExecutor(MAX_THREADS) as threads:
        places = [folders[number % FOLDERS] for number in range(len(ids))]
        list(threads.map(write, places, ids, [PICTURE.data] * len(ids)))
    return time.process_time() - before_s


async def rows(place: Ground, ids: Sequence[str], size: int) -> dict[str, float]:
    """Take jobs through all steps, group by group; return the CPU seconds of each step."""
    connection = await place.connect()
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    server = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))

    def spent_s() -> float:
        times = server.cpu_times()
        return time.process_time() + times.user + times.system

    groups = [ids[first : first + size] for first in range(0, len(ids), size)]
    seconds = {}
    for step, statement in STEPS.items():  # all groups of one step: the clock of a process has ticks of 10 ms
        before_s = spent_s()
        for group in groups:
            await connection.execute(statement, group)
        seconds[step] = spent_s() - before_s
    await connection.close()
    return seconds


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=4_000, help="jobs of each round")
    parser.add_argument("--group", type=int, default=10, help="jobs of each statement")
    arguments = parser.parse_args()
    steps: dict[str, list[float]] = {name: [] for name in (*STEPS, "file")}
    async with ground() as place:
        for number in range(arguments.rounds):
            await emptied(place)
            connection = await place.connect()
            await connection.execute(GENERATED.insert, f"f{number}x", arguments.jobs, *GENERATED.more)
            await connection.close()
            ids = [f"f{number}x{n}" for n in range(1, arguments.jobs + 1)]
            seconds = await rows(place, ids, arguments.group)
            seconds["file"] = files(place.settings.home / "floor" / str(number), ids)
            for name, spent in seconds.items():
                steps[name].append(spent / arguments.jobs * 1e6)
    figures: Figures = {"benchmark": "floor", "rounds": arguments.rounds, "jobs": arguments.jobs}
    figures |= {"group": arguments.group} | {
        f"{name} us".replace(" ", "_"): median(each) for name, each in steps.items()
    }
    figures["all_us"] = round(sum(median(each) for each in steps.values()), 3)
    show(figures | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
