"""VACUUM of the tables through which all jobs pass, more often than autovacuum comes by.

Each job leaves two or three dead rows in the queue, and one in the tables of freed slots and of ends. Autovacuum looks
at a database once a minute, and later while its processes are busy with larger tables. At thousands of jobs a second
these tables grow by what has died in between, and whoever looks for their first row passes all that are dead.
"""

import time
from typing import Final

from models.connections import session_losses_translated
from models.database import Database

_DUE: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN ('darkroom.job_queue'::regclass, 'darkroom.freed_slots'::regclass, 'darkroom.job_ends'::regclass)
  AND pg_has_role(c.relowner, 'USAGE')
  AND pg_stat_get_dead_tuples(c.oid) > 10000 + 0.05 * pg_stat_get_live_tuples(c.oid)
ORDER BY 1
"""
# Neither waits for a lock nor takes one for which a claim or an INSERT would wait. The table doesn't become shorter by
# it: autovacuum sees to that in quieter moments.
_VACUUM: Final = "VACUUM (SKIP_LOCKED, TRUNCATE false) {table}"
_MOST_S: Final = 3600.0
"""The pool's limit for a statement, a minute, would cut off each VACUUM of a long queue, and none would ever end."""


async def vacuum_queue(database: Database) -> float | None:
    """Let new rows use the space of dead ones where there are many of these; return how many seconds that took.

    Return None if there are few, or if this role doesn't own the tables and so has to leave them to autovacuum.

    Raises:
        DatabaseLostError: PostgreSQL can't be used now.
    """
    tables = [row["name"] for row in await database.fetch(_DUE)]
    if not tables:
        return None
    began_s = time.monotonic()
    async with database.connection() as connection, session_losses_translated(connection):
        for table in tables:
            # in no transaction, also behind a pooler
            await connection.execute(_VACUUM.format(table=table), timeout=_MOST_S)
    return time.monotonic() - began_s
