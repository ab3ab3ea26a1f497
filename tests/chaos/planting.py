"""Faults that a test writes into a database to see that an audit names them."""

from collections.abc import Iterable

from models.connections import Connection


async def plant(connection: Connection, statements: Iterable[str]) -> None:
    """Write past every trigger, as nobody may, in the caller's transaction."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("SET LOCAL session_replication_role = origin")
