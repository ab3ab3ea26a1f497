"""A real RabbitMQ of the tests' own: a child process on loopback, whose data and names are in one folder."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pika
import psutil
import pytest

from tests.support.patience import HANGS_AFTER_S

SERVER = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/usr/local/lib/rabbitmq/bin:/opt/rabbitmq/sbin")
EPMD = shutil.which("epmd")
"""Erlang's list of nodes. RabbitMQ would start one that outlives it, so each of ours gets one of its own."""

MISSING = "RabbitMQ isn't installed here: apt-get install rabbitmq-server"

needs_rabbitmq = pytest.mark.skipif(SERVER is None or EPMD is None, reason=MISSING)

SETTINGS = """
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users.guest = true
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.absolute = 512MB
log.file.level = warning
"""


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Leave nothing behind if the tests are killed."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RabbitServer:
    """One node, which may be stopped and started again; its queues outlive that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._distribution, self._epmd_port = _free_port(), _free_port(), _free_port()
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    @property
    def pid(self) -> int:
        """The process id of the node; all that it starts has its process group."""
        assert self._node is not None
        return self._node.pid

    def start(self) -> None:
        """Start the node, and wait until it greets."""
        for name in ("data", "log"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "rabbitmq.conf").write_text(SETTINGS.format(port=self._port))
        (self._folder / "enabled_plugins").write_text("[].\n")
        environment = self._environment()
        options = {
            "cwd": self._folder,
            "env": environment,
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
            "preexec_fn": _die_with_parent,
        }
        with (self._folder / "said").open("ab") as log:
            if self._epmd is None:
                epmd = [str(EPMD), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
                self._epmd = subprocess.Popen(epmd, stdout=log, **options)  # type: ignore[call-overload]
                self._until_listening(self._epmd_port)
            self._node = subprocess.Popen([str(SERVER)], stdout=log, **options)  # type: ignore[call-overload]
        self._until_listening(self._port)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return kept | {
            "HOME": str(self._folder),  # where Erlang keeps the node's cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"dk{self._port}@localhost",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RUNNING_UNDER_SYSTEMD": "true",  # so that the node is our child, and no shell of its own
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def stop(self) -> None:
        """Kill the node at once, as a lost machine does; its epmd goes on until `close`."""
        if self._node is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._node.pid, signal.SIGKILL)
            self._node.wait()
            self._node = None

    def halt(self) -> None:
        """Stop all of the node's processes without an end: clients are connected, and get no answer."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let halted processes go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with its wake-ups."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.url))) as connection:
            connection.channel().queue_delete(name)

    def add_user(self, name: str, *, configure: str, write: str, read: str) -> str:
        """Add a user with rights by patterns of names; return the URL."""
        self._ask("add_user", name, "word")
        self._ask("set_permissions", name, configure, write, read)
        return self.url.replace("guest:guest@", f"{name}:word@")

    def connections(self) -> int:
        """Return how many clients are connected."""
        found = psutil.Process(self.pid).net_connections("tcp4")
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == self._port for one in found)

    def _ask(self, *command: str) -> None:
        control = Path(str(SERVER)).with_name("rabbitmqctl")
        subprocess.run([str(control), *command], env=self._environment(), check=True, capture_output=True)

    def close(self) -> None:
        """End everything that was started."""
        self.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def _until_listening(self, port: int) -> None:
        until_s = time.monotonic() + HANGS_AFTER_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            said = (self._folder / "said").read_text(errors="replace")[-3000:]
            ended = any(one is not None and one.poll() is not None for one in (self._node, self._epmd))
            assert not ended and time.monotonic() < until_s, said  # noqa: PT018 - two reasons, one message
            time.sleep(0.05)
