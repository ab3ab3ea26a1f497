"""An embedded PostgreSQL and Redis in a folder, shared by all processes that use them and stopped by the last one."""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from workers.services.errors import EmbeddedServiceError
from workers.services.locks import exclusive_lock, is_locked, open_lock, try_lock
from workers.services.postgres import PostgresProgram
from workers.services.redis import RedisProgram
from workers.services.server import START_TIMEOUT_S, Server, server_environment

# Linux allows 107 bytes, macOS 103, for a socket's path; the longest of ours is PostgreSQL's.
_SOCKET_PATH_LIMIT_BYTES: Final = 103
_LONGEST_SOCKET_NAME: Final = ".s.PGSQL.5432"
# Time for stopping earlier servers and starting both, each up to its own limit
_TURN_TIMEOUT_S: Final = 3 * START_TIMEOUT_S

_GUARD: Final = f"{__package__}.guard"
_CODE_FOLDER: Final = Path(__file__).resolve().parents[__name__.count(".")]
_GUARD_END_S: Final = 5.0

_open_instances: "weakref.WeakSet[EmbeddedInstance]" = weakref.WeakSet()


class EmbeddedInstance:
    """The embedded services in one folder; use it as a context manager, or call `open` and `close`.

    Two lock files coordinate processes. Every user of the services holds `users.lock` shared; servers are started and
    stopped only while `turn.lock` is held exclusively. A user that ends, and can make its shared lock exclusive, was
    the last one, and stops the servers. The kernel frees both locks when their process ends: if every user was killed
    with SIGKILL, a guard stops the servers within seconds, and a user that comes before then finds them running.

    Attributes:
        postgres: the server, for tests that crash it: `pid()`, `stop(immediately=True)`, `start()`, `restart()`.
        redis: likewise.
    """

    def __init__(self, folder: Path, *, postgres_settings: Mapping[str, str] | None = None) -> None:
        """Store where the services are; nothing is started or created yet.

        Args:
            folder: created if missing, readable by nobody else.
            postgres_settings: settings in addition to ours (`fsync=off` in tests), if this process starts the server.
        """
        self.folder = folder.expanduser().resolve()
        self._sockets = _sockets_folder(self.folder)
        self._postgres = PostgresProgram(self.folder, self._sockets, postgres_settings or {})
        self._redis = RedisProgram(self.folder, self._sockets)
        self.postgres = Server(self._postgres, self.folder)
        self.redis = Server(self._redis, self.folder)
        self._users_lock: int | None = None

    @property
    def database_url(self) -> str:
        """The URL `postgresql://darkroom@/darkroom?host=...`; its user owns everything in the database."""
        return self._postgres.url().text()

    @property
    def redis_url(self) -> str:
        """The URL `unix:///...` of Redis."""
        return self._redis.url()

    def is_running(self) -> bool:
        """Whether both servers run, whichever process started them. Nothing is started or changed."""
        return self.postgres.is_running() and self.redis.is_running()

    @property
    def users_lock(self) -> int | None:
        """The descriptor of the shared lock by which this process is a user of the services; None if it isn't."""
        return self._users_lock

    def open(self) -> None:
        """Register as a user of the services, start both servers unless they run, and return when both accept clients.

        Raises:
            EmbeddedServiceError: the folder, the disk or a server prevents it.
        """
        try:
            for made in (self.folder.parent, self.folder):  # mkdir applies the mode only to the last part of a path
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(self._sockets)
            if self._sockets.parent != self.folder:
                _link(self.folder / "sockets", self._sockets)
            with exclusive_lock(self.folder / "turn.lock", timeout_s=_TURN_TIMEOUT_S):
                users = open_lock(self.folder / "users.lock")
                try:
                    _share(users)
                    _start_guard(self.folder)  # started first, because this process may be killed at any moment
                    self.redis.spawn()  # it starts while PostgreSQL does
                    self.postgres.start()
                    self.redis.wait_ready()
                except BaseException:
                    self._leave(users)
                    raise
        except (OSError, UnicodeError) as error:
            raise EmbeddedServiceError(
                f"cannot use {self.folder} for the embedded services: {_reason(error)}; set DARKROOM_HOME to a folder "
                "of yours with room, or DATABASE_URL and REDIS_URL"
            ) from error
        self._users_lock = users
        _open_instances.add(self)

    def close(self) -> None:
        """End this process's use of the services; the last user stops the servers. A second call does nothing.

        Raises:
            EmbeddedServiceError: a server doesn't stop.
        """
        if self._users_lock is None:
            return
        users, self._users_lock = self._users_lock, None
        _open_instances.discard(self)
        try:
            with exclusive_lock(self.folder / "turn.lock", timeout_s=_TURN_TIMEOUT_S):
                self._leave(users)
        except OSError as error:
            raise EmbeddedServiceError(f"cannot stop the embedded services in {self.folder}: {error}") from error

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _leave(self, users: int) -> None:
        """Release the shared lock, and stop the servers if no other process holds it. The caller holds `turn.lock`."""
        try:
            if try_lock(users, exclusive=True):
                self.stop_servers()
        finally:
            os.close(users)

    def stop_servers(self) -> None:
        """Stop running servers. The caller holds `turn.lock`, and no user is left.

        Raises:
            EmbeddedServiceError: a server doesn't stop.
        """
        for server in (self.redis, self.postgres):
            if server.is_running():
                server.stop()

    def _forget(self) -> None:
        """Close descriptors that a fork copied: the parent process is the user, and its lock must end with it."""
        if self._users_lock is not None:
            with suppress(OSError):
                os.close(self._users_lock)
            self._users_lock = None


def _start_guard(folder: Path) -> None:
    """Start the guard if it doesn't run yet. The caller holds `turn.lock`."""
    if is_locked(folder / "guard.lock"):
        return
    with (
        exclusive_lock(folder / "guard.lock", timeout_s=_GUARD_END_S) as lock,
        (folder / "guard.log").open("wb") as log,
    ):
        subprocess.run(
            # the shell ends at once, so that init reaps the guard, whichever process started it
            ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-P", "-m", _GUARD, str(folder), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=server_environment() | {"PYTHONPATH": str(_CODE_FOLDER), "PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=(lock,),
            start_new_session=True,
            check=True,
        )


def _forget_in_child() -> None:
    for instance in list(_open_instances):
        instance._forget()  # noqa: SLF001  (same module)


os.register_at_fork(after_in_child=_forget_in_child)


def _sockets_folder(folder: Path) -> Path:
    """Return the folder of the sockets: in the folder, or a short path under the temp folder if that path is too long.

    A link in the folder keeps the short path, so that processes with different TMPDIR find the same folder.
    """
    inside = folder / "sockets"
    if len(os.fsencode(inside / _LONGEST_SOCKET_NAME)) <= _SOCKET_PATH_LIMIT_BYTES:
        return inside
    name = f"darkroom-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    with suppress(OSError):
        target = inside.readlink()
        if (
            target.name == name and target.parent.is_dir()
        ):  # otherwise the folder was copied or moved, and the link belongs to another one
            return target
    short = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(short / name / _LONGEST_SOCKET_NAME)) > _SOCKET_PATH_LIMIT_BYTES:
        short = Path("/tmp")  # noqa: S108  (the folder in it is private, and checked)
    return short / name


def _make_private(sockets: Path) -> None:
    """Create the folder of the sockets with mode 0700, because any process that reaches a socket is admitted.

    Raises:
        EmbeddedServiceError: the folder exists already, and belongs to another user or lets other users in.
    """
    sockets.mkdir(mode=0o700, exist_ok=True)
    found = sockets.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EmbeddedServiceError(f"{sockets} is not a folder of ours alone (mode 0700); remove it and try again")


def _link(link: Path, target: Path) -> None:
    with suppress(OSError):
        if link.readlink() == target:
            return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _reason(error: OSError | UnicodeError) -> str:
    """Say why a folder can't be used, without the error's number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _share(users: int) -> None:
    # An exclusive lock is taken only while `turn.lock` is held, which this process holds now
    if not try_lock(users, exclusive=False):
        raise BlockingIOError("users.lock is locked by a program that isn't ours")
