"""Alembic's environment: runs the revisions on the connection that Darkroom gives, or on a developer's own URL.

A developer's command is `alembic -x url=postgresql+asyncpg://... revision --autogenerate ...`.
"""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from models.applications.pictures.tables import metadata
from models.schema.migrations.session import SCHEMA, prepare


def _run(connection: Connection) -> None:
    prepare(connection)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run_on_url(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def main() -> None:
    """Run the revisions that alembic's current command asks for."""
    if context.is_offline_mode():
        raise CommandError("SQL for later can't be written: what is to be done depends on what the database holds")
    given = context.config.attributes.get("connection")
    if given is not None:
        _run(given)
        return
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(url, str):
        raise CommandError("name the database: alembic -x url=postgresql+asyncpg://user@host/name ...")
    asyncio.run(_run_on_url(url))


main()
