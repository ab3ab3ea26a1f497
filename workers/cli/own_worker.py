"""A worker process that a command starts itself if it needs one and no other worker runs."""

import asyncio
import os
import time
from types import TracebackType
from typing import Final, Self

from models.queue.queues import unserved_queues
from workers.cli.failures import CommandError
from workers.process.runtime import Runtime
from workers.process.supervisor import WorkerProcesses

LOOK_S: Final = 5.0
"""Seconds between checks of whether other worker processes still live: they may be stopped while the command waits."""

STARTS: Final = "a worker of this command's own is starting"
"""The reason that is printed for jobs that wait while this command's own worker starts."""

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0


class OwnWorker:
    """A context that starts a worker process for the queues from which no live worker claims; its end stops it."""

    def __init__(self, runtime: Runtime) -> None:
        """Store the runtime; nothing is started yet."""
        self._runtime = runtime
        self._workers: WorkerProcesses | None = None
        self._started_s = 0.0
        self._is_ready = False
        self._is_refused = False
        self._looked_s: float | None = None

    @property
    def is_started(self) -> bool:
        """Whether this command has started a worker of its own, which ends with it."""
        return self._workers is not None

    async def has_others(self) -> bool:
        """Return whether live workers claim from all queues; only called before this command starts its own one."""
        return not await self._unserved()

    async def _unserved(self) -> list[str]:
        return [one.queue for one in await self._runtime.database.run(unserved_queues)]

    async def start_if_needed(self) -> None:
        """Check, at most every LOOK_S, whether a worker runs, and start one if none does.

        Raises:
            CommandError: the started worker doesn't begin to work.
        """
        now_s = time.monotonic()
        if self._is_refused:
            raise CommandError("the worker can't work with this configuration; `darkroom worker` says why")
        if self._workers is not None:
            self._is_ready = self._is_ready or self._workers.wait_ready(0)
            if not self._is_ready and now_s - self._started_s > START_TIMEOUT_S:
                raise CommandError("the worker doesn't start; `darkroom worker` shows why, the jobs stay in the queue")
            return
        if self._looked_s is not None and now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        if queues := await self._unserved():
            self._start(queues, now_s)

    def _start(self, queues: list[str], now_s: float) -> None:
        # Its log lines would break the table that is drawn; its jobs' errors are in their rows, from which they are
        # shown.
        os.environ.setdefault("LOG_LEVEL", "error")
        self._workers = WorkerProcesses(
            self._runtime.settings,
            self._runtime.services,
            processes=1,
            queues=queues,
            on_refused=self._note_refusal,
        )
        self._workers.start()
        self._started_s = now_s

    def _note_refusal(self) -> None:
        self._is_refused = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._workers is not None:
            # Shielded, because a second Ctrl-C must not leave a process behind
            await asyncio.shield(asyncio.to_thread(self._workers.stop, STOP_TIMEOUT_S))
