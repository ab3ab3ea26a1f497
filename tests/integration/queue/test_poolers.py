"""Connections through a pooler: one that the URL names, and one that is detected."""

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.listening import cannot_listen


async def test_prepared_statements_that_are_gone_are_taken_for_a_pooler_and_work_goes_on(database_url):
    database = Database(parse_postgres_url(database_url), most_connections=1)
    await database.open()
    try:
        assert await database.fetchval("SELECT 1") == 1
        await database.fetch("DEALLOCATE ALL")  # what a pooler's other clients leave of them

        assert await database.fetchval("SELECT 1") == 1

        assert database.is_behind_pooler
        assert await database.fetchval("SHOW lock_timeout") == "800ms"
    finally:
        await database.close()


async def test_statement_names_that_are_taken_are_taken_for_a_pooler_and_work_goes_on(database_url):
    database = Database(parse_postgres_url(database_url), most_connections=1)
    await database.open()
    try:
        name = (await database.fetch("SELECT name FROM pg_prepared_statements"))[0]["name"]
        prefix, number = name.rstrip("_").rsplit("_", 1)
        for later in range(1, 20):  # as another client of the same session would
            taken = f"{prefix}_{int(number, 16) + later:x}__"
            await database.run(lambda connection, taken=taken: connection.execute(f'PREPARE "{taken}" AS SELECT 2'))

        assert await database.fetchval("SELECT 41 + 1") == 42

        assert database.is_behind_pooler
    finally:
        await database.close()


@pytest.mark.parametrize("has_direct_url", [True, False])
async def test_pooler_that_the_url_names_means_that_nobody_listens_unless_there_is_a_way_past_it(
    database_url, has_direct_url
):
    pooled = f"{database_url}{'&' if '?' in database_url else '?'}pgbouncer=true"
    direct = parse_postgres_url(database_url) if has_direct_url else None
    database = Database(parse_postgres_url(pooled), direct_url=direct)
    await database.open()
    try:
        assert database.is_behind_pooler
        assert await cannot_listen(database) is not has_direct_url
    finally:
        await database.close()


async def test_refusal_of_a_connection_names_postgresqls_own_words(database_url):
    database = Database(parse_postgres_url(database_url).with_database("nowhere"))

    with pytest.raises(asyncpg.InvalidCatalogNameError, match="nowhere"):
        await database.open()
