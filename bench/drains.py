"""Drains: jobs wait, Darkroom or raw asyncpg does them, and jobs a second and the CPU of all processes are measured."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.cpu import Servers, own_s, until_idle
from bench.ground import GENERATIONS, JOBS, ROOT, Ground, NoopWorkers
from workers.process.supervisor import WorkerProcesses

PROCESSES = 2
CLIENTS = (1, 2)
CONNECTIONS = 32
DRAIN_S = 600


@dataclass(frozen=True, slots=True)
class Table:
    """A job table: its name, the statement that inserts jobs, and what is true of the row of a job that was done."""

    name: str
    insert: str
    is_done: str
    more: tuple[str, ...] = ()

    @property
    def done(self) -> str:
        """Return the query of how many jobs are done or refunded, and when the last one ended."""
        return f"""
            SELECT count(*) AS jobs, max(coalesce("processingCompletedAt", "updatedAt")) AS ended
            FROM public.{self.name} WHERE starts_with(id, $1)
              AND (status = 'REFUNDED' OR "processingCompletedAt" IS NOT NULL AND {self.is_done})"""


ENHANCEMENTS = Table("image_enhancement_jobs", JOBS, """ "enhancedUrl" IS NOT NULL AND "geminiPrompt" IS NOT NULL """)
GENERATED = Table("mcp_generation_jobs", GENERATIONS, """ "outputImageUrl" IS NOT NULL """, more=("a prompt",))


@dataclass(frozen=True, slots=True)
class Drain:
    """One system's run: jobs a second, and the CPU microseconds a job of each group of processes."""

    jobs_per_s: float
    cpu_us: dict[str, float]

    @property
    def cpu_us_per_job(self) -> float:
        return sum(self.cpu_us.values())


class Measurement:
    """Times one drain, and the CPU of all processes during it."""

    def __init__(self, place: Ground, servers: Servers) -> None:
        self.place = place
        self._servers = servers

    async def drained(
        self,
        prefix: str,
        count: int,
        workers: Sequence[int],
        *,
        start: Callable[[], Awaitable[None]],
        table: Table = ENHANCEMENTS,
        own: bool = False,
    ) -> Drain:
        """Call `start`, wait until all rows are done, and return the figures.

        Args:
            prefix: of the jobs' ids.
            count: how many jobs there are.
            workers: the process ids of the workers or clients; their descendants are counted, too.
            start: makes the jobs available.
            table: of the jobs.
            own: count this process's CPU, too, as that of the workers' supervisor.
        """
        connection = await self.place.connect()
        try:
            await start()
            before_s, own_before_s = self._servers.read_s(workers), own_s()
            began = await connection.fetchval("SELECT darkroom.utc_now()")
            began_s = time.monotonic()
            while (row := await connection.fetchrow(table.done, prefix))["jobs"] < count:
                spent_s = time.monotonic() - began_s
                assert spent_s < DRAIN_S, f"{row['jobs']} of {count} jobs were done within {DRAIN_S} s"
                await asyncio.sleep(_pause_s(spent_s, row["jobs"] / count))
            after_s = self._servers.read_s(workers)
            if own:
                after_s["workers"] += own_s() - own_before_s
        finally:
            await connection.close()
        took_s = (row["ended"] - began).total_seconds()
        return Drain(count / took_s, {name: (after_s[name] - before_s[name]) / count * 1e6 for name in after_s})


def _pause_s(spent_s: float, done_fraction: float) -> float:
    """Return how long to wait before the next look, which reads the whole table: half of the time that is left."""
    left_s = spent_s / done_fraction - spent_s if done_fraction else 1.0
    return min(5.0, max(0.1, left_s / 2))


@contextmanager
def settings_that_ship(folder: Path) -> Iterator[None]:
    """Let workers started in this context log at level info, as JSON, into a file."""
    given = {"LOG_LEVEL": "info", "LOG_FORMAT": "json"}
    saved = {name: os.environ.pop(name, None) for name in given}
    with (folder / "workers.log").open("a") as file, contextlib.redirect_stderr(file):
        os.environ |= given
        try:
            yield
        finally:
            for name, value in saved.items():
                os.environ.pop(name)
                os.environ |= {} if value is None else {name: value}


async def darkroom(
    measurement: Measurement,
    name: str,
    count: int,
    folder: Path,
    *,
    table: Table = ENHANCEMENTS,
    kind: type[WorkerProcesses] = NoopWorkers,
    environment: Mapping[str, str] | None = None,
    refunded: range = range(1),
    parts: Callable[[list[int]], float] | None = None,
) -> Drain:
    """Drain by Darkroom's workers, and check rows, money and history afterwards.

    Args:
        measurement: of this run.
        name: the prefix of the jobs' ids.
        count: how many jobs there are.
        folder: where the workers' log lines go.
        table: of the jobs.
        kind: the workers.
        environment: settings of the workers, beside those that ship.
        refunded: how many jobs may be refunded.
        parts: returns the CPU seconds of the workers' pixel children, which are then shown apart as "children".
    """
    place = measurement.place
    connection = await place.connect()
    with settings_that_ship(folder), place.workers(PROCESSES, kind=kind, environment=environment) as workers:
        await until_idle(workers.pids)
        apart_s = []

        async def start() -> None:
            await connection.execute(table.insert, name, count, *table.more)
            apart_s.append(parts(workers.pids) if parts else 0.0)

        drain = await measurement.drained(name, count, workers.pids, start=start, table=table, own=True)
        if parts:
            children_us = (parts(workers.pids) - apart_s[0]) / count * 1e6
            drain.cpu_us["children"] = children_us
            drain.cpu_us["workers"] -= children_us
    for what, query in (
        ("unfinished jobs", "SELECT count(*) FROM darkroom.job_queue"),
        ("wrong balances", "SELECT count(*) FROM darkroom.money_violations"),
    ):
        assert not await connection.fetchval(query), f"there are {what} after the drain"
    lost = await connection.fetchval(
        f"SELECT count(*) FROM public.{table.name} WHERE starts_with(id, $1) AND status = 'REFUNDED'", name
    )
    assert lost in refunded, f"{lost} jobs were refunded, expected {refunded}"
    history = await connection.fetchval(
        "SELECT count(DISTINCT job_id) FROM darkroom.stage_runs WHERE starts_with(job_id, $1)", name
    )
    assert history == count, f"{history} of {count} jobs have a history"
    await connection.close()
    return drain


async def raw(measurement: Measurement, name: str, count: int, clients: int, table: Table = ENHANCEMENTS) -> Drain:
    """Drain by single-row updates of one or two client processes."""
    await insert_rows(measurement.place, name, count, table)
    share = count // clients
    database_url = measurement.place.services.database_url
    processes = []
    for number in range(clients):
        last = count if number == clients - 1 else (number + 1) * share
        arguments = (name, str(number * share + 1), str(last), str(CONNECTIONS // clients), table.name)
        processes.append(_client(arguments, database_url))
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

        async def start() -> None:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()

        return await measurement.drained(name, count, [one.pid for one in processes], start=start, table=table)
    finally:
        for process in processes:
            process.communicate()


def _client(arguments: Sequence[str], database_url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench.peers.raw_client", *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def fastest_raw(measurement: Measurement, name: str, count: int, table: Table = ENHANCEMENTS) -> Drain:
    """Drain by one client process, then by two, and return the faster one's figures."""
    drains = []
    for clients in CLIENTS:
        await emptied(measurement.place)
        drains.append(await raw(measurement, f"{name}{clients}x", count, clients, table))
    return max(drains, key=lambda one: one.jobs_per_s)


async def insert_rows(place: Ground, prefix: str, count: int, table: Table = ENHANCEMENTS) -> None:
    """Insert rows that Darkroom's triggers don't see."""
    connection = await place.connect()
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(table.insert, prefix, count, *table.more)
    await connection.close()


async def emptied(place: Ground) -> None:
    """Remove all jobs and what belongs to them, so that each drain begins with the same tables."""
    connection = await place.connect()
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "TRUNCATE public.image_enhancement_jobs, public.mcp_generation_jobs, darkroom.job_queue, darkroom.stage_runs, "
        "darkroom.artifacts CASCADE"
    )
    await connection.execute("CHECKPOINT")
    await connection.close()
    redis.Redis.from_url(place.services.redis_url).flushall()
