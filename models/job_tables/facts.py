"""The facts that a template may ask for: of one table, of all of them, and of the table of a job's type."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from models.job_state import LABEL_CHANGES, TRANSITIONS, JobStatus
from models.job_tables.rendering import (
    UNFINISHED,
    as_id,
    as_label,
    as_state,
    as_type,
    id_as_text,
    label,
    labels,
    last_write,
    listed,
    now,
    over,
    quoted,
    types,
)
from models.job_tables.table import Balance, IdType, JobTable, Tokens

_Fact = Callable[[JobTable, str], str]


def _is(*statuses: JobStatus, negated: bool = False) -> _Fact:
    """Return the fact that a row's label is one of some states', or none of them."""

    def fact(table: JobTable, alias: str) -> str:
        texts = labels(table, statuses)
        if texts.count("', '") == 0:
            compared = f"{'<>' if negated else '='} {texts}"
        else:
            compared = f"{'NOT IN' if negated else 'IN'} ({texts})"
        return f"{alias}.{table.status_column} {compared}"

    return fact


def _fragment(name: str) -> _Fact:
    return lambda table, alias: over(getattr(table, name), alias)


def _silent(table: JobTable, alias: str) -> str:
    """Nobody has written the row since `silent`, a timestamp in UTC, and no claim began since."""
    conditions = [f"{over(last_write(table), alias)} < silent"]
    if table.started_column:
        cast = "" if table.time_type == "timestamp" else " AT TIME ZONE 'utc'"
        conditions.append(f"coalesce({alias}.{table.started_column}{cast} < silent, true)")
    return "\n                AND ".join(conditions)


def _stage(table: JobTable, alias: str) -> str:
    return f"{alias}.{table.stage_column.name}::text" if table.stage_column else "NULL"


def _resumed(table: JobTable, alias: str) -> str:
    """The stage at which a job goes on that is queued again."""
    first = over(table.first_stage, alias)
    return f"coalesce({_stage(table, alias)}, {first})" if table.stage_column else first


def _new_reason(table: JobTable, _alias: str) -> str:
    """Why the row `n` changed: a message that stood in `o` before a cancellation is of an earlier attempt."""
    written = f"'set to ' || n.{table.status_column}"
    if table.error_column is None:
        return written
    error = table.error_column
    earlier = f"CASE n.{table.status_column} WHEN {label(table, JobStatus.CANCELLED)} THEN o.{error} END"
    return f"coalesce(nullif(n.{error}, {earlier}),\n                                {written})"


def _waits_until(table: JobTable, alias: str) -> str:
    """When a PENDING job is due, which for one that waits for its producer is never; NULL: at once."""
    time = over(table.scheduled_at, alias) if table.scheduled_at else "NULL::timestamptz"
    if not table.held_labels:
        return time
    held = listed(table.held_labels)
    return f"CASE WHEN {alias}.{table.status_column} IN ({held}) THEN 'infinity' ELSE {time} END"


_OF_A_ROW: Final[Mapping[str, _Fact]] = {
    "id": id_as_text,
    "user": _fragment("user"),
    "type": _fragment("job_type"),
    "tier": _fragment("tier"),
    "cost": _fragment("cost"),
    "max attempts": _fragment("max_attempts"),
    "created": _fragment("created"),
    "first stage": _fragment("first_stage"),
    "resumed stage": _resumed,
    "last write": lambda table, alias: over(last_write(table), alias),
    "stage": _stage,
    "waits until": _waits_until,
    "state": lambda table, alias: as_state(table, f"{alias}.{table.status_column}"),
    "is pending": _is(JobStatus.PENDING),
    "is processing": _is(JobStatus.PROCESSING),
    "is not processing": _is(JobStatus.PROCESSING, negated=True),
    "is unfinished": _is(*UNFINISHED),
    "is silent": _silent,
    "new reason": _new_reason,
    "frozen": lambda table, alias: "(" + ", ".join(f"{alias}.{column}" for column in table.frozen) + ")",
}


def _filled(parts: Iterable[str]) -> str:
    """Return a list in lines of up to 100 characters, where its parts allow it."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _LINE_CHARS:
            lines.append("")
        lines[-1] += f"{part}, "
    return "\n       ".join(line.rstrip() for line in lines).rstrip(",")


_LINE_CHARS: Final = 100


def _needed_columns(table: JobTable) -> str:
    """Every column that entering reads."""
    fragments = (
        *(table.user, table.job_type, table.tier, table.cost, table.max_attempts, table.created),
        *(check.must for check in table.checks),
    )
    named = [name for text in fragments for name in re.findall(r'\br\.("[^"]+"|\w+)', text)]
    named += re.findall(r'\bn\.("[^"]+"|\w+)', table.entering)
    columns = dict.fromkeys([table.id_column, table.status_column, *named])
    return _filled(f"{table.relation}.{column}" for column in columns)


def _entering_checks(table: JobTable) -> str:
    """What a statement's rows are asked before they enter."""
    checks = (
        f"IF EXISTS (SELECT FROM entering_rows n WHERE {_OF_A_ROW['is pending'](table, 'n')}\n"
        f"           AND ({over(check.must, 'n')}) IS NOT TRUE) THEN\n"
        f"    RAISE EXCEPTION '%', {quoted(check.words)} USING ERRCODE = {quoted(check.sqlstate)};\nEND IF;"
        for check in table.checks
    )
    return "\n".join((*checks, table.entering.strip("\n")))


def _label_and_message(table: JobTable) -> str:
    """The assignments of `label`, a state, and of `message`, where there is one and the table has a place for it."""
    error = table.error_column
    message = f", {error} = coalesce(message, j.{error})" if error else ""
    return f"{table.status_column} = {as_label(table, 'label')}{message}"


def _is_stale(table: JobTable) -> str:
    updated = table.updated_column
    return f"NEW.{updated} IS NOT DISTINCT FROM OLD.{updated}" if updated else "false"


def _touch(table: JobTable) -> str:
    if table.updated_column is None:
        return ""
    return f"IF is_stale THEN\n    NEW.{table.updated_column} := {now(table)};\nEND IF;"


def _clear_stage(table: JobTable) -> str:
    if table.stage_column is None:
        return ""
    name = table.stage_column.name.strip('"')
    return (
        f"IF darkroom.is_terminal(after) THEN\n    NEW := jsonb_populate_record(NEW, '{{\"{name}\": null}}');\nEND IF;"
    )


def _may_wait(table: JobTable) -> bool:
    return bool(table.held_labels or table.scheduled_at)


def _refuse_held(table: JobTable) -> str:
    """A job waits for its producer before it is claimed, and not while somebody works on it."""
    if not table.held_labels:
        return ""
    # by JSON, as in every guard: a plan that holds the type of a field would outlive it in this session
    field, held = quoted(table.status_column.strip('"')), listed(table.held_labels)
    return (
        f"IF after = 'PROCESSING' AND to_jsonb(OLD) ->> {field} IN ({held})\n"
        f"        OR before = 'PROCESSING' AND to_jsonb(NEW) ->> {field} IN ({held}) THEN\n"
        "    RAISE EXCEPTION 'job % can''t change from % to %', job_id, "
        f"to_jsonb(OLD) ->> {field}, to_jsonb(NEW) ->> {field}\n        USING ERRCODE = '23514';\nEND IF;"
    )


def _follow_waits(table: JobTable) -> str:
    """After an update: jobs that are due at another time now than before."""
    if not _may_wait(table):
        return ""
    row = _OF_A_ROW
    return (
        "IF TG_OP = 'UPDATE' THEN\n"
        f"    PERFORM darkroom.put_off_{table.rows}(ARRAY(\n"
        f"        SELECT {row['id'](table, 'n')} FROM rows_before o\n"
        f"        JOIN rows_after n ON n.{table.id_column} = o.{table.id_column}\n"
        f"        WHERE {row['is pending'](table, 'n')}\n"
        f"          AND {_waits_until(table, 'n')} IS DISTINCT FROM {_waits_until(table, 'o')}));\n"
        "    PERFORM darkroom.send_wake_up();\nEND IF;"
    )


def _unpaid(table: JobTable) -> str:
    if table.is_unpaid is None:
        return "NULL;"
    is_unpaid = over(table.is_unpaid, "j")
    return (
        f"IF (SELECT {is_unpaid} FROM {table.name} j WHERE j.{table.id_column} = {as_id(table, 'job_id')}) THEN\n"
        "    RETURN 'anonymous';\nEND IF;"
    )


def _balance_of(table: JobTable) -> Balance:
    """Return a table's own balance; a block that asks for it is about tables that have one."""
    if not isinstance(table.money, Balance):
        raise KeyError(f"jobs of {table.name} aren't paid from a balance of its own")
    return table.money


def _row_of_the_view(table: JobTable) -> str:
    """A row as `darkroom.job_rows` shows it, of some statuses or all."""
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
    texts = _filled("NULL" if text is None else f"{text}::{type_}" if type_ else text for type_, text in columns)
    if table.are_labels_ours:
        is_asked_for = f"j.{table.status_column} OPERATOR(pg_catalog.=) ANY (statuses::{table.status_type}[])"
    else:
        state = as_state(table, f"j.{table.status_column}")
        is_asked_for = f"({state}) OPERATOR(pg_catalog.=) ANY (statuses)"
    return f"SELECT {texts}\nFROM {table.name} j\nWHERE statuses IS NULL OR {is_asked_for}"


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
        return "", None
    return ("timestamp", f"j.{name}") if table.time_type == "timestamp" else ("", f"j.{name} AT TIME ZONE 'utc'")


_OF_A_TABLE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "table": lambda table: table.name,
    "rows": lambda table: table.rows,
    "row": lambda table: table.row,
    "types": types,
    "id column": lambda table: table.id_column,
    "status column": lambda table: table.status_column,
    "needed columns": _needed_columns,
    "entering checks": _entering_checks,
    "fill function": lambda table: table.fill_function,
    "label and message": _label_and_message,
    "is stale": _is_stale,
    "touch": _touch,
    "clear the stage": _clear_stage,
    "refuse held": _refuse_held,
    "follow waits": _follow_waits,
    "unpaid": _unpaid,
    "balances": lambda table: _balance_of(table).table,
    "payer column": lambda table: _balance_of(table).payer_column,
    "balance column": lambda table: _balance_of(table).balance_column,
    "shown row": _row_of_the_view,
}


def _array(id_type: IdType, texts: str) -> str:
    return texts if id_type.of_text is None else f"ARRAY(SELECT {as_type(id_type, 'i.id')} FROM unnest({texts}) i (id))"


_FROM_TEXT: Final[Mapping[str, Callable[[JobTable, str], str]]] = {
    "id": as_id,
    "ids": lambda table, texts: _array(table.id_type, texts),
    "payer": lambda table, text: as_type(_balance_of(table).payer_type, text),
    "payers": lambda table, texts: _array(_balance_of(table).payer_type, texts),
    "label": lambda table, status: label(table, JobStatus(status)),
}


_NEXT_CASE: Final = "\n     "


def _chosen_by_type(tables: Sequence[JobTable], job_type: str, value: Callable[[JobTable], str]) -> str:
    """Return SQL that chooses a value by a job's type, and refuses a type that no table has."""
    cases = [f"WHEN {job_type} IN ({types(table)}) THEN {value(table)}" for table in tables]
    return _NEXT_CASE.join([f"CASE {cases[0]}", *cases[1:], f"ELSE darkroom.unknown_type({job_type}) END"])


_OF_A_TYPE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "spend type": lambda table: quoted(table.money.spend_type) if isinstance(table.money, Tokens) else "NULL",
    "source": lambda table: quoted(table.money.source) if isinstance(table.money, Tokens) else "NULL",
    "is paid in tokens": lambda table: quoted(str(isinstance(table.money, Tokens)).lower()),
}


def _pairs(changes: Iterable[tuple[JobStatus, JobStatus]]) -> str:
    return _filled(f"({listed(pair)})" for pair in changes)


def _others_paid(tables: Sequence[JobTable], array: str, row_type: str, fields: str) -> str:
    """Keep of an array the jobs that are paid in tokens; nothing where all are."""
    if all(isinstance(table.money, Tokens) for table in tables):
        return ""
    is_paid = _chosen_by_type(tables, "j.job_type", _OF_A_TYPE["is paid in tokens"])
    row = ", ".join(f"j.{name}" for name in fields.split())
    return (
        f"{array} := ARRAY(SELECT ROW({row})::darkroom.{row_type}\n    FROM unnest({array}) WITH ORDINALITY j\n"
        f"    WHERE ({is_paid})::boolean ORDER BY j.ordinality);"
    )


_OF_ALL: Final[Mapping[str, Callable[[Sequence[JobTable]], str]]] = {
    "all types": lambda tables: listed(one for table in tables for one in table.job_types),
    "all tables": lambda tables: listed(table.name for table in tables),
    "changes": lambda _: _pairs((one, other) for one in UNFINISHED for other in JobStatus if other in TRANSITIONS[one]),
    "keep jobs that are paid in tokens": lambda tables: _others_paid(
        tables, "jobs", "entering", "job_type job_id user_id tier cost stage max_attempts created_at"
    ),
    "keep ends that are paid in tokens": lambda tables: _others_paid(
        tables, "ended", "change", "job_type job_id user_id status stage reason"
    ),
    "label changes": lambda _: _pairs(sorted(LABEL_CHANGES)),
}

_CHOICES: Final[Mapping[str, Callable[[JobTable], bool]]] = {
    "": lambda _: True,
    "whose rows are filled": lambda table: bool(table.fill_function),
    "whose jobs may wait": _may_wait,
    "with a balance of its own": lambda table: isinstance(table.money, Balance),
}


def is_chosen(table: JobTable, which: str) -> bool:
    """Say whether a block is about a table; `which` is what the block asks of its tables.

    Raises:
        KeyError: nobody can ask this.
    """
    return _CHOICES[which](table)


def fact(table: JobTable, name: str, subject: str | None) -> str:
    """Return a fact of one table: over an alias of its row, or `from` a text.

    Raises:
        KeyError: there is no such fact.
    """
    if subject is None:
        return _OF_A_TABLE[name](table)
    if subject.startswith("from "):
        return _FROM_TEXT[name](table, subject.removeprefix("from "))
    return _OF_A_ROW[name](table, subject)


def fact_of_all(tables: Sequence[JobTable], name: str, job_type: str | None) -> str:
    """Return a fact of all tables, or one that is chosen by a job's type, which is SQL.

    Raises:
        KeyError: there is no such fact.
    """
    if job_type is None:
        return _OF_ALL[name](tables)
    return _chosen_by_type(tables, job_type, _OF_A_TYPE[name])
