"""What an application's books get when jobs enter, are claimed, or end: PL/pgSQL over a statement's rows."""

from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Final

from models.job_state import JobStatus
from models.job_tables.rendering import listed, types
from models.job_tables.row_facts import OF_A_ROW
from models.job_tables.table import JobTable

_WHEN: Final[Mapping[str, Sequence[JobStatus]]] = {
    "claimed": (JobStatus.PROCESSING,),
    "completed": (JobStatus.COMPLETED,),
    "failed": (JobStatus.FAILED, JobStatus.REFUNDED),
    "cancelled": (JobStatus.CANCELLED,),
}

_REASON: Final = '"darkroom reason"'
"""The column that says why a job ended, beside those of its row."""


def rows_that_enter(table: JobTable) -> str:
    """Return the relation of the rows of an INSERT that are jobs."""
    return f"(SELECT n.* FROM entering_rows n WHERE {OF_A_ROW['is pending'](table, 'n')})"


def entered_books(table: JobTable) -> str:
    """Return PL/pgSQL that writes what is written when jobs enter."""
    return _booked(table, "entered", rows_that_enter(table))


def ended_variables(table: JobTable) -> str:
    """Return the declaration of the variables of `find_accepted`."""
    return "ours text[];  -- jobs that Darkroom had accepted; others have no books" if _has_books(table) else ""


def find_accepted(table: JobTable) -> str:
    """Return PL/pgSQL that finds which of a statement's jobs Darkroom had accepted, before they leave the queue."""
    if not _has_books(table):
        return ""
    row, id_, status = OF_A_ROW, table.id_column, table.status_column
    changed = (
        f"ARRAY(SELECT {row['id'](table, 'n')} FROM rows_before o JOIN rows_after n ON n.{id_} = o.{id_}\n"
        f"          WHERE n.{status} <> o.{status})"
    )
    gone = f"ARRAY(SELECT {row['id'](table, 'o')} FROM rows_before o WHERE {row['is unfinished'](table, 'o')})"
    named = f"ARRAY[{types(table)}]"
    return (
        f"IF TG_OP = 'UPDATE' THEN\n    ours := darkroom.accepted({changed}, {named});\n"
        f"ELSE\n    ours := darkroom.accepted({gone}, {named});\nEND IF;"
    )


def ended_books(table: JobTable) -> str:
    """Return PL/pgSQL that writes what is written when jobs are claimed, or end, and what goes with deleted rows."""
    row, id_, status = OF_A_ROW, table.id_column, table.status_column
    changed = f"rows_before o JOIN rows_after n ON n.{id_} = o.{id_}"
    seen: set[str] = set()
    parts = []
    for when, statuses in _WHEN.items():
        labels = [table.labels[one] for one in statuses if table.labels[one] not in seen]  # a shared one is the first's
        seen.update(labels)
        rows = (
            f"(SELECT n.*, {row['new reason'](table, 'n')} AS {_REASON} FROM {changed}\n"
            f"      WHERE n.{status} <> o.{status} AND n.{status} IN ({listed(labels)})"
            f" AND {row['id'](table, 'n')} = ANY (ours))"
        )
        parts.append(_booked(table, when, rows) if labels else "")
    gone = (
        f"(SELECT o.*, 'deleted' AS {_REASON} FROM rows_before o\n"
        f"      WHERE {row['is unfinished'](table, 'o')} AND {row['id'](table, 'o')} = ANY (ours))"
    )
    updated = "\n".join(filter(None, parts))
    deleted = "\n".join(filter(None, (_booked(table, "cancelled", gone), table.deleted.strip("\n"))))
    return "\n".join(
        f"IF {condition} THEN\n{indent(body, '    ')}\nEND IF;"
        for condition, body in (
            ("TG_OP = 'UPDATE' AND cardinality(ours) > 0", updated),
            ("TG_OP = 'DELETE'", deleted),
        )
        if body
    )


def truncated_books(table: JobTable) -> str:
    """Return PL/pgSQL that writes what is written when jobs end because their table is emptied, before it is."""
    rows = (
        f"(SELECT o.*, 'deleted' AS {_REASON} FROM {table.name} o\n"
        f"      WHERE {OF_A_ROW['id'](table, 'o')} = ANY (ours))"
    )
    if not (booked := _booked(table, "cancelled", rows)):
        return ""
    return f"ours := ARRAY(SELECT c.job_id FROM unnest(changes) c);\n{booked}"


def _has_books(table: JobTable) -> bool:
    return any(one.when != "entered" for one in table.books)


def _booked(table: JobTable, when: str, rows: str) -> str:
    return "\n".join(
        one.sql.replace("{rows}", rows).replace("{reason}", f"r.{_REASON}") for one in table.books if one.when == when
    )
