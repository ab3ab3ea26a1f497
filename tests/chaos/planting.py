"""Faults that a test writes into a database to see that an audit names them, and that are gone after it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from models.connections import Connection


@asynccontextmanager
async def passing(connection: Connection) -> AsyncIterator[None]:
    """Roll back what is written in the context."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def plant(connection: Connection, statements: Iterable[str]) -> None:
    """Write past every trigger, as nobody may, in the caller's transaction."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("SET LOCAL session_replication_role = origin")
