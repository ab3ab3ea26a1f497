"""What an operation's statements cost the database, as EXPLAIN says when each is done once more."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from models.connections import Connection
from models.database import Database
from pipelines.settings import Settings
from workers.process.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """How many statements there were, the blocks that they read, and the most rows that one sequential scan read."""

    statements: int
    buffers: int
    most_rows_of_a_scan: int


class _OneConnection:
    """Stands for a database: everything runs on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await work(self._connection)


async def cost_of(database: Database, work: Callable[[Runtime], Awaitable[T]]) -> tuple[T, Cost]:
    """Do something that reads; return its result, and what its statements cost."""
    asked: list[tuple[str, tuple[Any, ...]]] = []
    async with database.connection() as connection:
        runtime = Runtime(Settings(), cast("Any", None), cast("Database", _OneConnection(connection)), "")
        await connection.execute("SET default_transaction_read_only = on")  # as in the sessions that pages read in
        with connection.query_logger(lambda record: asked.append((record.query, record.args or ()))):
            result = await work(runtime)
        await connection.execute("RESET default_transaction_read_only")
        buffers = most = 0
        for query, values in asked:
            explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *values)
            plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
            buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            scans = [node for node in _nodes(plan) if node["Node Type"] == "Seq Scan"]
            rows = (
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans
            )
            most = max([most, *(int(number) for number in rows)])
    return result, Cost(len(asked), buffers, most)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
