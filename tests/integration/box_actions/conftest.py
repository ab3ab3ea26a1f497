"""Fixtures: the database of an application that has the table box_actions, and an endpoint that its jobs call."""

import asyncio

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.schema.migrate import upgrade
from tests.integration.box_actions.ddl import TABLES
from tests.integration.box_actions.endpoint import Endpoint
from tests.support.fleet import fleet

__all__ = ["fleet"]

NAMES = ("pictures", "boxes")


@pytest.fixture(scope="session")
def template(services):
    """Name of a database whose application has box_actions, too, upgraded."""
    url = parse_postgres_url(services.database_url)

    async def make():
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute("CREATE DATABASE actions_template")
        await connection.close()
        connection = await asyncpg.connect(**url.with_database("actions_template").asyncpg_arguments())
        await connection.execute(TABLES)
        await connection.close()
        await upgrade(
            url.with_database("actions_template").text(),
            prices=PRICES_TOKENS,
            applications=NAMES,
            with_application=True,
        )

    asyncio.run(make())
    return "actions_template"


@pytest.fixture
async def endpoint():
    """A server on loopback that answers as a test says."""
    server = Endpoint()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        server.release()
