"""The pieces of SQL, called facts, that a template can ask for: about one job table, all, or a job type's table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from models.job_state import LABEL_CHANGES, TRANSITIONS, JobStatus
from models.job_tables import pieces
from models.job_tables.rendering import (
    UNFINISHED,
    as_id,
    as_type,
    as_types,
    label,
    listed,
    quoted,
    types,
)
from models.job_tables.row_facts import OF_A_ROW
from models.job_tables.table import Balance, JobTable, Tokens
from models.job_tables.view import filled, row_of_the_view, rows_of_the_view


def _balance_of(table: JobTable) -> Balance:
    """Return the balance of a table whose jobs are paid from a balance of its own.

    Templates ask this only of such tables.
    """
    if not isinstance(table.money, Balance):
        raise KeyError(f"jobs of {table.name} aren't paid from a balance of its own")
    return table.money


_OF_A_TABLE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "table": lambda table: table.name,
    "rows": lambda table: table.rows,
    "row": lambda table: table.row,
    "types": types,
    "id column": lambda table: table.id_column,
    "status column": lambda table: table.status_column,
    "needed columns": pieces.needed_columns,
    "entering checks": pieces.entering_checks,
    "fill function": lambda table: table.fill_function,
    "label and message": pieces.label_and_message,
    "is plain change": pieces.is_plain_change,
    "is stale": pieces.is_stale,
    "touch": pieces.touch,
    "frozen in words": pieces.frozen_in_words,
    "clear the stage": pieces.clear_stage,
    "pass others": pieces.pass_others,
    "refuse held": pieces.refuse_held,
    "follow waits": pieces.follow_waits,
    "unpaid": pieces.unpaid,
    "balances": lambda table: _balance_of(table).table,
    "payer column": lambda table: _balance_of(table).payer_column,
    "balance column": lambda table: _balance_of(table).balance_column,
    "shown row": row_of_the_view,
    "rows shown by id": rows_of_the_view,
}


_FROM_TEXT: Final[Mapping[str, Callable[[JobTable, str], str]]] = {
    "id": as_id,
    "ids": lambda table, texts: as_types(table.id_type, texts),
    "payer": lambda table, text: as_type(_balance_of(table).payer_type, text),
    "payers": lambda table, texts: as_types(_balance_of(table).payer_type, texts),
    "label": lambda table, status: label(table, JobStatus(status)),
}


_NEXT_CASE: Final = "\n     "


def _chosen_by_type(tables: Sequence[JobTable], job_type: str, value: Callable[[JobTable], str]) -> str:
    """Return SQL that chooses a value by a job's type, and raises an error for a type that no table has."""
    cases = [f"WHEN {job_type} IN ({types(table)}) THEN {value(table)}" for table in tables]
    return _NEXT_CASE.join([f"CASE {cases[0]}", *cases[1:], f"ELSE darkroom.unknown_type({job_type}) END"])


_OF_A_TYPE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "spend type": lambda table: quoted(table.money.spend_type) if isinstance(table.money, Tokens) else "NULL",
    "source": lambda table: quoted(table.money.source) if isinstance(table.money, Tokens) else "NULL",
    "is paid in tokens": lambda table: quoted(str(isinstance(table.money, Tokens)).lower()),
}


def _pairs(changes: Iterable[tuple[JobStatus, JobStatus]]) -> str:
    return filled(f"({listed(pair)})" for pair in changes)


def _others_paid(tables: Sequence[JobTable], array: str, row_type: str, fields: str) -> str:
    """Return PL/pgSQL that removes from an array the jobs that aren't paid in tokens; empty if all jobs are."""
    if all(isinstance(table.money, Tokens) for table in tables):
        return ""
    is_paid = _chosen_by_type(tables, "j.job_type", _OF_A_TYPE["is paid in tokens"])
    row = ", ".join(f"j.{name}" for name in fields.split())
    return (
        f"{array} := ARRAY(SELECT ROW({row})::darkroom.{row_type}\n    FROM unnest({array}) WITH ORDINALITY j\n"
        f"    WHERE ({is_paid})::boolean ORDER BY j.ordinality);"
    )


def _payer_exists(tables: Sequence[JobTable], job_type: str, user: str) -> str:
    """Return a SQL condition that the user who paid for a job still exists, from the job's type and the user's id."""

    def is_there(table: JobTable) -> str:
        if not isinstance(table.money, Balance):
            return f"EXISTS (SELECT FROM public.users u WHERE u.id = {user})"
        payer = as_type(table.money.payer_type, user)
        return f"EXISTS (SELECT FROM {table.money.table} b WHERE b.{table.money.payer_column} = {payer})"

    if len(found := {is_there(table) for table in tables}) == 1:
        return found.pop()
    cases = " ".join(f"WHEN {job_type} IN ({types(table)}) THEN {is_there(table)}" for table in tables)
    return f"CASE {cases} ELSE darkroom.unknown_type({job_type})::boolean END"


def _money_tables(tables: Sequence[JobTable]) -> list[str]:
    """Return every table in which money of jobs is recorded."""
    own = [table.money.table for table in tables if isinstance(table.money, Balance)]
    return list(dict.fromkeys(["public.user_token_balances", "public.token_transactions", *own]))


_OF_ALL: Final[Mapping[str, Callable[[Sequence[JobTable]], str]]] = {
    "money tables": lambda tables: ", ".join(_money_tables(tables)),
    "money table names": lambda tables: listed(_money_tables(tables)),
    "types paid in tokens": lambda tables: listed(
        one for table in tables if isinstance(table.money, Tokens) for one in table.job_types
    ),
    "spend types": lambda tables: listed(table.money.spend_type for table in tables if isinstance(table.money, Tokens)),
    "all types": lambda tables: listed(one for table in tables for one in table.job_types),
    "all tables": lambda tables: ", ".join(f"{quoted(table.name)}::regclass" for table in tables),
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
    "whose jobs may wait": pieces.may_wait,
    "with a balance of its own": lambda table: isinstance(table.money, Balance),
}


def is_chosen(table: JobTable, which: str) -> bool:
    """Return whether a template's block applies to a table; `which` is the block's condition on its tables.

    Raises:
        KeyError: there is no such condition.
    """
    return _CHOICES[which](table)


def fact(table: JobTable, name: str, subject: str | None) -> str:
    """Return a fact of one table: over an alias of its row, or built `from` a given text.

    Raises:
        KeyError: there is no such fact.
    """
    if subject is None:
        return _OF_A_TABLE[name](table)
    if subject.startswith("from "):
        return _FROM_TEXT[name](table, subject.removeprefix("from "))
    return OF_A_ROW[name](table, subject)


def fact_of_all(tables: Sequence[JobTable], name: str, job_type: str | None) -> str:
    """Return a fact of all tables, or one that is chosen by a job's type, as SQL; `payer exists` takes a user too.

    Raises:
        KeyError: there is no such fact.
    """
    if job_type is None:
        return _OF_ALL[name](tables)
    if name == "payer exists":
        return _payer_exists(tables, *job_type.split(", "))
    return _chosen_by_type(tables, job_type, _OF_A_TYPE[name])
