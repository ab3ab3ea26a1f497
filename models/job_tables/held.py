"""PL/pgSQL about jobs that wait for their producer, or until a time: what may change, and what follows from it."""

from textwrap import indent

from models.job_tables.rendering import QUOTE, listed, quoted, shown_status, types
from models.job_tables.row_facts import OF_A_ROW, waits_until
from models.job_tables.table import JobTable


def may_wait(table: JobTable) -> bool:
    """Return whether a PENDING job of the table may have to wait for its producer, or until a time."""
    return bool(table.held_labels or table.scheduled_at)


def refuse_held(table: JobTable) -> str:
    """Return PL/pgSQL that refuses two changes of a status: claiming a held job, and holding one that was claimed."""
    if not table.held_labels:
        return ""
    held, before, after = listed(table.held_labels), shown_status(table, "OLD"), shown_status(table, "NEW")
    claimed = (
        "EXISTS (SELECT FROM darkroom.job_queue q\n"
        f"    WHERE q.job_id = to_jsonb(OLD) ->> {quoted(table.id_column.strip(QUOTE))}\n"
        f"      AND q.job_type IN ({types(table)}) AND q.claimed_at IS NOT NULL)"
    )
    return (
        f"IF after = 'PROCESSING' AND {before} IN ({held})\n"
        f"   OR {after} IN ({held}) AND (before = 'PROCESSING'\n"
        f"   OR before = 'PENDING' AND {before} NOT IN ({held}) AND {claimed}) THEN\n"
        f"    RAISE EXCEPTION 'job % can''t change from % to %', job_id, {before}, {after}\n"
        "        USING ERRCODE = '23514';\nEND IF;"
    )


def allow_while_held(table: JobTable, and_keeps_results: str) -> str:
    """Return PL/pgSQL that lets some columns of a row change while its job waits for its producer."""
    if not table.open_while_held:
        return ""
    always = [column for column in table.frozen if column not in table.open_while_held]
    before, after = (f"({', '.join(f'{row}.{name}' for name in always)})" for row in ("OLD", "NEW"))
    return (
        f"IF {shown_status(table, 'OLD')} IN ({listed(table.held_labels)}) THEN\n"
        f"    SELECT {before} IS NOT DISTINCT FROM {after}{and_keeps_results} INTO is_same_job\n"
        f"    FROM (SELECT) one LEFT JOIN {table.name} j ON false;\nEND IF;"
    )


def check_again(table: JobTable) -> str:
    """Return PL/pgSQL that checks rows which an update changed while their jobs waited for a producer.

    A job whose type changed has the new type in the queue and in the record of its charge, before anything else follows
    from the update. The type of a finished job may change, too: its application may do with its row as it likes.
    """
    if not table.open_while_held:
        return ""
    id_, status, row = table.id_column, table.status_column, OF_A_ROW
    before, after = (f"({', '.join(f'{alias}.{name}' for name in table.open_while_held)})" for alias in ("o", "n"))
    held = f"o.{status} IN ({listed(table.held_labels)})"
    pairs = f"rows_before o JOIN rows_after n ON n.{id_} = o.{id_}"
    rows = (
        f"(SELECT n.* FROM {pairs}\n"
        f"      WHERE {held} AND {row['is unfinished'](table, 'n')} AND {before} IS DISTINCT FROM {after})"
    )
    body = table.checked.replace("{rows}", rows).strip()
    retyped = (
        f"PERFORM darkroom.retype(array_agg({row['id'](table, 'n')}), array_agg({row['type'](table, 'o')}),\n"
        f"                        array_agg({row['type'](table, 'n')}))\n"
        f"FROM {pairs}\nWHERE {row['type'](table, 'n')} <> {row['type'](table, 'o')}\nHAVING count(*) > 0;"
    )
    # hardly any update is of a held row, and none of the others has to be checked
    return (
        f"IF TG_OP = 'UPDATE' THEN\n    IF EXISTS (SELECT FROM rows_before o WHERE {held}) THEN\n"
        f"{indent(body, '        ')}\n    END IF;\n{indent(retyped, '    ')}\nEND IF;"
    )


def follow_waits(table: JobTable) -> str:
    """Return PL/pgSQL that runs after an update and gives jobs whose due time has changed that time in the queue."""
    if not may_wait(table):
        return ""
    row = OF_A_ROW
    return (
        "IF TG_OP = 'UPDATE' THEN\n"
        f"    waiting := ARRAY(\n        SELECT {row['id'](table, 'n')} FROM rows_before o\n"
        f"        JOIN rows_after n ON n.{table.id_column} = o.{table.id_column}\n"
        f"        WHERE {row['is pending'](table, 'n')}\n"
        f"          AND {waits_until(table, 'n')} IS DISTINCT FROM {waits_until(table, 'o')});\n"
        "    IF cardinality(waiting) > 0 THEN\n"
        f"        PERFORM darkroom.put_off_{table.rows}(waiting);\n"
        "        PERFORM darkroom.send_wake_up(q) FROM darkroom.queues() q;\n    END IF;\nEND IF;"
    )


def waiting_variables(table: JobTable) -> str:
    """Return the declaration of the variable of `follow_waits`."""
    return "waiting text[];" if may_wait(table) else ""
