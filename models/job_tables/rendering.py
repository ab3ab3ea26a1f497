"""SQL that is rendered from a description: the parts of statements about a job table."""

import re
from collections.abc import Iterable
from typing import Final

from models.job_state import TERMINAL, JobStatus
from models.job_tables.table import IdType, JobTable, StageColumn

UNFINISHED: Final = (JobStatus.PENDING, JobStatus.PROCESSING)
"""The statuses of an unfinished job, in the order in which statements list them."""

FINISHED: Final = tuple(sorted(TERMINAL))

NEXT: Final = ",\n            "
"""What separates the assignments of an UPDATE in a CTE."""

NOW: Final = "darkroom.utc_now()"
"""The present time in UTC, in fragments of tables whose rows don't say when they were made."""

QUOTE: Final = '"'

_ROW: Final = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|\br(?=\.)""")
"""Matches a quoted text or name, which stays as it is, or the alias of the job's row."""


def over(fragment: str, alias: str) -> str:
    """Return a fragment with another alias for the job's row."""
    return _ROW.sub(lambda found: found[1] or alias, fragment)


def quoted(text: str) -> str:
    """Return a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def shown_status(table: JobTable, row: str) -> str:
    """Return SQL for the label in a row of a trigger, `OLD` or `NEW`.

    The row is read as JSON: a cached plan with the column's type would fail after the type is changed.
    """
    return f"to_jsonb({row}) ->> {quoted(table.status_column.strip(QUOTE))}"


def listed(texts: Iterable[str]) -> str:
    """Return texts, each once, as a comma-separated list of SQL literals."""
    return ", ".join(quoted(text) for text in dict.fromkeys(texts))


def types(table: JobTable) -> str:
    """Return a table's job types as a comma-separated list of SQL literals."""
    return listed(table.job_types)


def label(table: JobTable, status: JobStatus) -> str:
    """Return the table's label for a status."""
    return quoted(table.labels[status])


def labels(table: JobTable, statuses: Iterable[JobStatus]) -> str:
    """Return the list of the table's labels for some statuses; PENDING may have several."""
    return listed(
        text
        for status in statuses
        for text in (table.pending_labels if status == JobStatus.PENDING else (table.labels[status],))
    )


def as_label(table: JobTable, state: str) -> str:
    """Return SQL that yields the table's label for a status; `state` is a SQL expression for the status as text."""
    if table.are_labels_ours:
        return f"{state}::{table.status_type}"
    cases = " ".join(f"WHEN {quoted(one)} THEN {label(table, one)}" for one in JobStatus)
    return f"(CASE {state} {cases} END)::{table.status_type}"


def as_state(table: JobTable, written: str) -> str:
    """Return SQL that yields the status, as text, for a label of the table; for a shared label, its first status.

    A label that the description doesn't know is yielded unchanged, and equals no status.
    """
    if table.are_labels_ours:
        return f"{written}::text"
    cases = " ".join(f"WHEN {quoted(text)} THEN {quoted(one)}" for text, one in table.states.items())
    return f"CASE {written}::text {cases} ELSE {written}::text END"


def state_of(table: JobTable, written: str) -> JobStatus:
    """Return the status for a label that was read from the table; for a shared label, the first of its statuses.

    Raises:
        ValueError: the table's description knows no such label.
    """
    state = table.states.get(written)
    if state is None:
        raise ValueError(f"{table.name} has a row of status {written[:60]!r}, which its description doesn't know")
    return state


def as_id(table: JobTable, text: str) -> str:
    """Return SQL that casts an id, given as text, to the type of the table's ids; NULL where it isn't one."""
    return as_type(table.id_type, text)


def as_type(id_type: IdType, text: str) -> str:
    """Return SQL that casts an id, given as text, to a type of ids; NULL where it isn't one."""
    if id_type.of_text is None:
        return text
    return id_type.of_text.format(id=f"{text}::text" if text.startswith("$") else text)


def as_types(id_type: IdType, texts: str) -> str:
    """Return SQL that casts an array of ids, given as texts, to a type of ids; NULL where one isn't an id."""
    if id_type.of_text is None:
        return texts
    return f"ARRAY(SELECT {as_type(id_type, 'i.id')} FROM pg_catalog.unnest({texts}) i (id))"


def shown_stage(column: StageColumn, stage: str) -> str:
    """Return the assignment to the stage column; `stage` is a SQL expression for the stage as text.

    A column that has no label for the stage keeps its value.
    """
    return (
        f"{column.name} = CASE WHEN {stage} IN ({listed(column.labels)}) "
        f"THEN {stage}::{column.type} ELSE j.{column.name} END"
    )


def id_as_text(table: JobTable, alias: str) -> str:
    """Return SQL that yields a row's id as text, as all other tables hold it."""
    return f"{alias}.{table.id_column}" + ("::text" if table.id_type.of_text else "")


def now(table: JobTable) -> str:
    """Return SQL that yields the present time, in the type of the table's columns of times."""
    return "darkroom.utc_now()" if table.time_type == "timestamp" else "now()"


def last_write(table: JobTable) -> str:
    """Return the fragment for a row's last write, a timestamp in UTC; for its creation if there is no such column."""
    if table.updated_column is None:
        return table.created
    if table.time_type == "timestamp":
        return f"r.{table.updated_column}"
    return f"(r.{table.updated_column} AT TIME ZONE 'utc')"  # a cast that follows would otherwise be one of 'utc'


def assigned(table: JobTable, assignments: Iterable[str], separator: str = ", ") -> str:
    """Return assignments to a row and to its time of the last write, joined; one without effect if there is none."""
    parts = [*assignments, *touched(table)]
    return separator.join(parts or [f"{table.id_column} = j.{table.id_column}"])


def touched(table: JobTable) -> tuple[str, ...]:
    """Return the assignment of the present time to the column of the last write; none if there is no such column."""
    return (f"{table.updated_column} = {now(table)}",) if table.updated_column else ()


def locked_row(table: JobTable, skip: str = "") -> str:
    """Return the statement that locks the row of job $1 (text).

    `skip` is ` SKIP LOCKED` for a caller that won't wait.
    """
    id_ = f"j.{table.id_column}"
    return f"SELECT {id_} FROM {table.name} j WHERE {id_} = {as_id(table, '$1')} FOR NO KEY UPDATE{skip}"


def locked_job(table: JobTable, skip: str = "") -> str:
    """Return the statement of `locked_row` as a CTE named `job`.

    Every write of a claim locks it before the queue row.
    """
    return f"job AS MATERIALIZED ({locked_row(table, skip)})"
