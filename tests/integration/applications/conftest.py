"""Fixtures: databases of shops that Darkroom has never seen, without its schema."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from tests.support.frames_file import TABLES


@pytest.fixture(scope="module")
def shop_url(services):
    """URL of a database with the tables of the contract's shop in public, for the tests of a module."""
    url = parse_postgres_url(services.database_url)
    name = f"shop_{uuid4().hex[:12]}"

    async def on_admin(sql):
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(sql)
        await connection.close()

    async def make():
        await on_admin(f"CREATE DATABASE {name}")
        connection = await asyncpg.connect(**url.with_database(name).asyncpg_arguments())
        await connection.execute(TABLES)
        await connection.close()

    asyncio.run(make())
    yield url.with_database(name).text()
    asyncio.run(on_admin(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def shop(shop_url):
    """A connection to the shop in a transaction that is rolled back."""
    connection = await asyncpg.connect(**parse_postgres_url(shop_url).asyncpg_arguments())
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()
