"""Jobs with every hostile file, run by real workers: each ends as promised, within memory limits, without leaks.

The jobs are run once with the local engine, and once with a fake Gemini, which examines the requests that it gets.

`python -m bench.hostile` prints the results, and exits with 1 if a promise is broken.
"""
# ruff: noqa: ASYNC240 - reading /proc and a log takes microseconds, and nothing else runs in this loop

import asyncio
import base64
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

from bench.ground import Ground, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.storage.backends import open_storage
from tests.support.builders import balance_of, every_row, job_row, make_image, make_job, make_user, money_violations
from tests.support.fake_gemini.server import FakeGemini
from tests.support.hostile_files import HostileFile, corpus
from tests.support.imaging_pictures import CANARY
from workers.process.supervisor import WorkerProcesses

PROCESSES, LANES = 2, 8
OVER = {"COMPLETED", "FAILED", "REFUNDED", "CANCELLED"}


class Watch:
    """Measures, ten times a second, the memory of the largest worker process."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.children: set[int] = set()
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                try:
                    command = " ".join(process.cmdline())
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except (psutil.Error, OSError):
                    continue
                kind = "pixel child" if "imaging/child.py" in command else "worker" if "dramatiq" in command else ""
                if not kind:
                    continue
                if kind == "pixel child":
                    self.children.add(process.pid)
                peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
                self.peaks[kind] = max(self.peaks.get(kind, 0), peak * 1024)
            await asyncio.sleep(0.1)

    def stop(self) -> None:
        self._task.cancel()


class LookingGemini(FakeGemini):
    """A fake Gemini that searches its requests for canaries (marked texts of the files), and keeps no request."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = self.canaries = 0

    def meet(self, version: str, model: str, request: dict, headers: dict) -> str | None:  # type: ignore[type-arg]
        fault: str | None = super().meet(version, model, request, headers)
        self.calls.clear()
        parts = [part for content in request["contents"] for part in content["parts"]]
        sent = [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]
        self.pictures += len(sent)
        self.canaries += sum(CANARY in data for data in sent)
        self.canaries += CANARY.decode() in json.dumps([part for part in parts if "text" in part])
        return fault


async def submitted(database: Database, storage, file: HostileFile) -> tuple[str, str]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    key = f"users/{user}/originals/{image}.jpg"
    await storage.put(key, file.data, "image/jpeg", hashlib.sha256(file.data).hexdigest())
    return user, await make_job(database, user_id=user, image_id=image)


async def complaint(database: Database, storage, file: HostileFile, user: str, job: str) -> str | None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Return what is wrong with the end of a file's job; None if nothing is."""
    row, balance = await job_row(database, job), await balance_of(database, user)
    if row["status"] == "COMPLETED":
        data = await storage.get(row["key"])
        with Image.open(io.BytesIO(data)) as picture:
            is_clean = picture.format == "JPEG" and not picture.getexif() and CANARY not in data
        is_right = file.end != "refused" and balance == 8 and is_clean
    else:
        is_right = file.end != "accepted" and row["status"] == "REFUNDED" and balance == 10 and row["errorMessage"]
    return None if is_right else f"{file.name}: {row['status']}, balance {balance}, {row['errorMessage']}"


async def run_all(place: Ground, log_path: Path, environment: dict[str, str]) -> list[str]:
    database = Database(parse_postgres_url(place.services.database_url), most_connections=4)
    await database.open()
    storage = open_storage(place.services.storage_url)
    workers = WorkerProcesses(place.settings, place.services, processes=PROCESSES, lanes=LANES)
    workers.environment |= {"LOG_LEVEL": "debug", "LOG_FORMAT": "json"} | environment
    with log_path.open("wb") as log:
        stderr = os.dup(2)
        os.dup2(log.fileno(), 2)  # so that this process's output is written where the workers' is
        try:
            workers.start()
            assert workers.wait_ready(60), "the workers didn't start"
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    before = {row["pid"] for row in await database.fetch("SELECT pid FROM darkroom.workers")}
    watch, files, began = Watch(), corpus(), time.perf_counter()
    jobs = [(file, *await submitted(database, storage, file)) for file in files]
    while await database.fetchval("SELECT count(*) FROM darkroom.job_queue"):  # noqa: ASYNC110 - rows ring nothing
        await asyncio.sleep(0.2)
    took_s = time.perf_counter() - began
    after = {row["pid"] for row in await database.fetch("SELECT pid FROM darkroom.workers")}
    wrong = [found for job in jobs if (found := await complaint(database, storage, *job))]
    watch.stop()
    left = [pid for pid in watch.children if psutil.pid_exists(pid)]
    workers.stop()
    await asyncio.sleep(1)
    still = [pid for pid in watch.children if psutil.pid_exists(pid)]
    tables = await every_row(database)
    searched = f"{sum(map(len, tables.values()))} rows, {len(tables['public.error_logs'])} of them in error_logs"
    rows = {table: [row for row in found if CANARY.decode() in row] for table, found in tables.items()}
    statuses = await database.fetch("SELECT status::text, count(*) FROM public.image_enhancement_jobs GROUP BY 1")
    print(f"{len(files)} files in {took_s:.0f} s: {', '.join(f'{row[0]} {row[1]}' for row in statuses)}")
    for kind, peak in watch.peaks.items():
        print(f"most memory of a {kind}: {peak / 1e6:,.0f} MB")
        wrong += [f"a {kind} had {peak:,} bytes"] if peak >= 1_000_000_000 else []
    print(f"pixel children seen {len(watch.children)}, alive at the end {len(left)}, after the workers {len(still)}")
    wrong += [f"worker lost: {before} became {after}"] if before != after else []
    wrong += ["a pixel child outlived its worker"] if still else []
    wrong += [f"a canary is in {table}" for table, found in rows.items() if found]
    wrong += ["a canary is in the log"] if CANARY in log_path.read_bytes() else []
    wrong += await money_violations(database)
    print(
        f"log of {log_path.stat().st_size:,} bytes at debug, {searched}; {sum(map(len, rows.values()))} with a canary"
    )
    await database.close()
    return wrong


async def main() -> None:
    wrong = []
    with tempfile.TemporaryDirectory() as folder, LookingGemini() as gemini:
        for provider in ("local", "gemini"):
            print(f"PROVIDER={provider}")
            environment = {"PROVIDER": provider, "GEMINI_API_KEY": "a-key", "GEMINI_BASE_URL": gemini.url}
            async with ground() as place:
                wrong += await run_all(place, Path(folder) / f"{provider}.log", environment)
    print(f"{gemini.pictures} pictures left for the provider, {gemini.canaries} with a canary")
    wrong += [f"{gemini.canaries} canaries left for the provider"] if gemini.canaries else []
    wrong += [] if gemini.pictures else ["no picture left for the provider"]
    print("\n".join(wrong) or "every promise held")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
