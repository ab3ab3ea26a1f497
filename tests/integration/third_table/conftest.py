"""Fixtures: the database of an application that has the third job table, too."""

import asyncio

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.schema.migrate import upgrade
from tests.integration.queue.conftest import connect
from tests.integration.third_table.ddl import TABLES

__all__ = ["connect"]

NAMES = ("pictures", "shop")


@pytest.fixture(scope="session")
def template(services):
    """Name of a database whose application has the third table, too, upgraded."""
    url = parse_postgres_url(services.database_url)

    async def make():
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute("CREATE DATABASE frames_template")
        await connection.close()
        connection = await asyncpg.connect(**url.with_database("frames_template").asyncpg_arguments())
        await connection.execute(TABLES)
        await connection.execute("INSERT INTO public.customers VALUES (7, 10), (8, 1)")
        await connection.execute("""INSERT INTO public.shoppers VALUES ('ann', '{"credits": 5, "name": "Ann"}')""")
        await connection.close()
        await upgrade(
            url.with_database("frames_template").text(), prices=PRICES_TOKENS, applications=NAMES, with_application=True
        )

    asyncio.run(make())
    return "frames_template"
