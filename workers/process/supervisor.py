"""The supervisor: keeps worker processes running, each under a dramatiq master of its own, and restarts dead ones.

dramatiq's master stops all of its processes when one of them is killed, so each worker has its own master, which is
restarted after a pause that grows.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from config.logger import EventLogger
from models.connections import DATABASE_ERRORS
from pipelines.settings import Settings
from workers.metrics.health import DatabaseHealth
from workers.metrics.slot import FOLDER, SLOT
from workers.process.output import pass_on
from workers.process.reaper import reaper
from workers.process.runtime import make_database
from workers.process.signing_off import sign_off_dead
from workers.process.supervised import SUPERVISOR_FD
from workers.services.services import Services

if TYPE_CHECKING:
    from workers.metrics.folder import MetricsFolder
    from workers.metrics.serving import Serving

log = EventLogger(__name__)

CODE_FOLDER = Path(__file__).resolve().parents[2]
BACKOFF_FIRST_S = 0.2
BACKOFF_MOST_S = 10.0
BROKER_LOOK_MS = 300
"""Milliseconds between dramatiq's checks of whether to stop; stopping takes at least twice that."""

HEALTHY_S = 30.0
"""A process that lived at least this long, in seconds, starts with the shortest backoff again."""

FIRST_READY_S = 120.0
"""Seconds until all worker processes of a drain must work, or the drain ends: they may wait for a server."""

KILL_AFTER_S = 10.0
"""Seconds after the grace at which a process that hasn't stopped is killed, and its claims are rescued."""

READY_FD = "WORKER_READY_FD"
"""Environment variable: the descriptor to which a worker writes its id once it works, and which it keeps open."""

ID_BYTES = 16

REFUSED_EXIT_CODE = 78
"""Exit code of a worker that can't use the database as it is configured, so that starting it again wouldn't help."""

USAGE_EXIT_CODE = 2

LOOK_S = 1.0
"""Seconds between a supervisor's checks of whether the work is done."""

GONE_S = 0.5
"""Seconds for learning of a worker's death, once its master has ended, before another one is started."""

LAST_LINES_S = 1.0
"""Seconds for forwarding a process's last output after its end."""

SIGN_OFF_AT_STOP_S = 2.0
"""Seconds that a supervisor that stops waits until its workers' deaths are recorded."""


def worker_environment(settings: Settings, services: Services) -> dict[str, str]:
    """Return the environment of a worker: our own, with the URLs of the services that this process has opened."""
    return os.environ | {
        "DATABASE_URL": services.database_url,
        "DATABASE_DIRECT_URL": services.database_direct_url,
        "REDIS_URL": services.redis_url,
        "BROKER_URL": services.broker_url,
        "STORAGE_URL": services.storage_url,
        "PROVIDER": ",".join(settings.providers),
        "dramatiq_worker_timeout": str(BROKER_LOOK_MS),
        "PYTHONSAFEPATH": "1",  # otherwise `python -m` would look for our packages in the current folder first
    }


@dataclass(slots=True)
class _Slot:
    """A place for one worker process, and the process that is in it now."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started_s: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S
    output: threading.Thread | None = None
    is_ready: threading.Event = field(default_factory=threading.Event)
    listener: threading.Thread | None = None
    is_gone: threading.Event | None = None
    copies: int = 0

    @property
    def files(self) -> str:
        """The name under which its process keeps its metrics; the next one continues them."""
        return f"{self.number}-{self.copies}" if self.copies else str(self.number)


class WorkerProcesses:
    """Starts a number of worker processes, and keeps them running."""

    ENTRY_POINT = "workers.main:main"

    def __init__(
        self,
        settings: Settings,
        services: Services,
        *,
        processes: int,
        lanes: int | None = None,
        queues: Sequence[str] | None = None,
        on_refused: Callable[[], None] = lambda: None,
        serving: "Serving | None" = None,
    ) -> None:
        """Store what is needed; nothing is started yet.

        Args:
            settings: the settings.
            services: the services that this process has opened.
            processes: how many worker processes are kept running.
            lanes: jobs at once per process; None for DARKROOM_LANES.
            queues: queues to claim from; None for DARKROOM_QUEUES.
            on_refused: called, in a thread, when a worker can't work with this configuration, and has logged why. No
                worker is started again, and the caller should stop.
            serving: serves the metrics of all processes together, and whether they work; None: nobody asks.
        """
        self.environment = worker_environment(settings, services)
        self._database = make_database(settings, services, most_connections=1)
        self._lease_s = settings.lease_s
        if lanes is not None:
            self.environment["DARKROOM_LANES"] = str(lanes)
        if queues is not None:
            self.environment["DARKROOM_QUEUES"] = ",".join(queues)
        self._grace_s = settings.shutdown_grace_s
        self._slots = [_Slot(number) for number in range(processes)]
        self._is_stopping = threading.Event()
        self._is_refused = False
        self._on_refused = on_refused
        self._starting = threading.Lock()
        self._users_lock = services.users_lock
        self._logs_json = self.environment.get("LOG_FORMAT") == "json"
        self._pipe: tuple[int, int] | None = None
        self._serving = serving
        self._metrics: MetricsFolder | None = None
        self._working: set[UUID] = set()

    def start(self) -> None:
        """Start every process; `wait_ready` waits until they work."""
        if self._serving is not None:
            health = DatabaseHealth(self._database, lambda: list(self._working))
            self._metrics = self._serving.add_worker(health, self._is_stopping.is_set)
        self._pipe = os.pipe()  # this process keeps both ends, and the kernel closes the writing one when it ends
        reaper.begin()
        for slot in self._slots:
            self._start(slot)
            threading.Thread(target=self._keep, args=(slot,), name="supervisor", daemon=True).start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until each process has reported that it works; return False if one hasn't in time."""
        until_s = time.monotonic() + timeout_s
        return all(slot.is_ready.wait(max(0.0, until_s - time.monotonic())) for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """The process ids of the live dramatiq masters."""
        return [slot.process.pid for slot in self._slots if slot.process and slot.process.poll() is None]

    def stop(self, timeout_s: float | None = None) -> int:
        """Stop all processes with SIGTERM and wait for their end.

        Returns:
            0 if all ended by themselves, 1 if one had to be killed, 2 if one can't work with this configuration.
        """
        with self._starting:  # a process that is being started is stopped, too
            self._is_stopping.set()
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.terminate()
        until_s = time.monotonic() + (self._grace_s + KILL_AFTER_S if timeout_s is None else timeout_s)
        code = 0
        for slot in self._slots:
            if slot.process is None:
                continue
            try:
                slot.process.wait(max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(slot.process.pid, signal.SIGKILL)  # its session is its own: the master and its worker
                slot.process.wait()
                code = 1
        self._hear_last_words()
        return USAGE_EXIT_CODE if self._is_refused else code

    def _hear_last_words(self) -> None:
        until_s = time.monotonic() + SIGN_OFF_AT_STOP_S
        for slot in self._slots:
            if slot.listener is not None:  # a killed process holds its jobs until this thread has removed its row
                slot.listener.join(max(0.0, until_s - time.monotonic()))
            if slot.output is not None:
                slot.output.join(LAST_LINES_S)
        if self._pipe is not None:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None

    def run_forever(self, on_ready: Callable[[], None], is_done: Callable[[], bool] | None = None) -> int:
        """Run until SIGTERM or SIGINT. Only in a main thread.

        Args:
            on_ready: called once every process works.
            is_done: if given, called about once a second from then on, in a thread of its own, so that a signal is
                heard at once however long the call takes. When it returns True, all processes are stopped. As the
                caller expects an end, processes that die again and again are stopped too, and so are processes of which
                not all work FIRST_READY_S after the start.

        Returns:
            What `stop` returns; at least 1 if `is_done` is given and the processes can't work.
        """
        signals: list[int] = []  # a list, because a handler may interrupt the very wait that holds an Event's own lock
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: signals.append(number))
        self.start()
        threading.Thread(target=self._announce, args=(on_ready,), daemon=True).start()
        has_failed = False
        began_s = time.monotonic()
        look: Future[bool] | None = None
        try:
            while not signals:
                time.sleep(0.1)
                if is_done is None:
                    continue
                has_failed = not self.pids and all(slot.backoff_s >= BACKOFF_MOST_S for slot in self._slots)
                is_ready = self.wait_ready(0)
                has_failed = has_failed or (not is_ready and time.monotonic() - began_s > FIRST_READY_S)
                if is_ready and look is None:
                    look = _asked_until_true(is_done)
                if has_failed or (look is not None and look.done() and look.result()):
                    break
        finally:
            code = self.stop()
        return max(code, int(has_failed))

    def _announce(self, on_ready: Callable[[], None]) -> None:
        for slot in self._slots:
            slot.is_ready.wait()
        on_ready()

    def _start(self, slot: _Slot) -> None:
        command = [
            *(sys.executable, "-m", "workers.process.master", self.ENTRY_POINT, "--path", str(CODE_FOLDER)),
            *("--processes", "1", "--threads", "1", "--skip-logging"),
            *("--worker-shutdown-timeout", str(round((self._grace_s + KILL_AFTER_S) * 1000))),
        ]
        slot.started_s = time.monotonic()
        heard, told = os.pipe()  # not stdout, which dramatiq's master forwards to its own stderr
        if slot.is_gone is not None and not slot.is_gone.is_set():
            slot.copies += 1  # its worker outlives its master: no two processes may write the same files
        slot.is_gone = threading.Event()
        environment = self.environment | {SLOT: slot.files}
        if self._metrics is not None:
            environment[FOLDER] = str(self._metrics.path)
        slot.process = self._launch(command, told, environment)
        reaper.own.add(slot.process.pid)
        if slot.process.stderr is not None:
            slot.output = threading.Thread(target=pass_on, args=(slot.process.stderr,), daemon=True)
            slot.output.start()
        os.close(told)
        slot.listener = threading.Thread(target=self._listen, args=(slot, slot.files, slot.is_gone, heard), daemon=True)
        slot.listener.start()

    def _launch(self, command: Sequence[str], told: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        if self._pipe is None:
            raise RuntimeError("the workers aren't started")
        return subprocess.Popen(
            command,
            env={**environment, READY_FD: str(told), SUPERVISOR_FD: str(self._pipe[0])},
            # The lock of the embedded services is passed too: they must run until a worker without a supervisor has
            # released its jobs
            pass_fds=[told, self._pipe[0], *([] if self._users_lock is None else [self._users_lock])],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE if self._logs_json else None,
            start_new_session=True,  # so that Ctrl-C reaches only this process, which stops the others in order
        )

    def _keep(self, slot: _Slot) -> None:
        """Restart a place's process whenever it has died, after its backoff."""
        while slot.process is not None:
            slot.process.wait()
            reaper.own.discard(slot.process.pid)
            if self._is_stopping.is_set() or self._is_refused:
                return
            if slot.process.returncode == REFUSED_EXIT_CODE:
                self._is_refused = True
                self._on_refused()
                return
            pause_s = _backoff_s(slot)
            if slot.is_gone is not None:
                slot.is_gone.wait(GONE_S)
            while not self._is_stopping.wait(pause_s) and not self._is_refused:
                try:
                    with self._starting:
                        if not self._is_stopping.is_set():
                            self._start(slot)
                    break
                except OSError as error:  # no process can be started now, so it is tried again
                    pause_s = BACKOFF_MOST_S
                    log.exception("worker_not_started", error=str(error))
            else:
                return

    def _listen(self, slot: _Slot, files: str, is_gone: threading.Event, heard: int) -> None:
        """Wait until a process reports that it works, and then until it dies, when the kernel closes its pipe.

        The dead process's gauges are removed and its lease is ended at once, so that its jobs are due again in a
        second, before the lease expires.
        """
        with os.fdopen(heard, "rb") as pipe:
            id_bytes = pipe.read(ID_BYTES)
            worker_id = UUID(bytes=id_bytes) if len(id_bytes) == ID_BYTES else None
            if worker_id is not None:
                self._working.add(worker_id)
                slot.is_ready.set()
                pipe.read()
        if self._metrics is not None:
            self._metrics.forget_gauges(files)
        is_gone.set()
        if worker_id is None:
            return  # it ended before it worked
        self._working.discard(worker_id)
        try:
            asyncio.run(sign_off_dead(self._database, worker_id, self._lease_s))
        except DATABASE_ERRORS as error:  # the lease expires by itself, only later
            log.warning("sign_off_failed", error=str(error), error_type=type(error).__name__)


def _backoff_s(slot: _Slot) -> float:
    """Log how a place's process ended, and return the seconds until another one may be started."""
    code = slot.process.returncode if slot.process is not None else None
    if code == 0:
        log.info("worker_ended")
        slot.backoff_s = BACKOFF_FIRST_S
        return 0.0
    lived_s = time.monotonic() - slot.started_s
    slot.backoff_s = BACKOFF_FIRST_S if lived_s > HEALTHY_S else min(BACKOFF_MOST_S, slot.backoff_s * 2)
    log.warning("worker_died", exit_code=code, restart_in_s=slot.backoff_s)
    return slot.backoff_s


def _asked_until_true(is_done: Callable[[], bool]) -> Future[bool]:
    """Call `is_done` in a daemon thread, LOOK_S after each answer, until it returns True or raises an error."""
    answer: Future[bool] = Future()

    def ask() -> None:
        try:
            while not is_done():
                time.sleep(LOOK_S)
            answer.set_result(True)
        except DATABASE_ERRORS as error:
            answer.set_exception(error)
        finally:
            if not answer.done():  # a bug of ours, which the thread's own hook reports
                answer.set_exception(RuntimeError("the check of the queues failed; the log has its traceback"))

    threading.Thread(target=ask, name="drain", daemon=True).start()
    return answer
