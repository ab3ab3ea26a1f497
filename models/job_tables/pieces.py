"""Longer parts of SQL for one job table: the checks and steps when a row is inserted or updated."""

import re

from models.job_state import JobStatus
from models.job_tables.books import rows_that_enter
from models.job_tables.rendering import (
    QUOTE,
    as_id,
    as_label,
    label,
    listed,
    now,
    over,
    quoted,
    shown_status,
    types,
)
from models.job_tables.row_facts import OF_A_ROW, and_is_ours
from models.job_tables.table import JobTable
from models.job_tables.view import filled


def needed_columns(table: JobTable) -> str:
    """Return every column that is read when a job enters the queue."""
    fragments = (
        *(table.user, table.job_type, table.tier, table.cost, table.max_attempts, table.created),
        *(check.must for check in table.checks),
    )
    named = [name for text in fragments for name in re.findall(r'\br\.("[^"]+"|\w+)', text)]
    named += re.findall(r'\bn\.("[^"]+"|\w+)', table.entering + table.checked)
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
    checked = table.checked.replace("{rows}", rows_that_enter(table)).strip("\n")
    return "\n".join((*checks, table.entering.strip("\n"), checked)).strip("\n")


def entered_at(table: JobTable) -> str:
    """Return SQL for the time at which a job enters.

    Where an earlier job may have had its id, that is no earlier than anything that is recorded of that one, also if its
    row was deleted in the same transaction.
    """
    return "clock_timestamp()" if table.ids_come_again else "now()"


def part_from_earlier(table: JobTable) -> str:
    """Return PL/pgSQL that parts jobs which enter from earlier jobs that had their ids."""
    if not table.ids_come_again:
        return ""
    return f"PERFORM darkroom.part_from_earlier(ARRAY(SELECT j.job_id FROM unnest(jobs) j), ARRAY[{types(table)}]);"


def require_entered(table: JobTable) -> str:
    """Return PL/pgSQL that refuses a statement of which a job met the row of an earlier one in the queue."""
    if not table.ids_come_again:
        return ""
    return (
        "IF queued < cardinality(jobs) THEN\n"
        "    RAISE EXCEPTION 'a job has the id of an earlier one, which is still in the queue'\n"
        "        USING ERRCODE = '23505', HINT = 'insert it once more in a moment';\nEND IF;"
    )


def label_and_message(table: JobTable) -> str:
    """Return SQL that assigns variable `label`, a status, to a row, and variable `message` unless it is NULL.

    Without a column for messages, only the status is assigned.
    """
    error = table.error_column
    message = f", {error} = coalesce(message, j.{error})" if error else ""
    return f"{table.status_column} = {as_label(table, 'label')}{message}"


def pass_others(table: JobTable) -> str:
    """Return PL/pgSQL that leaves a trigger function without a change if the row was another program's."""
    if not table.has_other_rows:
        return ""
    before = over(table.job_type, "OLD")
    return (
        f"PERFORM 1 FROM (SELECT) one LEFT JOIN {table.name} j ON false\n"
        f"WHERE ({before}) IS NULL;\nIF FOUND THEN\n    RETURN NEW;\nEND IF;"
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
    """Return the names of frozen columns, for the message of a refused change: those changed, or all of them."""
    if table.names_refused_changes:
        names = listed(column.strip('"') for column in (*table.frozen, *_results(table)))
        return (
            f"(SELECT string_agg(c.name, ', ') FROM unnest(ARRAY[{names}]) c (name)\n"
            "         WHERE to_jsonb(OLD) -> c.name IS DISTINCT FROM to_jsonb(NEW) -> c.name)"
        )
    *others, last = (column.strip('"') for column in table.frozen)
    return quoted(f"{', '.join(others)} and {last}" if others else last)


def _results(table: JobTable) -> tuple[str, ...]:
    """Return the columns of a result, of which only the completion of a job may change any."""
    return tuple(f'"{name}"' for name in table.result) if table.names_refused_changes else ()


def and_keeps_results(table: JobTable) -> str:
    """Return a further SQL condition, that an update completes a job or leaves its result's columns as they were."""
    if not (results := _results(table)):
        return ""
    before, after = (f"({', '.join(f'{row}.{name}' for name in results)})" for row in ("OLD", "NEW"))
    completed = f"NEW.{table.status_column}::text = {label(table, JobStatus.COMPLETED)}"
    return f"\n       AND ({completed} OR {before} IS NOT DISTINCT FROM {after})"


def end_of_another_type(table: JobTable) -> str:
    """Return PL/pgSQL that ends a job as failed if a foreign key took away what makes it a job of its type.

    Only a foreign key, or a trigger of the application's, changes that; programs are refused.
    """
    if not table.has_other_rows:
        return ""
    before, after = over(table.job_type, "OLD"), over(table.job_type, "NEW")
    columns = {table.status_column: label(table, JobStatus.FAILED)}
    if table.error_column:
        columns[table.error_column] = "'what its type depends on was deleted'"
    pairs = ", ".join(f"{quoted(column.strip(QUOTE))}, {value}" for column, value in columns.items())
    return (
        "IF NOT is_same_job AND NOT darkroom.is_terminal(before) AND after IN ('PENDING', 'PROCESSING') THEN\n"
        f"    PERFORM 1 FROM (SELECT) one LEFT JOIN {table.name} j ON false\n"
        f"    WHERE ({before}) IS DISTINCT FROM ({after});\n"
        "    IF FOUND THEN\n"
        f"        NEW := jsonb_populate_record(NEW, jsonb_build_object({pairs}));\n"
        "        after := 'FAILED';\n    END IF;\nEND IF;"
    )


def changed_type(table: JobTable) -> str:
    """Return SQL for the type of a job whose row changed from `o` to `n`: the one that the queue has."""
    return OF_A_ROW["type"](table, "o" if table.has_other_rows else "n")


def changed_and_not_processing(table: JobTable) -> str:
    """Return a SQL condition that a row which changed from `o` to `n` was a job of ours, and doesn't run now."""
    if not table.has_other_rows:
        return OF_A_ROW["is not processing"](table, "n")
    return f"n.{table.status_column} <> {label(table, JobStatus.PROCESSING)}{and_is_ours(table, 'o')}"


def set_the_end(table: JobTable) -> str:
    """Return PL/pgSQL that sets the time at which a job failed, where its table shows it and the update didn't."""
    if not table.has_end_of_failure or table.completed_column is None:
        return ""
    name = table.completed_column.strip('"')
    return (
        f"IF after IN ('FAILED', 'REFUNDED') AND to_jsonb(NEW) ->> {quoted(name)} IS NULL THEN\n"
        f"    NEW := jsonb_populate_record(NEW, jsonb_build_object({quoted(name)}, {now(table)}));\nEND IF;"
    )


def shown_before(table: JobTable) -> str:
    """Return SQL for the status before a change, in the application's own word."""
    return "before" if table.are_labels_ours else shown_status(table, "OLD")


def shown_change(table: JobTable) -> str:
    """Return SQL for the labels before and after a change of a status; empty where labels are statuses."""
    if table.are_labels_ours:
        return ""
    return f", {shown_status(table, 'OLD')}, {shown_status(table, 'NEW')}"


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


def unpaid(table: JobTable) -> str:
    """Return PL/pgSQL that names the budget `anonymous` for a job without an account; all such jobs share it."""
    if table.is_unpaid is None:
        return "NULL;"
    is_unpaid = over(table.is_unpaid, "j")
    return (
        f"IF (SELECT {is_unpaid} FROM {table.name} j WHERE j.{table.id_column} = {as_id(table, 'job_id')}) THEN\n"
        "    RETURN 'anonymous';\nEND IF;"
    )
