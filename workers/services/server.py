"""An embedded server process, which outlives the process that started it: its start, its end, and whether it runs."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from workers.services.errors import EmbeddedServiceError
from workers.services.locks import exclusive_lock, is_locked, wait_until

START_TIMEOUT_S: Final = 60.0  # replaying a long WAL after a crash takes its time
_LOG_LIMIT_BYTES: Final = 5_000_000
_PROBE_TIMEOUT_S: Final = 1.0
# The shell starts the server in the background and ends, so init inherits the server and reaps it, whichever process
# stops it. If the server's process id can't be written (a full disk), the server is killed again, since nobody could
# stop it later.
_DETACH: Final = 'pid=$1; shift; "$@" & echo $! >"$pid" || { kill $!; exit 1; }'
_REASON: Final = re.compile(r"(?:(?:FATAL|PANIC):|initdb: error:) +(.*)(?:\n.*DETAIL: +(.*))?")


class Program(Protocol):
    """What differs between the embedded servers."""

    name: str
    title: str
    # Seconds after each signal before the next one is sent
    stop_signals: Sequence[tuple[signal.Signals, float]]
    stop_now_signal: signal.Signals

    def prepare(self, lock: int) -> None:
        """Create the server's data folder if it is missing; processes that are started to create it inherit `lock`."""

    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""

    def answers(self) -> bool:
        """Whether the server accepts clients, found out by a request."""

    def is_process(self, command_line: str) -> bool:
        """Whether a process with this command line is the server, and not another one with the same process id."""


class Server:
    """A server that holds a file lock for as long as any of its processes lives.

    The lock is inherited from the process that starts it. It proves what pid files can't: whether the server, or
    any process that is left of it, is alive. So a reused process id, a pid file from before a crash, and backends
    that outlive their postmaster cause no error.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        """Store the server's program and folder; nothing is started or created yet."""
        self.program = program
        self.log_path = folder / f"{program.name}.log"
        self._lock_path = folder / f"{program.name}.lock"
        self._pid_path = folder / f"{program.name}.pid"
        self._log_offset = 0

    def is_running(self) -> bool:
        """Whether any process of the server lives, ready or not."""
        return is_locked(self._lock_path)

    def is_ready(self) -> bool:
        """Whether the server lives and accepts clients."""
        return self.is_running() and self.program.answers()

    def pid(self) -> int | None:
        """The main process's id; None when it isn't running."""
        if not self.is_running():
            return None
        try:
            pid = int(self._pid_path.read_text())
            command_line = _command_line(pid)
        except (OSError, ValueError):
            return None
        return pid if self.program.is_process(command_line) else None

    def start(self) -> None:
        """Start the server if it isn't running; return when it accepts clients. Only one caller at a time.

        Raises:
            EmbeddedServiceError: it doesn't start; with the reason from its log.
        """
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start the server without waiting, unless it accepts clients.

        If processes of an earlier server still live, wait first until they have ended.
        """
        if self.is_ready():
            return
        # A starting process that was killed leaves a server that will soon be ready, or an initdb
        if not wait_until(lambda: self.is_ready() or not self.is_running(), timeout_s=START_TIMEOUT_S):
            raise self._not_ready()
        if self.is_running():
            return
        with exclusive_lock(self._lock_path, timeout_s=START_TIMEOUT_S) as lock:
            self._pid_path.write_text("")
            self.program.prepare(lock)
            with suppress(FileNotFoundError):
                if self.log_path.stat().st_size > _LOG_LIMIT_BYTES:
                    self.log_path.replace(self.log_path.with_suffix(".log.old"))
            with self.log_path.open("ab") as log:
                self._log_offset = log.tell()
                shell = subprocess.run(
                    ["/bin/sh", "-c", _DETACH, "sh", str(self._pid_path), *self.program.command()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=server_environment(),
                    pass_fds=(lock,),
                    # a terminal's Ctrl-C is for the command, which needs its servers a little longer
                    start_new_session=True,
                    check=False,
                )
        if shell.returncode != 0:
            raise EmbeddedServiceError(f"cannot write {self._pid_path}; is the disk full?")

    def wait_ready(self) -> None:
        """Wait until the server accepts clients.

        Raises:
            EmbeddedServiceError: it ended instead, or the time limit is exceeded.
        """
        if not wait_until(lambda: self.is_ready() or not self.is_running(), timeout_s=START_TIMEOUT_S):
            raise self._not_ready()
        if not self.is_running():
            with self.log_path.open("rb") as log:
                log.seek(self._log_offset)
                reason = failure_reason(log.read().decode(errors="replace"))
            raise EmbeddedServiceError(
                f"the embedded {self.program.title} doesn't start: {reason} (log: {self.log_path})"
            )

    def stop(self, *, immediately: bool = False) -> None:
        """Stop the server; return when none of its processes is left. `immediately` leaves recovery to the next start.

        Raises:
            EmbeddedServiceError: it survived every signal.
        """
        steps = list(self.program.stop_signals)
        if immediately:
            steps = [(self.program.stop_now_signal, 5.0), *steps[-1:]]
        for number, timeout_s in steps:
            if self._ends(number, timeout_s):
                return
        raise EmbeddedServiceError(
            f"the embedded {self.program.title} (process {self.pid()}) doesn't stop; log: {self.log_path}"
        )

    def _ends(self, number: signal.Signals, timeout_s: float) -> bool:
        """Send a signal and return whether all processes of the server have ended within the time."""
        is_told = False

        def is_gone() -> bool:
            nonlocal is_told
            # If the starting process was killed meanwhile, the server's process id may be written only now
            if not is_told and (pid := self.pid()) is not None:
                is_told = True
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            return not self.is_running()

        return wait_until(is_gone, timeout_s=timeout_s)

    def restart(self, *, immediately: bool = False) -> None:
        """Stop the server and start it again; for a caller that is its only user."""
        self.stop(immediately=immediately)
        self.start()

    def _not_ready(self) -> EmbeddedServiceError:
        return EmbeddedServiceError(
            f"the embedded {self.program.title} (process {self.pid() or 'unknown'}) runs but doesn't answer within "
            f"{START_TIMEOUT_S:g} s; look into {self.log_path}, or end that process and try again"
        )


def server_environment() -> dict[str, str]:
    """Return the environment for a server: without secrets, locale and time zone of the process that starts it."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "TZ": "UTC", "LC_ALL": "C"}


def failure_reason(output: str) -> str:
    """Return the line of a server's output that says why it ended: the first fatal one, else the last.

    Secrets in it aren't masked.
    """
    if found := _REASON.search(output):
        return "; ".join(part.strip() for part in found.groups() if part)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it left no word"


def ask(socket_path: Path, request: bytes) -> bytes | None:
    """Send a request to a unix socket and return the first bytes of the answer; None if there is no answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PROBE_TIMEOUT_S)
        try:
            client.connect(str(socket_path))
            client.sendall(request)
            return client.recv(64)
        except OSError:
            return None


def _command_line(pid: int) -> str:
    """Return a process's command line; empty if it has none. Read without psutil, whose import is slow.

    Raises:
        OSError: the process ended, or its command line can't be read.
    """
    if Path("/proc/self").exists():
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    asked = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip()
