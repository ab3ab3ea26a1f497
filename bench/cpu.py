"""CPU seconds of groups of processes: PostgreSQL's, Redis', and those that do the work."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
import redis

from bench.ground import Ground

LOOK_S = 1.0
MOST_LOOKS = 60
IDLE_FRACTION = 0.1
"""Two workers that wait for jobs take a few percent of a core."""


def tree_s(roots: Iterable[int]) -> float:
    """Return the CPU seconds, user and system, of processes and all their descendants, ended and reaped ones too."""
    total_s = 0.0
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


async def until_idle(roots: Sequence[int]) -> None:
    """Wait until processes have started all that they start ahead of work, as workers start their pixel children."""
    before_s = tree_s(roots)
    for _ in range(MOST_LOOKS):
        await asyncio.sleep(LOOK_S)
        now_s = tree_s(roots)
        if now_s - before_s < IDLE_FRACTION * LOOK_S:
            return
        before_s = now_s
    raise TimeoutError("the processes don't come to rest")


def own_s() -> float:
    """Return the CPU seconds of this process without its main thread: those of a supervisor of workers.

    The main thread is the benchmark, which looks for finished rows.
    """
    return time.process_time() - time.thread_time()


@dataclass(frozen=True, slots=True)
class Servers:
    """The process ids of PostgreSQL's postmaster and of Redis."""

    postgres: int
    redis: int

    @classmethod
    async def of(cls, place: Ground) -> "Servers":
        connection = await place.connect()
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        parent = psutil.Process(backend).parent()
        await connection.close()
        assert parent is not None, "PostgreSQL's backend has no parent"
        assert urlsplit(place.services.redis_url).scheme, "Redis has no URL"
        return cls(parent.pid, int(redis.Redis.from_url(place.services.redis_url).info()["process_id"]))

    def read_s(self, workers: Iterable[int]) -> dict[str, float]:
        """Return the CPU seconds until now of PostgreSQL, Redis and the given processes, with their descendants."""
        return {"postgres": tree_s([self.postgres]), "redis": tree_s([self.redis]), "workers": tree_s(workers)}
