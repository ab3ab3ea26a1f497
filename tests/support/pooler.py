"""A real PgBouncer in transaction mode, in front of the tests' PostgreSQL."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.postgres_url import parse_postgres_url
from tests.support.patience import HANGS_AFTER_S

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="PgBouncer isn't installed here: apt-get install pgbouncer"
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pgbouncer(database_url: str, folder: Path, **settings: object) -> Iterator[str]:
    """Run one; yield the URL that leads through it to the same database, and says nothing of a pooler."""
    server, port = parse_postgres_url(database_url), _free_port()
    place = f"host={server.host} port={server.port} user={server.user}"
    place += f" password={server.password}" if server.password else ""
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": 3,
        "max_client_conn": 200,
        **settings,
    }
    text = f"[databases]\n* = {place}\n[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    path = folder / f"pgbouncer-{port}.ini"
    path.write_text(text)
    as_user = {}
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        sockets = Path(str(server.host))
        for opened in (path, *path.parents, sockets, *sockets.parents, *sockets.glob(".s.PGSQL.*")):
            with contextlib.suppress(PermissionError):
                opened.chmod(opened.stat().st_mode | (0o777 if opened.is_socket() else 0o055))
    log = (folder / f"pgbouncer-{port}.log").open("w+b")
    with log, subprocess.Popen([str(PGBOUNCER), str(path)], stderr=log, stdout=log, **as_user) as process:
        try:
            until_s = time.monotonic() + HANGS_AFTER_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                log.seek(0)
                assert process.poll() is None and time.monotonic() < until_s, log.read().decode()  # noqa: PT018
                time.sleep(0.05)
            yield f"postgresql://{server.user}@127.0.0.1:{port}/{server.database}"
        finally:
            process.kill()
