"""Workers forked from a process that has imported everything: a start takes a fraction of a second instead of two.

`ForkedWorkers` are for tests of jobs, not of processes: everything
from the claim loop inwards is real, pixel children too; missing
are dramatiq's command line and its broker, whose wake-ups a short poll
replaces. `PreloadedWorkers` are complete, but don't import anything themselves.
"""

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import dramatiq.worker

from config.log import configure_logging
from pipelines.imaging import pool
from pipelines.settings import Settings, load_settings
from tests.support import slow_worker
from tests.support.scripted_provider import stand_in
from workers.process import master, supervised
from workers.process.supervisor import READY_FD, WorkerProcesses, worker_environment
from workers.process.wake_up import Lanes
from workers.process.worker import WorkerProcess
from workers.services.services import Services

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.preloaded"])
"""The one fork server of a test process, whoever starts it; it imports for all."""


class ForkedWorkers:
    """A number of worker processes, with the part of `WorkerProcesses` that such tests use."""

    OPENS: str | None = None
    """What opens the provider that stands in for the local engine."""

    def __init__(self, settings: Settings, services: Services, *, processes: int, lanes: int) -> None:
        self.environment = worker_environment(settings, services)
        self.environment |= {"DARKROOM_LANES": str(lanes), "DARKROOM_POLL_S": "0.1"}
        self._ready = [FORKS.Event() for _ in range(processes)]
        self._processes: list[multiprocessing.context.ForkServerProcess] = []

    def start(self) -> None:
        self._processes = [
            FORKS.Process(target=_live, args=(self.environment, self.OPENS, ready)) for ready in self._ready
        ]
        for process in self._processes:
            process.start()

    def wait_ready(self, timeout_s: float) -> bool:
        return all(ready.wait(timeout_s) for ready in self._ready)

    def stop(self, timeout_s: float) -> int:
        """Stop all processes with SIGTERM and wait; return 0, or 1 if one had to be killed or failed."""
        for process in self._processes:
            process.terminate()
        code = 0
        for process in self._processes:
            process.join(timeout_s)
            if process.exitcode is None:
                process.kill()
                process.join()
            code = code or int(process.exitcode != 0)
        return code


class ForkedSlowWorkers(ForkedWorkers):
    OPENS = slow_worker.OPENS


class PreloadedWorkers(WorkerProcesses):
    """The supervisor and its processes as they are, dramatiq's master and its worker; only their imports are shared."""

    def _launch(self, command: Sequence[str], told: int, environment: Mapping[str, str]) -> "PreloadedProcess":
        assert self._pipe is not None
        arguments = command[command.index("workers.process.master") :]
        return PreloadedProcess(arguments, dict(environment), told, self._pipe[0])


class PreloadedProcess:
    """Such a process, with the part of `Popen` that a supervisor uses."""

    stderr = None

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], told: int, supervisor: int) -> None:
        inherited = [Connection(os.dup(descriptor)) for descriptor in (told, supervisor, 1, 2)]
        self._process = FORKS.Process(target=_be_dramatiq, args=(arguments, environment, *inherited))
        self._process.start()
        self._reading = threading.Lock()  # a second thread that read the exit code would read 255
        for one in inherited:
            one.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        with self._reading:
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not multiprocessing.connection.wait([self._process.sentinel], timeout):
            raise subprocess.TimeoutExpired("dramatiq", timeout or 0)
        code = self.returncode
        assert code is not None
        return code

    def terminate(self) -> None:
        self._process.terminate()


def _be_dramatiq(
    arguments: list[str],
    environment: dict[str, str],
    told: Connection,
    supervisor: Connection,
    out: Connection,
    err: Connection,
) -> None:
    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment | {READY_FD: str(told.fileno()), supervised.SUPERVISOR_FD: str(supervisor.fileno())})
    _start_one_child()
    dramatiq.worker.WORKER_TIMEOUT = int(os.environ["dramatiq_worker_timeout"])  # noqa: SIM112 - dramatiq's name
    multiprocessing.set_start_method("fork", force=True)  # as a process has it that no server forked
    sys.argv = arguments
    sys.exit(master.main())


def _start_one_child() -> None:
    """Let this process have one pixel child, as on a machine with one core: starting one takes longer than its jobs."""
    pool._core_count = lambda: 1


def _live(environment: dict[str, str], opens: str | None, ready: Event) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _start_one_child()
    if opens is not None:
        stand_in(opens)
    settings = load_settings()
    configure_logging(settings)
    asyncio.run(_work(settings, ready))
    os._exit(0)  # without a look at what multiprocessing would tidy up


async def _work(settings: Settings, ready: Event) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    process = WorkerProcess(settings, Lanes(), end=told.set)
    await process.start()
    ready.set()
    await told.wait()
    await process.stop()
