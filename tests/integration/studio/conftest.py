"""Fixtures: a database that holds only the tables of `studio`, with users and files."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from config.postgres_url import PostgresUrl, parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.applications import registry
from models.applications.studio.application import application
from models.schema.migrate import upgrade
from tests.integration.queue.conftest import connect, eventually, foreign

__all__ = ["connect", "eventually", "foreign"]

TABLES = (Path(__file__).parent / "tables.sql").read_text()

ROWS = """
INSERT INTO users (_id, email, "tokenBalance")
VALUES ('u1', 'u1@example.org', 20), ('u2', 'u2@example.org', 5), ('poor', 'poor@example.org', 1);
INSERT INTO files (_id, "userId", category, "storageId")
VALUES ('f1', 'u1', 'product_image', 'uploads/u1/shirt.png'), ('f2', 'u1', 'model_image', 'uploads/u1/model.png'),
       ('f3', 'u1', 'profile_image', 'uploads/u1/face.png'), ('f4', 'u2', 'product_image', 'uploads/u2/cup.png');
"""


async def make_database(url: PostgresUrl, name: str) -> None:
    """Make a database with the tables of studio alone and these rows, upgraded, on a server."""
    connection = await asyncpg.connect(**url.asyncpg_arguments())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    connection = await asyncpg.connect(**url.with_database(name).asyncpg_arguments())
    await connection.execute(TABLES + ROWS)
    await connection.close()
    await upgrade(url.with_database(name).text(), mode="managed", prices=PRICES_TOKENS)


@pytest.fixture(scope="session")
def template(services) -> str:
    """Name of such a database, which others are copied from."""
    asyncio.run(make_database(parse_postgres_url(services.database_url), "studio_template"))
    return "studio_template"


@pytest.fixture(autouse=True)
def studio(only_pictures: None) -> None:
    """Let this process drain studio."""
    registry.use([application("public")])
