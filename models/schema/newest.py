"""The newest rows of a table of the application's that has no index of times: those that were probably added last."""

from typing import Final

from models.connections import Connection

LAST_BLOCKS: Final = 8
"""So many blocks of 8 KiB at the table's end are looked at; a table that has no more of them is read as a whole."""

LAST_IDS: Final = 200
"""So many rows with the greatest ids are looked at, since ids are often in the order of time."""

_BLOCKS: Final = """
SELECT pg_relation_size(c.oid) / current_setting('block_size')::bigint FROM pg_class c
WHERE c.oid = to_regclass($1) AND c.relkind = 'r'
"""


async def newest_rows(connection: Connection, relation: str, columns: str, most: int) -> str:
    """Return a query of the rows, as `r`, that seem to be the newest by `createdAt` and `id`; it is a FROM item.

    PostgreSQL adds rows at the end of a table unless there is room elsewhere. Rows of the last blocks and rows with the
    greatest ids are read, and the newest of them returned: in a small table they are exactly the newest ones.

    Args:
        connection: any connection.
        relation: the table with its schema.
        columns: a list of columns of `r`, with `id` and `createdAt`.
        most: how many rows at most.
    """
    blocks = await connection.fetchval(_BLOCKS, relation)
    first = None if blocks is None else max(0, int(blocks) - LAST_BLOCKS)
    last = "" if first is None else f"SELECT {columns} FROM {relation} r WHERE r.ctid >= '({first},0)'::tid UNION ALL "
    return f"""(
    SELECT * FROM (
        SELECT DISTINCT ON (r.id) r.* FROM (
            {last}(SELECT {columns} FROM {relation} r ORDER BY r.id DESC LIMIT {LAST_IDS})) r ORDER BY r.id) r
    ORDER BY r."createdAt" DESC, r.id DESC LIMIT {most})"""
