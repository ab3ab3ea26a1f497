"""Parts of the statement that writes transitions: what is written beside a job's row, its queue row and its history."""

from typing import Final

from models.job_state import JobStatus
from models.job_tables.rendering import label, over
from models.job_tables.table import JobTable

KEPT: Final = """
    kept AS (
        INSERT INTO darkroom.checkpoints (job_type, job_id, stage, output)
        SELECT held.job_type, held.job_id, k.stage, k.output
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_to_recordset(held.kept) k (stage text, output jsonb)
        -- a statement that is repeated after a lost answer writes the same row again
        ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now())"""
"""Outputs of finished stages, for which the job's row has no columns."""

ARTIFACT: Final = """
    artifacts AS (
        INSERT INTO darkroom.artifacts
            (job_type, job_id, user_id, input_hash, key, sha256, bytes, width, height, model, temperature, treatments)
        SELECT held.job_type, held.job_id, held.user_id, a.input_hash, a.key, a.sha256, a.size_bytes, a.width_px,
               a.height_px, a.model, a.temperature, a.treatments
        FROM held CROSS JOIN LATERAL jsonb_to_record(held.artifact) a (
            input_hash text, key text, sha256 text, size_bytes bigint, width_px integer, height_px integer, model text,
            temperature float8, treatments text[])
        WHERE held.artifact IS NOT NULL
        ON CONFLICT (job_type, job_id) DO UPDATE
        SET input_hash = excluded.input_hash, key = excluded.key, sha256 = excluded.sha256, bytes = excluded.bytes,
            width = excluded.width, height = excluded.height, model = excluded.model,
            temperature = excluded.temperature, treatments = excluded.treatments, created_at = now(),
            user_id = excluded.user_id)"""
"""The record of a stored picture, which is written even if a trigger keeps the job's end from being written."""

_PICTURE: Final = """id text, n integer, key text, url text, width_px integer, height_px integer, size_bytes bigint,
            sha256 text, model text, temperature float8"""


def result_rows(table: JobTable) -> str:
    """Return the write of a row for each picture of a completed job; empty if the table has none for them.

    It depends on the write of the job's row, so it happens once: a job that is completed has no queue row any more.
    """
    if (rows := table.result_rows) is None:
        return ""
    return f"""
    result_rows AS (
        INSERT INTO {rows.table} ({", ".join(rows.columns)})
        SELECT {", ".join(rows.columns.values())}
        FROM completed JOIN held USING (n) CROSS JOIN LATERAL (SELECT (completed.job).*) r
        CROSS JOIN LATERAL jsonb_to_recordset(held.pictures) p (
            {_PICTURE})
        WHERE completed.label::text = {label(table, JobStatus.COMPLETED)}
        ORDER BY held.n, p.n)"""


def made_columns(table: JobTable) -> tuple[str, ...]:
    """Return the assignment to those columns of a completed job that `result_sql` makes; none if it makes none."""
    if table.result_sql is None:
        return ()
    names = [f'"{name}"' for name in table.result_sql_columns]
    made = over(table.result_sql, "j").replace("$facts", "(held.pictures -> 0)")
    return (
        f"""({", ".join(names)}) = (
                SELECT {", ".join(f"made.{name}" for name in names)}
                FROM jsonb_populate_record(j, CASE WHEN held.pictures IS NOT NULL THEN {made} END) made)""",
    )
