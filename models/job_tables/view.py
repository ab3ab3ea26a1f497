"""Rendering of the view of all jobs: the SELECT for the rows of one job table."""

from collections.abc import Iterable
from typing import Final

from models.job_tables.rendering import (
    as_state,
    as_types,
    id_as_text,
    last_write,
    over,
)
from models.job_tables.table import JobTable


def filled(parts: Iterable[str]) -> str:
    """Return a comma-separated list, broken into lines of up to 100 characters where its parts allow it."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _LINE_CHARS:
            lines.append("")
        lines[-1] += f"{part}, "
    return "\n       ".join(line.rstrip() for line in lines).rstrip(",")


_LINE_CHARS: Final = 100


def row_of_the_view(table: JobTable) -> str:
    """Return the SELECT by which view `darkroom.job_rows` shows the table's rows with given statuses, or all rows."""
    if table.are_labels_ours:
        is_asked_for = f"j.{table.status_column} OPERATOR(pg_catalog.=) ANY (statuses::{table.status_type}[])"
    else:
        state = as_state(table, f"j.{table.status_column}")
        is_asked_for = f"({state}) OPERATOR(pg_catalog.=) ANY (statuses)"
    if table.has_other_rows:
        is_asked_for = f"{is_asked_for}) AND ({over(table.job_type, 'j')} IS NOT NULL"
        return f"{_shown(table)}\nWHERE (statuses IS NULL OR {is_asked_for})"
    return f"{_shown(table)}\nWHERE statuses IS NULL OR {is_asked_for}"


def rows_of_the_view(table: JobTable) -> str:
    """Return the SELECT by which function `darkroom.jobs_of` finds rows by id, through the primary key's index."""
    id_ = f"j.{table.id_column} OPERATOR(pg_catalog.=)"
    is_ours = f" AND {over(table.job_type, 'j')} IS NOT NULL" if table.has_other_rows else ""
    return f"{_shown(table)}\nWHERE {id_} ANY ({as_types(table.id_type, 'jobs_of.ids')}){is_ours}"


def _shown(table: JobTable) -> str:
    """Return the SELECT list and FROM that show a table's rows, without a condition."""
    result = {fact: f'j."{column}"' for column, fact in table.result.items()}
    stage = table.stage_column
    columns = (
        ("text", id_as_text(table, "j")),
        ("", over(table.job_type, "j")),
        ("text", over(table.user, "j")),
        ("", over(table.tier, "j")),
        ("bigint", over(table.cost, "j")),
        ("", as_state(table, f"j.{table.status_column}")),
        ("text", f"j.{stage.name}" if stage else None),
        *(("text", over(table.shown[name], "j") if name in table.shown else None) for name in SHOWN),
        ("text", f"j.{table.pipeline_column}" if table.pipeline_column else None),
        *((type_, result.get(name)) for name, type_ in _SHOWN_RESULT.items()),
        ("text", f"j.{table.error_column}" if table.error_column else None),
        ("bigint", f"j.{table.retries_column}" if table.retries_column else None),
        ("text", result.get("model")),
        *(_shown_time(table, name) for name in (table.started_column, table.completed_column)),
        ("timestamp", over(table.created, "j")),
        ("timestamp", over(last_write(table), "j")),
    )
    texts = filled(f"{text or 'NULL'}::{type_}" if type_ else str(text) for type_, text in columns)
    return f"SELECT {texts}\nFROM {table.name} j"


SHOWN: Final = ("imageId", "sourceImageId")
"""Columns of the view of all jobs for which a description may have a fragment."""

_SHOWN_RESULT: Final = {
    "url": "text",
    "key": "text",
    "width_px": "bigint",
    "height_px": "bigint",
    "size_bytes": "bigint",
}


def _shown_time(table: JobTable, name: str | None) -> tuple[str, str | None]:
    if name is None:
        return "timestamp", None
    return ("timestamp", f"j.{name}") if table.time_type == "timestamp" else ("", f"j.{name} AT TIME ZONE 'utc'")
