"""Orphans, objects of Darkroom's that no row names any more: pages of candidates, reports, and removals."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models.applications.registry import has_pictures, job_tables
from models.connections import Connection
from models.history.objects import INPUT, ORIGINAL, PROBE, OwnObject, forget_objects
from models.job_tables.rendering import UNFINISHED, as_id, labels, types
from models.job_tables.table import JobTable

PAGE: Final = 50_000
"""How many of Darkroom's records of objects a chunk reads.

Whether an object is an orphan is nearly always decided by its own job or picture, which is found by primary key.
"""

APPLICATION_BRANCH: Final = "application_%"
"""Pattern, for SQL's LIKE, of the revisions of the branch that makes the application's tables."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of Darkroom's records of objects, in order of their keys.

    Attributes:
        named: keys that the row of their own job or picture names, and keys whose job is unfinished.
        unnamed: the other keys.
        last: where the next page begins; None after the last one.
    """

    named: Sequence[str]
    unnamed: Sequence[OwnObject]
    last: Any


# Whether an object's own job or picture names the object is looked up by primary keys. While a job runs, its row
# doesn't name its result yet, so objects of unfinished jobs count as named.
def _is_named_by(table: JobTable) -> str:
    has_key = f"j.{table.key_column} = p.key OR " if table.key_column else ""
    return f"""WHEN p.job_type IN ({types(table)}) THEN EXISTS (
         SELECT FROM {table.name} j WHERE j.{table.id_column} = {as_id(table, "p.job_id")}
         AND ({has_key}j.{table.status_column} IN ({labels(table, UNFINISHED)})))"""


_OF_A_PICTURE: Final = f"""
     WHEN p.job_type = '{ORIGINAL}' THEN EXISTS (
         SELECT FROM public.enhanced_images i WHERE i.id = p.job_id AND i."originalR2Key" = p.key)"""


def _is_named() -> str:
    by_jobs = "\n     ".join(_is_named_by(table) for table in job_tables())
    return f"""
CASE {by_jobs}{_OF_A_PICTURE if has_pictures() else ""}
     WHEN p.job_type IN ('{INPUT}', '{PROBE}') THEN false
     WHEN strpos(p.job_type, '.') > 0 THEN true -- of an application that isn't drained any more
     ELSE darkroom.unknown_type(p.job_type)::boolean END
"""


def _objects() -> str:
    return f"""
WITH page AS MATERIALIZED (
    SELECT o.* FROM darkroom.objects o WHERE o.key > $1 AND o.written_at <= $2 ORDER BY o.key LIMIT $3)
SELECT p.key, p.sha256, p.size_bytes, p.written_at, {_is_named()} AS is_named FROM page p ORDER BY p.key
"""


# An object from before darkroom.objects existed is known only by its artifact, until retention deletes the artifact.
def _artifacts() -> str:
    return f"""
WITH page AS MATERIALIZED (
    SELECT a.job_type, a.job_id, a.key, a.sha256, a.bytes AS size_bytes, a.created_at AS written_at
    FROM darkroom.artifacts a
    WHERE (a.job_type, a.job_id) > ($1, $2) AND a.created_at <= $3
      AND NOT EXISTS (SELECT FROM darkroom.objects o WHERE o.key = a.key)
      AND NOT EXISTS (SELECT FROM darkroom.orphans r WHERE r.key = a.key AND r.removed_at IS NOT NULL)
    ORDER BY a.job_type, a.job_id LIMIT $4)
SELECT p.job_type, p.job_id, p.key, p.sha256, p.size_bytes, p.written_at, {_is_named()} AS is_named
FROM page p ORDER BY p.job_type, p.job_id
"""


async def object_page(connection: Connection, after: str, before: datetime, size: int = PAGE) -> Page:
    """Return the next page of the objects that were stored before a time, ordered by key."""
    rows = await connection.fetch(_objects(), after, before, size, timeout=600)
    return _page(rows, size, rows[-1]["key"] if rows else None)


async def artifact_page(connection: Connection, after: Sequence[str], before: datetime, size: int = PAGE) -> Page:
    """Return the next page of the pictures that were stored before a time and that only an artifact records.

    They are ordered by job type and job.
    """
    rows = await connection.fetch(_artifacts(), *after, before, size, timeout=600)
    return _page(rows, size, [rows[-1]["job_type"], rows[-1]["job_id"]] if rows else None)


def _page(rows: Sequence[Any], size: int, last: Any) -> Page:
    unnamed = [
        OwnObject(row["key"], row["sha256"], row["size_bytes"], row["written_at"])
        for row in rows
        if not row["is_named"]
    ]
    return Page([row["key"] for row in rows if row["is_named"]], unnamed, last if len(rows) == size else None)


async def are_tables_ours(connection: Connection) -> bool:
    """Return whether Darkroom made the application's tables; otherwise other programs may store objects as well."""
    value: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM darkroom.alembic_version v WHERE v.version_num LIKE $1)", APPLICATION_BRANCH
    )
    return value


async def written_by_us(connection: Connection, keys: Collection[str]) -> set[str]:
    """Return those keys that Darkroom recorded when it stored an object."""
    rows = await connection.fetch("SELECT o.key FROM darkroom.objects o WHERE o.key = ANY ($1)", list(keys))
    return {row["key"] for row in rows}


async def report_orphans(connection: Connection, found: Sequence[OwnObject], at: datetime) -> tuple[int, set[str]]:
    """Report orphans; return how many are new, and the keys of those that an earlier run reported.

    An object that was stored again since its report counts as new.
    """
    if not found:
        return 0, set()
    rows = await connection.fetch(
        """WITH known AS (SELECT r.key, r.modified_at, r.found_at FROM darkroom.orphans r
                          WHERE r.key = ANY ($1) AND r.removed_at IS NULL),
           reported AS (
               INSERT INTO darkroom.orphans AS o (key, size_bytes, modified_at, found_at)
               SELECT n.*, $4 FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) n
               ORDER BY 1
               ON CONFLICT (key) DO UPDATE
               SET size_bytes = excluded.size_bytes, modified_at = excluded.modified_at, removed_at = NULL,
                   found_at = CASE WHEN o.modified_at = excluded.modified_at AND o.removed_at IS NULL
                                   THEN o.found_at ELSE excluded.found_at END
               RETURNING o.key, o.modified_at)
           SELECT p.key, k.found_at IS NULL AS is_new, coalesce(k.found_at < $4, false) AS is_earlier
           FROM reported p LEFT JOIN known k ON k.key = p.key AND k.modified_at = p.modified_at""",
        [one.key for one in found],
        [one.size_bytes or 0 for one in found],
        [one.written_at for one in found],
        at,
    )
    return sum(row["is_new"] for row in rows), {row["key"] for row in rows if row["is_earlier"]}


async def withdraw_reports(connection: Connection, keys: Collection[str]) -> None:
    """Delete the reports of objects that a row names again.

    If such an object becomes an orphan again, one run has to report it anew before a later run may remove it.
    """
    await connection.execute(
        "DELETE FROM darkroom.orphans o WHERE o.key = ANY ($1) AND o.removed_at IS NULL", list(keys)
    )


async def note_removed(
    connection: Connection, removed: Sequence[OwnObject], foreign: Sequence[OwnObject], at: datetime
) -> None:
    """Record which orphans were removed, and delete their records and those of objects that other programs own now."""
    await connection.execute(
        "UPDATE darkroom.orphans o SET removed_at = $2 WHERE o.key = ANY ($1)", [one.key for one in removed], at
    )
    await withdraw_reports(connection, [one.key for one in foreign])
    await forget_objects(connection, [*removed, *foreign])


_REPORTED: Final = """
SELECT count(*) AS orphans, coalesce(sum(o.size_bytes), 0)::bigint AS size_bytes FROM darkroom.orphans o
WHERE o.removed_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class ReportedOrphans:
    """How many orphans are reported and not removed yet, and their total size."""

    orphans: int
    size_bytes: int


async def reported_orphans(connection: Connection) -> ReportedOrphans:
    """Count the orphans that are reported and not removed yet."""
    row = await connection.fetchrow(_REPORTED)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return ReportedOrphans(**row)
