"""Fixtures for every test: real services, and a migrated database of its own."""

import asyncio
import gc
import importlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.applications import registry
from models.database import Database
from models.schema.migrate import upgrade
from tests.support.brokers import broker_server, fleet_broker_url, rabbitmq  # noqa: F401 - fixtures, found by their names
from tests.support.fast_folder import parent_of_data
from workers.services.instance import EmbeddedInstance

FAST_AND_LOSABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "max_wal_size": "256MB",
}
TEMPLATE = "darkroom_template"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests with a fleet be run on another broker: --broker rabbitmq."""
    parser.addoption("--broker", choices=["redis", "rabbitmq"], default="redis", help="what wakes the fleets of tests")


def pytest_configure(config: pytest.Config) -> None:
    """Give the processes that tests start the signals that `nohup` or a script has this one ignore.

    A handler of ours ignores them here as well, and isn't inherited. The process that only deals out the tests keeps
    them ignored, and with it those to which it deals until they come by here.
    """
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    gc.disable()  # nothing of what the collection makes is garbage
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


DRAINED = registry.applications()
"""`pictures`, and what a plugin has added to it."""

HERE = Path(__file__).parent
WITH_PROCESSES = ("acceptance", "chaos")
"""Folders whose tests start processes, and wait for them more than they compute."""

LONGEST = (
    *("test_chaos", "test_crash_points", "test_quality", "test_demo", "test_set_up", "test_third_table"),
    *("test_decision", "test_imaging_pool", "test_kept_answers", "test_plans", "test_kept_plans", "test_gate"),
    *("test_supervision", "test_networks", "test_gemini", "test_row_security", "test_faults_inside"),
    *("test_unrelated_relations", "test_db_upgrade", "test_workers", "test_scheduler", "test_wheel", "test_model"),
    *(
        "test_page_examples",
        "test_odd_answers",
        "test_imaging_odd_files",
        "test_process_start",
        "test_raised_states",
        "test_box_actions",
    ),
    *("test_several_pictures", "test_cli_application_file", "test_adopting_page", "test_studio", "test_studio_deaths"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files are dealt out to several processes, mix those whose tests wait with those whose tests compute.

    Files are dealt out in the order of the collection. Otherwise all processes would wait together at first, and at
    the end compete for the cores. The longest come first, so that none of them runs alone at the end.
    """
    if not hasattr(config, "workerinput"):
        return
    files = list(dict.fromkeys(item.path for item in items))
    files.sort(key=lambda file: LONGEST.index(file.stem) if file.stem in LONGEST else len(LONGEST))
    waiting = [file for file in files if file.relative_to(HERE).parts[0] in WITH_PROCESSES]
    computing = [file for file in files if file not in waiting]
    place = {
        file: (number / len(kind), kind is computing)
        for kind in (waiting, computing)
        for number, file in enumerate(kind)
    }
    items.sort(key=lambda item: place[item.path])


def pytest_collection(session: pytest.Session) -> None:
    """Where several processes collect, let each compile its share of the test modules first.

    Each needs all of them. Without this, all would compile the same module at the same time, one after the other, which
    takes ten seconds of each core in a fresh clone.
    """
    if hasattr(session.config, "workerinput"):
        number = int(session.config.workerinput["workerid"].removeprefix("gw"))
        count = session.config.workerinput["workercount"]
        for path in sorted(HERE.rglob("test_*.py"))[number::count]:
            importlib.import_module(".".join(path.relative_to(HERE.parent).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never look through what was collected of tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def only_pictures() -> Iterator[None]:
    """Let this process drain what it drained at first: an upgrade makes it drain what is recorded in its database."""
    registry.use(DRAINED)
    yield
    registry.use(DRAINED)


@pytest.fixture(scope="session")
def services() -> Iterator[EmbeddedInstance]:
    """One PostgreSQL and one Redis for all tests of this process, without durability."""
    with tempfile.TemporaryDirectory(prefix="dk", dir=parent_of_data()) as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        with EmbeddedInstance(Path(folder), postgres_settings=FAST_AND_LOSABLE) as instance:
            yield instance


@pytest.fixture(scope="session")
def template(services: EmbeddedInstance) -> str:
    """Name of a migrated database that others are copied from."""
    url = parse_postgres_url(services.database_url)

    async def make() -> None:
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(f"CREATE DATABASE {TEMPLATE}")
        await connection.close()
        await upgrade(url.with_database(TEMPLATE).text(), prices=PRICES_TOKENS)

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture
async def database_url(services: EmbeddedInstance, template: str) -> AsyncIterator[str]:
    """URL of a migrated database in mode managed, this test's own."""
    url = parse_postgres_url(services.database_url)
    name = f"test_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(**url.asyncpg_arguments())
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield url.with_database(name).text()
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """This test's database, opened as workers open it."""
    database = Database(parse_postgres_url(database_url), most_connections=20, keeps_plans=True)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def redis_url(services: EmbeddedInstance) -> str:
    """URL of a Redis whose keys this test shares with others of its process."""
    return services.redis_url
