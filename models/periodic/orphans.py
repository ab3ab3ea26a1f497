"""Objects that no row refers to, as far as the rows know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from models.database import Connection


class Found(Protocol):
    """What is asked of an object in storage."""

    @property
    def key(self) -> str:
        """Where it lies."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its length."""
        ...

    @property
    def modified_at(self) -> datetime:
        """When it was stored."""
        ...


async def unreferenced(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return the keys that stand in no row, and aren't a result of a job that is still under way."""
    if not keys:
        return set()
    rows = await connection.fetch("SELECT key FROM darkroom.unreferenced($1) key", list(keys), timeout=600)
    return {row["key"] for row in rows}


async def remember_orphans(connection: Connection, found: Sequence[Found], at: datetime) -> tuple[list[str], int]:
    """Report orphans that are new; return those that an earlier run has reported, now noted as removed, and the count.

    An object that was stored again since its report is new.
    """
    if not found:
        return [], 0
    columns = (
        [one.key for one in found],
        [one.size_bytes for one in found],
        [one.modified_at for one in found],
    )
    rows = await connection.fetch(
        """INSERT INTO darkroom.orphans AS o (key, size_bytes, modified_at, found_at)
           SELECT n.*, $4 FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) n
           ORDER BY 1
           ON CONFLICT (key) DO UPDATE
           SET size_bytes = excluded.size_bytes, modified_at = excluded.modified_at,
               found_at = CASE WHEN o.modified_at = excluded.modified_at THEN o.found_at ELSE excluded.found_at END,
               removed_at = CASE WHEN o.modified_at = excluded.modified_at AND o.found_at < excluded.found_at
                                 THEN excluded.found_at END
           RETURNING o.key, o.removed_at IS NOT NULL AS is_removed""",
        *columns,
        at,
    )
    removable = [row["key"] for row in rows if row["is_removed"]]
    return removable, len(rows) - len(removable)


async def finished_inputs(connection: Connection, keys: Sequence[str], before: datetime) -> list[str]:
    """Return the inputs whose MODIFY job ended before a time (UTC); another job's input is never among them."""
    rows = await connection.fetch(
        """SELECT g."inputImageR2Key" AS key FROM public.mcp_generation_jobs g
           WHERE g.id = ANY (SELECT split_part(regexp_replace(key, '^.*/', ''), '.', 1) FROM unnest($1::text[]) key)
             AND g."inputImageR2Key" = ANY ($1) AND darkroom.is_terminal(g.status) AND g."updatedAt" < $2
             AND NOT EXISTS (SELECT FROM darkroom.job_queue q JOIN public.mcp_generation_jobs o ON o.id = q.job_id
                             WHERE o."inputImageR2Key" = g."inputImageR2Key")""",
        list(keys),
        before,
    )
    return [row["key"] for row in rows]
