"""VACUUM of the queue's table, more often than autovacuum comes by.

Each job leaves two or three dead rows. Autovacuum looks at a database once a minute, and later while its processes are
busy with larger tables; at thousands of jobs a second the table grows by what has died in between.
"""

import time
from typing import Final

from models.connections import session_losses_translated
from models.database import Database

_IS_DUE: Final = """
SELECT pg_has_role(c.relowner, 'USAGE')
       AND pg_stat_get_dead_tuples(c.oid) > 10000 + 0.05 * pg_stat_get_live_tuples(c.oid)
FROM pg_class c WHERE c.oid = 'darkroom.job_queue'::regclass
"""
# Neither waits for a lock nor takes one for which a claim or an INSERT would wait. The table doesn't become shorter by
# it: autovacuum sees to that in quieter moments.
_VACUUM: Final = "VACUUM (SKIP_LOCKED, TRUNCATE false) darkroom.job_queue"
_MOST_S: Final = 3600.0
"""The pool's limit for a statement, a minute, would cut off each VACUUM of a long queue, and none would ever end."""


async def vacuum_queue(database: Database) -> float | None:
    """Let new rows use the space of dead ones if there are many of these; return how many seconds that took.

    Return None if there are few, or if this role doesn't own the table and so has to leave it to autovacuum.

    Raises:
        DatabaseLostError: PostgreSQL can't be used now.
    """
    if not await database.fetchval(_IS_DUE):
        return None
    began_s = time.monotonic()
    async with database.connection() as connection, session_losses_translated(connection):
        await connection.execute(_VACUUM, timeout=_MOST_S)  # in no transaction, also behind a pooler
    return time.monotonic() - began_s
