"""The processes of a run: services, provider, supervisors with their workers, schedulers."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from tests.chaos.added import AddedTables
from tests.chaos.conditions import ROLE
from tests.chaos.plan import Options
from tests.chaos.programs import GONE
from tests.chaos.registering import PLUGINS
from tests.chaos.seams import CONTROL
from tests.support.patience import HANGS_AFTER_S
from workers.services.instance import EmbeddedInstance

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 0.5

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent():
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Started:
    """One process that we started, and its log."""

    name: str
    popen: subprocess.Popen
    log_path: Path

    def is_ready(self) -> bool:
        return any(line.strip() == "ready" for line in self.log_path.read_text(errors="replace").splitlines())

    def family(self) -> list[psutil.Process]:
        """Return it and everything below it that lives."""
        try:
            own = psutil.Process(self.popen.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def pids(self) -> frozenset[int]:
        """Return the process ids of its family."""
        return frozenset(process.pid for process in self.family())


class Fleet:
    """Starts, finds and ends processes; only ever those that it started itself."""

    def __init__(self, options: Options, folder: Path, *, added: Sequence[AddedTables] = (), postgres_settings=None):
        self.options = options
        self._added = added
        self.folder = folder
        self.objects = folder / "objects"
        self.control_path = folder / "control.json"
        self.count_path = folder / "provider.count"
        self.instance = EmbeddedInstance(folder / "services", postgres_settings=postgres_settings)
        self.supervisors: list[Started] = []
        self.schedulers: list[Started] = []
        self.draining: list[Started] = []
        self.stopped: dict[int, str] = {}
        """Workers under SIGSTOP, by process id."""
        self._others: list[Started] = []
        self._workers: dict[int, str] = {}
        self._number = 0
        self._environment: dict[str, str] = {}

    @property
    def database_url(self) -> str:
        return self.instance.database_url

    async def open(self) -> None:
        """Start the services and the provider; migrate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # the server may run as another user
        self.objects.mkdir(exist_ok=True)
        self.count_path.touch()
        await asyncio.to_thread(self.instance.open)
        await self._prepare_database()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "PG"))}
        self._environment = kept | {
            "DATABASE_URL": self.database_url,
            "DATABASE_DIRECT_URL": self.database_url,
            "REDIS_URL": self.instance.redis_url,
            "BROKER_URL": self.instance.redis_url,
            "STORAGE_URL": self.objects.as_uri(),
            "STORAGE_PUBLIC_URL": "https://pictures.test",
            "PROVIDER": "gemini",
            "GEMINI_API_KEY": "chaos",
            "GEMINI_BASE_URL": f"http://127.0.0.1:{port}",
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
            "DARKROOM_HOME": str(self.folder / "home"),
            "DARKROOM_LEASE_S": f"{self.options.lease_s:g}",
            "DARKROOM_LANES": str(self.options.lanes),
            "DARKROOM_PROCESSES": str(self.options.processes),
            "DARKROOM_SHUTDOWN_GRACE_S": f"{self.options.grace_s:g}",
            "OPENBLAS_NUM_THREADS": "1",
            CONTROL: str(self.control_path),
            PLUGINS: ",".join(one.plugin for one in self._added if one.plugin),
            "DARKROOM_APPLICATION": ",".join(["pictures", *(name for one in self._added for name in one.applications)]),
        }
        await self.run_cli("db", "upgrade", "--grant", ROLE, "--with-application")
        provider = self._start(
            "provider",
            "tests.chaos.provider",
            *("--port", str(port), "--count", str(self.count_path), "--seed", str(self.options.seed)),
            *("--slowest-s", str(self.options.slowest_call_s), "--hang-s", str(self.options.hang_s)),
        )
        self._others.append(provider)
        for _ in range(self.options.schedulers):
            self.start_scheduler()
        for _ in range(self.options.supervisors):
            self.start_supervisor()
        await self._wait_ready([provider, *self.schedulers, *self.supervisors])

    async def _prepare_database(self) -> None:
        """Make the application's role, and tables that a release doesn't make."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
            for one in self._added:
                await connection.execute(one.ddl)
        finally:
            await connection.close()

    async def run_cli(self, *arguments: str) -> None:
        """Run one `darkroom` command to its end; its output stands beside the logs.

        Raises:
            RuntimeError: it failed.
        """
        one = self._start("cli", "tests.chaos.darkroom", *arguments)
        while one.popen.poll() is None:  # noqa: ASYNC110 - a process that ends rings nothing
            await asyncio.sleep(0.1)
        if one.popen.returncode:
            raise RuntimeError(f"darkroom {' '.join(arguments)} failed: see {one.log_path}")

    def start_supervisor(self) -> None:
        """Start one more `darkroom worker`."""
        self.supervisors.append(self._start("worker", "tests.chaos.darkroom", "worker"))

    def start_scheduler(self) -> None:
        """Start one more `darkroom scheduler`."""
        self.schedulers.append(self._start("scheduler", "tests.chaos.darkroom", "scheduler"))

    def _start(self, name: str, module: str, *arguments: str) -> Started:
        """Start a process; in the main thread only, whose end is that of its children."""
        self._number += 1
        path = self.folder / f"{name}-{self._number}.log"
        with path.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the run, which ends them in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, of a function loaded before
            )
        return Started(name, popen, path)

    async def _wait_ready(self, processes: list[Started]) -> None:
        until_s = time.monotonic() + HANGS_AFTER_S
        for one in processes:
            while not one.is_ready():
                if one.popen.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"{one.name} doesn't start: see {one.log_path}")
                await asyncio.sleep(0.1)

    async def watch_workers(self) -> None:
        """Keep a list of which process is which worker, also for times when PostgreSQL is gone."""
        connection = None
        while True:
            try:
                connection = connection or await asyncpg.connect(self.database_url, timeout=5)
                rows = await connection.fetch(
                    "SELECT id::text, pid FROM darkroom.workers WHERE lease_expires_at > now() ORDER BY started_at"
                )
                self._workers = {row["pid"]: row["id"] for row in rows}
            except (asyncpg.PostgresError, *GONE):
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(LOOK_S)

    def live_workers(self) -> list[tuple[int, str]]:
        """Return process id and worker id of every worker of ours that runs and isn't stopped."""
        ours = {process.pid for one in (*self.supervisors, *self.draining) for process in one.family()}
        return [(pid, worker_id) for pid, worker_id in self._workers.items() if pid in ours and pid not in self.stopped]

    def reap(self) -> None:
        """Forget supervisors that have drained."""
        self.draining = [one for one in self.draining if one.popen.poll() is None]

    async def stop_processes(self, timeout_s: float) -> list[str]:
        """End workers and schedulers with SIGTERM, and whoever is left after `timeout_s` with SIGKILL; name those."""
        for pid in list(self.stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        ended = [*self.supervisors, *self.draining, *self.schedulers]
        return await self._end(ended, timeout_s)

    async def _end(self, processes: list[Started], timeout_s: float) -> list[str]:
        families = [member for one in processes for member in one.family()]
        for one in processes:
            if one.popen.poll() is None:
                one.popen.terminate()
        until_s = time.monotonic() + timeout_s
        while any(one.popen.poll() is None for one in processes) and time.monotonic() < until_s:  # noqa: ASYNC110 - a process that ends rings nothing
            await asyncio.sleep(0.1)
        stuck = [one.name for one in processes if one.popen.poll() is None]
        for member in families:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()  # psutil compares start times: a number used again is nobody of ours
        for one in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.popen.wait(HANGS_AFTER_S)
        return stuck

    async def close(self) -> None:
        """End everything that is left, services last. Idempotent."""
        await self.stop_processes(0.5)
        await self._end(self._others, 2)
        await asyncio.to_thread(self.instance.close)
