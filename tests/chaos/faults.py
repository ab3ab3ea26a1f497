"""The faults of a run: each is one method, and is recorded in the book."""

import asyncio
import contextlib
import json
import os
import signal
import time

import asyncpg
import redis

from tests.chaos.book import Book, Injected
from tests.chaos.fleet import Fleet, Started
from tests.chaos.plan import Fault
from tests.chaos.programs import GONE
from tests.support.patience import HANGS_AFTER_S, slowness

PAST_THE_LEASE_S = 3.0
"""How much longer than its lease a worker is stopped, at least; up to twice that."""

VICTIM_S = 10.0
"""How long to look for a worker that can be hit, on an idle machine; after many kills all may be starting."""

CLOCK_STEPS_S = (-86_400, -3_600, -120, 120, 3_600, 86_400)


class Faults:
    """Makes faults on a fleet. What lasts goes on in a task; restarts of a service wait for each other."""

    def __init__(self, fleet: Fleet, book: Book):
        self._fleet, self._book = fleet, book
        self._tasks: set[asyncio.Task] = set()
        self._control: dict[str, object] = {}
        self._services = asyncio.Lock()

    async def follow(self, faults: list[Fault], began_s: float) -> None:
        """Make every fault at its time; return when the last has begun."""
        for fault in faults:
            await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
            task = asyncio.create_task(getattr(self, f"_{fault.kind}")(fault.choice), name=fault.kind)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait until every fault is over."""
        if self._tasks:
            await asyncio.gather(*self._tasks)

    def _write(self, kind: str, at_s: float, worker_id: str | None = None, **more) -> None:
        self._book.injected.append(Injected(kind, at_s, time.time(), worker_id, **more))

    async def _victim(self, choice: float) -> tuple[int, str] | None:
        until_s = time.monotonic() + VICTIM_S * slowness()
        while not (live := self._fleet.live_workers()):
            if time.monotonic() > until_s:
                self._book.seen["faults without a victim"] += 1
                return None
            await asyncio.sleep(0.2)
        return live[int(choice * len(live))]

    async def _kill(self, choice: float) -> None:
        if victim := await self._victim(choice):
            pid, worker_id = victim
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._write("kill", time.time(), worker_id)

    async def _zombie(self, choice: float) -> None:
        if not (victim := await self._victim(choice)):
            return
        pid, worker_id = victim
        at_s = time.time()
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return
        self._fleet.stopped[pid] = worker_id
        self._write("zombie", at_s, worker_id)  # at once: its jobs are rescued long before it goes on
        try:
            await asyncio.sleep(self._fleet.options.lease_s + PAST_THE_LEASE_S * (1 + choice))
        finally:
            del self._fleet.stopped[pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _supervisor(self, choice: float) -> Started:
        return self._fleet.supervisors[int(choice * len(self._fleet.supervisors))]

    async def _lost_machine(self, choice: float) -> None:
        """Kill a supervisor with all that is below it: nobody hears of it, and only leases tell."""
        supervisor = self._supervisor(choice)
        pids, at_s = supervisor.pids(), time.time()
        for process in supervisor.family():
            with contextlib.suppress(Exception):
                process.kill()
        supervisor.popen.wait(HANGS_AFTER_S)
        self._fleet.supervisors.remove(supervisor)
        self._write("lost_machine", at_s, pids=pids)
        self._fleet.start_supervisor()

    async def _lost_supervisor(self, choice: float) -> None:
        """Kill a supervisor alone: its processes notice, and end in order."""
        supervisor = self._supervisor(choice)
        pids, at_s = supervisor.pids(), time.time()
        supervisor.popen.kill()
        supervisor.popen.wait(HANGS_AFTER_S)
        self._fleet.supervisors.remove(supervisor)
        self._write("lost_supervisor", at_s, pids=pids)
        self._fleet.start_supervisor()

    async def _deploy(self, choice: float) -> None:
        """End a supervisor with SIGTERM, and start the next at once."""
        supervisor = self._supervisor(choice)
        pids, at_s = supervisor.pids(), time.time()
        supervisor.popen.terminate()
        self._fleet.supervisors.remove(supervisor)
        self._fleet.draining.append(supervisor)
        self._write("deploy", at_s, pids=pids)
        self._fleet.start_supervisor()
        self._fleet.reap()

    async def _lost_scheduler(self, choice: float) -> None:
        """Kill a scheduler, and start another: the others go on meanwhile."""
        scheduler = self._fleet.schedulers.pop(int(choice * len(self._fleet.schedulers)))
        at_s = time.time()
        scheduler.popen.kill()
        scheduler.popen.wait(HANGS_AFTER_S)
        self._write("lost_scheduler", at_s)
        self._fleet.start_scheduler()

    async def _flush(self, _choice: float) -> None:
        at_s = time.time()

        def flush() -> None:
            with redis.Redis.from_url(self._fleet.instance.redis_url) as client:
                client.flushall()

        with contextlib.suppress(redis.RedisError):
            await asyncio.to_thread(flush)
            self._write("flush", at_s)

    async def _redis_restart(self, choice: float) -> None:
        async with self._services:
            at_s = time.time()
            await asyncio.to_thread(self._fleet.instance.redis.stop, immediately=True)
            await asyncio.sleep(2 * choice)
            await asyncio.to_thread(self._fleet.instance.redis.start)
            self._write("redis_restart", at_s)

    async def _postgres_restart(self, choice: float) -> None:
        async with self._services:
            at_s = time.time()
            await asyncio.to_thread(self._fleet.instance.postgres.stop, immediately=True)
            await asyncio.sleep(2 * choice)
            await asyncio.to_thread(self._fleet.instance.postgres.start)
            self._write("postgres_restart", at_s)

    async def _backends(self, choice: float) -> None:
        """Terminate a few sessions, whoever's they are."""
        at_s = time.time()
        with contextlib.suppress(asyncpg.PostgresError, *GONE):
            connection = await asyncpg.connect(self._fleet.database_url, timeout=5)
            try:
                count = await connection.fetchval(
                    """SELECT count(pg_terminate_backend(pid)) FROM (
                           SELECT pid FROM pg_stat_activity
                           WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                           ORDER BY md5(pid::text || $1) LIMIT $2) s""",
                    str(choice),
                    1 + int(choice * 8),
                )
                self._write("backends", at_s, detail=f"{count} sessions")
            finally:
                connection.terminate()

    async def _storage(self, choice: float) -> None:
        kind = ("refused", "full", "slow")[int(choice * 3)]
        await self._say(storage=kind, detail=kind, for_s=self._fleet.options.storage_fault_s)

    async def _clock(self, choice: float) -> None:
        step_s = CLOCK_STEPS_S[int(choice * len(CLOCK_STEPS_S))]
        await self._say(clock_s=step_s, detail=f"{step_s} s", for_s=10)

    async def _say(self, *, detail: str, for_s: float, **said: object) -> None:
        """Write the control file, and take it back later."""
        at_s = time.time()
        self._control |= said
        self._save()
        try:
            await asyncio.sleep(for_s)
        finally:
            for name in said:
                self._control.pop(name, None)
            self._save()
            self._write(next(iter(said)).removesuffix("_s"), at_s, detail=detail)

    def _save(self) -> None:
        temporary = self._fleet.control_path.with_suffix(".new")
        temporary.write_text(json.dumps(self._control))
        temporary.replace(self._fleet.control_path)
