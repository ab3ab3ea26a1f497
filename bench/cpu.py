"""CPU seconds of groups of processes: PostgreSQL's, Redis', and those that do the work."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
import redis

from bench.ground import Ground


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
