"""Longer parts of SQL for one job table: the checks and steps when a row is inserted or updated."""

import re

from models.job_state import JobStatus
from models.job_tables.rendering import (
    as_id,
    as_label,
    label,
    listed,
    now,
    over,
    quoted,
)
from models.job_tables.row_facts import OF_A_ROW, waits_until
from models.job_tables.table import JobTable
from models.job_tables.view import filled


def needed_columns(table: JobTable) -> str:
    """Return every column that is read when a job enters the queue."""
    fragments = (
        *(table.user, table.job_type, table.tier, table.cost, table.max_attempts, table.created),
        *(check.must for check in table.checks),
    )
    named = [name for text in fragments for name in re.findall(r'\br\.("[^"]+"|\w+)', text)]
    named += re.findall(r'\bn\.("[^"]+"|\w+)', table.entering)
    columns = dict.fromkeys([table.id_column, table.status_column, *table.picture_ids, *named])
    return filled(f"{table.relation}.{column}" for column in columns)


def entering_checks(table: JobTable) -> str:
    """Return PL/pgSQL that checks a statement's rows before they enter the queue."""
    checks = (
        f"IF EXISTS (SELECT FROM entering_rows n WHERE {OF_A_ROW['is pending'](table, 'n')}\n"
        f"           AND ({over(check.must, 'n')}) IS NOT TRUE) THEN\n"
        f"    RAISE EXCEPTION '%', {quoted(check.words)} USING ERRCODE = {quoted(check.sqlstate)};\nEND IF;"
        for check in table.checks
    )
    return "\n".join((*checks, table.entering.strip("\n")))


def label_and_message(table: JobTable) -> str:
    """Return SQL that assigns variable `label`, a status, to a row, and variable `message` unless it is NULL.

    Without a column for messages, only the status is assigned.
    """
    error = table.error_column
    message = f", {error} = coalesce(message, j.{error})" if error else ""
    return f"{table.status_column} = {as_label(table, 'label')}{message}"


def pass_others(table: JobTable) -> str:
    """Return PL/pgSQL that leaves a trigger function without a change if the row is another program's."""
    if not table.has_other_rows:
        return ""
    before, after = over(table.job_type, "OLD"), over(table.job_type, "NEW")
    return (
        f"PERFORM 1 FROM (SELECT) one LEFT JOIN {table.name} j ON false\n"
        f"WHERE ({before}) IS NULL AND ({after}) IS NULL;\nIF FOUND THEN\n    RETURN NEW;\nEND IF;"
    )


def is_plain_change(table: JobTable) -> str:
    """Return a SQL condition that an update claims or completes a job, and leaves its guard nothing to set."""
    waiting = listed(text for text in table.pending_labels if text not in table.held_labels)
    started, completed = label(table, JobStatus.PROCESSING), label(table, JobStatus.COMPLETED)
    before, after = f"OLD.{table.status_column}::text", f"NEW.{table.status_column}::text"
    is_cleared = f" AND NEW.{table.stage_column.name} IS NULL" if table.stage_column else ""
    return (
        f"NOT ({is_stale(table)})\n            AND ({before} IN ({waiting}) AND {after} = {started}\n"
        f"                 OR {before} = {started} AND {after} = {completed}{is_cleared})"
    )


def is_stale(table: JobTable) -> str:
    """Return a SQL condition that an update left the time of the last write unchanged."""
    updated = table.updated_column
    return f"NEW.{updated} IS NOT DISTINCT FROM OLD.{updated}" if updated else "false"


def frozen_in_words(table: JobTable) -> str:
    """Return the names of a table's frozen columns, for the message of a refused change."""
    *others, last = (column.strip('"') for column in table.frozen)
    return quoted(f"{', '.join(others)} and {last}" if others else last)


def touch(table: JobTable) -> str:
    """Return PL/pgSQL that sets the time of the last write if the update didn't."""
    if table.updated_column is None:
        return ""
    return f"IF is_stale THEN\n    NEW.{table.updated_column} := {now(table)};\nEND IF;"


def clear_stage(table: JobTable) -> str:
    """Return PL/pgSQL that clears the stage column of a row whose job is over."""
    if table.stage_column is None:
        return ""
    name = table.stage_column.name.strip('"')
    return (
        f"IF darkroom.is_terminal(after) THEN\n    NEW := jsonb_populate_record(NEW, '{{\"{name}\": null}}');\nEND IF;"
    )


def may_wait(table: JobTable) -> bool:
    """Return whether a PENDING job of the table may have to wait for its producer, or until a time."""
    return bool(table.held_labels or table.scheduled_at)


def refuse_held(table: JobTable) -> str:
    """Return PL/pgSQL that refuses two changes of a status: claiming a held job, and holding a claimed job.

    A held job is one whose label says that it waits for its producer.
    """
    if not table.held_labels:
        return ""
    # The row is read as JSON, as in every guard: a cached plan with the column's type would fail after the type is
    # changed
    field, held = quoted(table.status_column.strip('"')), listed(table.held_labels)
    return (
        f"IF after = 'PROCESSING' AND to_jsonb(OLD) ->> {field} IN ({held})\n"
        f"        OR before = 'PROCESSING' AND to_jsonb(NEW) ->> {field} IN ({held}) THEN\n"
        "    RAISE EXCEPTION 'job % can''t change from % to %', job_id, "
        f"to_jsonb(OLD) ->> {field}, to_jsonb(NEW) ->> {field}\n        USING ERRCODE = '23514';\nEND IF;"
    )


def follow_waits(table: JobTable) -> str:
    """Return PL/pgSQL that runs after an update and gives jobs whose due time has changed that time in the queue."""
    if not may_wait(table):
        return ""
    row = OF_A_ROW
    return (
        "IF TG_OP = 'UPDATE' THEN\n"
        f"    PERFORM darkroom.put_off_{table.rows}(ARRAY(\n"
        f"        SELECT {row['id'](table, 'n')} FROM rows_before o\n"
        f"        JOIN rows_after n ON n.{table.id_column} = o.{table.id_column}\n"
        f"        WHERE {row['is pending'](table, 'n')}\n"
        f"          AND {waits_until(table, 'n')} IS DISTINCT FROM {waits_until(table, 'o')}));\n"
        "    PERFORM darkroom.send_wake_up(q) FROM darkroom.queues() q;\nEND IF;"
    )


def unpaid(table: JobTable) -> str:
    """Return PL/pgSQL that names the budget `anonymous` for a job without an account; all such jobs share it."""
    if table.is_unpaid is None:
        return "NULL;"
    is_unpaid = over(table.is_unpaid, "j")
    return (
        f"IF (SELECT {is_unpaid} FROM {table.name} j WHERE j.{table.id_column} = {as_id(table, 'job_id')}) THEN\n"
        "    RETURN 'anonymous';\nEND IF;"
    )
