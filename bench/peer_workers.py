"""Workers of other systems: start them, queue jobs while they are stopped, and let them drain."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from bench.drains import ENHANCEMENTS, Drain, Measurement, insert_rows
from bench.figures import versions
from bench.ground import ROOT, Ground
from bench.peers.commands import Peer

PEER_PYTHON = ROOT / ".venv-bench/bin/python"
READY_S = 60
WARM_UP = "w"


async def peer(
    measurement: Measurement,
    one: Peer,
    name: str,
    count: int,
    folder: Path,
    variables: Mapping[str, str] | None = None,
) -> Drain:
    """Start a peer's workers, let them do one job, stop them while all jobs are queued, and drain.

    Args:
        measurement: of this run.
        one: the peer.
        name: the prefix of the jobs' ids.
        count: how many jobs there are.
        folder: where the workers' output goes.
        variables: environment variables of the workers and of what queues the jobs.
    """
    place = measurement.place
    assert PEER_PYTHON.exists(), "run `make .venv-bench/.ready`, which installs the systems to compare with"
    environment = os.environ | {
        "DATABASE_URL": place.services.database_url,
        "REDIS_URL": place.services.redis_url,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        **(variables or {}),
    }
    await insert_rows(place, f"{WARM_UP}{name}", 1)
    await insert_rows(place, name, count)

    def queue(prefix: str, jobs: int) -> None:
        command = [PEER_PYTHON, "-m", "bench.peers.queue_jobs", one.module, prefix, str(jobs)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    queue(f"{WARM_UP}{name}", 1)
    with (folder / f"{one.module}.log").open("a") as log:
        processes = [_started(one.command, environment, log) for _ in range(one.copies)]
        try:
            await _done(place, f"{WARM_UP}{name}", 1)
            await asyncio.sleep(2)  # until the other processes of the same command are started, too
            workers = [process.pid for process in processes]
            _signal(workers, signal.SIGSTOP)
            await asyncio.to_thread(queue, name, count)

            async def start() -> None:
                _signal(workers, signal.SIGCONT)

            return await measurement.drained(name, count, workers, start=start)
        finally:
            for process in processes:
                _signal([process.pid], signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # its session is its own
                    process.wait()


def _started(command: Sequence[str], environment: Mapping[str, str], log: IO[str]) -> "subprocess.Popen[bytes]":
    program, *arguments = command
    return subprocess.Popen(
        [PEER_PYTHON.with_name(program), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _signal(roots: list[int], number: int) -> None:
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)


async def _done(place: Ground, prefix: str, count: int) -> None:
    connection = await place.connect()
    until_s = time.monotonic() + READY_S
    while await connection.fetchval(f"SELECT jobs FROM ({ENHANCEMENTS.done}) done", prefix) < count:
        assert time.monotonic() < until_s, "the workers did no job within a minute"
        await asyncio.sleep(0.1)
    await connection.close()


def peer_versions() -> dict[str, str]:
    """Return the versions of the drivers and of the systems in the other environment, if it is there."""
    own = versions("asyncpg", "dramatiq", "redis", "sqlalchemy")
    if not PEER_PYTHON.exists():
        return own
    names = ("celery", "saq", "taskiq", "taskiq-redis", "procrastinate", "dramatiq", "sqlalchemy", "psycopg", "uvloop")
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    return own | json.loads(subprocess.run([PEER_PYTHON, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
