"""Fixtures: the database of an application whose jobs make several pictures."""

import asyncio

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.schema.migrate import upgrade
from tests.integration.queue.conftest import eventually
from tests.integration.several_pictures.ddl import TABLES

__all__ = ["eventually"]


@pytest.fixture(scope="session")
def template(services):
    """Name of a database whose application has the table, upgraded."""
    url = parse_postgres_url(services.database_url)

    async def make():
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute("CREATE DATABASE studies_template")
        await connection.close()
        connection = await asyncpg.connect(**url.with_database("studies_template").asyncpg_arguments())
        await connection.execute(TABLES)
        await connection.close()
        url_of_it = url.with_database("studies_template").text()
        await upgrade(url_of_it, prices=PRICES_TOKENS, applications=("pictures", "atelier"), with_application=True)

    asyncio.run(make())
    return "studies_template"
