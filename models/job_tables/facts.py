"""The pieces of SQL, called facts, that a template can ask for: about one job table, all, or a job type's table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from models.job_state import LABEL_CHANGES, TRANSITIONS, JobStatus
from models.job_tables import accounts, books, held, pieces
from models.job_tables.names import beginnings_of_names, schema_in_words, table_in_words
from models.job_tables.rendering import (
    UNFINISHED,
    as_id,
    as_types,
    label,
    listed,
    quoted,
    types,
)
from models.job_tables.row_facts import OF_A_ROW
from models.job_tables.table import Balance, JobTable, Tokens
from models.job_tables.view import filled, row_of_the_view, rows_of_the_view

_OF_A_TABLE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "table": lambda table: table.name,
    "table in words": lambda table: quoted(table_in_words(table)),
    "schema in words": lambda table: quoted(schema_in_words(table)),
    "name beginnings": lambda table: ", ".join(f"({quoted(one)})" for one in beginnings_of_names(table)),
    "rows": lambda table: table.rows,
    "row": lambda table: table.row,
    "types": types,
    "id column": lambda table: table.id_column,
    "status column": lambda table: table.status_column,
    "needed columns": pieces.needed_columns,
    "entering checks": pieces.entering_checks,
    "entered at": pieces.entered_at,
    "part earlier jobs": pieces.part_from_earlier,
    "require entered": pieces.require_entered,
    "entered books": books.entered_books,
    "truncated books": books.truncated_books,
    "ended books": books.ended_books,
    "ended variables": books.ended_variables,
    "find accepted": books.find_accepted,
    "waiting variables": held.waiting_variables,
    "check again": held.check_again,
    "allow while held": lambda table: held.allow_while_held(table, pieces.and_keeps_results(table)),
    "and keeps results": pieces.and_keeps_results,
    "set the end": pieces.set_the_end,
    "end without its type": pieces.end_of_another_type,
    "changed type": pieces.changed_type,
    "changed and not processing": pieces.changed_and_not_processing,
    "shown before": pieces.shown_before,
    "shown change": pieces.shown_change,
    "refuse changes": lambda table: "refuse_frozen" if table.names_refused_changes else "refuse_identity",
    "fill function": lambda table: table.fill_function,
    "label and message": pieces.label_and_message,
    "is plain change": pieces.is_plain_change,
    "is stale": pieces.is_stale,
    "touch": pieces.touch,
    "frozen in words": pieces.frozen_in_words,
    "clear the stage": pieces.clear_stage,
    "pass others": pieces.pass_others,
    "refuse held": held.refuse_held,
    "follow waits": held.follow_waits,
    "unpaid": pieces.unpaid,
    "search path": lambda table: table.search_path,
    "shown row": row_of_the_view,
    "rows shown by id": rows_of_the_view,
    **accounts.OF_A_TABLE,
}


_FROM_TEXT: Final[Mapping[str, Callable[[JobTable, str], str]]] = {
    "id": as_id,
    "ids": lambda table, texts: as_types(table.id_type, texts),
    "label": lambda table, status: label(table, JobStatus(status)),
    **accounts.FROM_TEXT,
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
    """Return PL/pgSQL that leaves an array only the jobs that are paid in tokens; empty if all jobs are, or none is."""
    if len({isinstance(table.money, Tokens) for table in tables}) == 1:
        return ""
    is_paid = _chosen_by_type(tables, "j.job_type", _OF_A_TYPE["is paid in tokens"])
    row = ", ".join(f"j.{name}" for name in fields.split())
    return (
        f"{array} := ARRAY(SELECT ROW({row})::darkroom.{row_type}\n    FROM unnest({array}) WITH ORDINALITY j\n"
        f"    WHERE ({is_paid})::boolean ORDER BY j.ordinality);"
    )


def _token_payees(tables: Sequence[JobTable]) -> str:
    """Return PL/pgSQL that finds whose jobs are paid in tokens among those that ended; empty if all jobs are."""
    paid = [one for table in tables if isinstance(table.money, Tokens) for one in table.job_types]
    if all(isinstance(table.money, Tokens) for table in tables):
        return ""
    found = f"SELECT DISTINCT e.user_id FROM unnest(ended) e WHERE e.job_type IN ({listed(paid)}) ORDER BY 1"
    return f"ids := ARRAY({found});"


def _payer_exists(tables: Sequence[JobTable], job_type: str, user: str) -> str:
    """Return a SQL condition that the user who paid for a job still exists, from the job's type and the user's id."""

    def is_there(table: JobTable) -> str:
        if isinstance(table.money, Tokens):
            return f"EXISTS (SELECT FROM public.users u WHERE u.id = {user})"
        if table.money is None:
            return "false"
        return f"darkroom.has_balance_of_{accounts.sharing(table, tables)[0].rows}({user})"

    if len(found := {is_there(table) for table in tables}) == 1:
        return found.pop()
    cases = " ".join(f"WHEN {job_type} IN ({types(table)}) THEN {is_there(table)}" for table in tables)
    return f"CASE {cases} ELSE darkroom.unknown_type({job_type})::boolean END"


def _money_tables(tables: Sequence[JobTable]) -> list[str]:
    """Return every table of the applications in which money of jobs is recorded."""
    own = [table.money.table for table in tables if isinstance(table.money, Balance)]
    in_tokens = ["public.user_token_balances", "public.token_transactions"] if _is_in_tokens(tables) else []
    return list(dict.fromkeys([*in_tokens, *own]))


def _is_in_tokens(tables: Sequence[JobTable]) -> bool:
    return any(isinstance(table.money, Tokens) for table in tables)


def _locked_money(tables: Sequence[JobTable]) -> str:
    """Return PL/pgSQL that locks every table of money, and waits for none; empty if there is no such table."""
    names = ", ".join(_money_tables(tables))
    return f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE NOWAIT;" if names else ""


def _payer_tables(tables: Sequence[JobTable]) -> str:
    """Return the tables of users and balances that say who exists, as literals that are each followed by a comma."""
    own = [table.money.table for table in tables if isinstance(table.money, Balance)]
    return "".join(f"{quoted(name)}, " for name in dict.fromkeys(["public.users"] * _is_in_tokens(tables) + own))


_OF_ALL: Final[Mapping[str, Callable[[Sequence[JobTable]], str]]] = {
    "lock the money tables": _locked_money,
    "payer tables and": _payer_tables,
    "money table names": lambda tables: listed(_money_tables(tables)),
    "types paid in tokens": lambda tables: listed(
        one for table in tables if isinstance(table.money, Tokens) for one in table.job_types
    ),
    "user types": lambda tables: listed(
        one
        for table in tables
        if table.application == "pictures" and not isinstance(table.money, Balance)
        for one in table.job_types
    ),
    "pictures types": lambda tables: listed(
        one for table in tables if table.application == "pictures" for one in table.job_types
    ),
    "album types": lambda tables: listed(
        one for table in tables if table.rows == "enhancements" for one in table.job_types
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
    "find token payees": _token_payees,
    "label changes": lambda _: _pairs(sorted(LABEL_CHANGES)),
}

_CHOICES: Final[Mapping[str, Callable[[JobTable, Sequence[JobTable]], bool]]] = {
    "": lambda _table, _tables: True,
    "whose rows are filled": lambda table, _: bool(table.fill_function),
    "whose jobs may wait": lambda table, _: held.may_wait(table),
    "is paid in tokens": lambda table, _: isinstance(table.money, Tokens),
    "with a balance of its own": lambda table, _: isinstance(table.money, Balance),
    "with a ledger of its own": lambda table, _: isinstance(table.money, Balance) and bool(table.money.ledger),
    "whose ids come again": lambda table, _: table.ids_come_again,
    "is of pictures": lambda table, _: table.application == "pictures",
    "is of another application": lambda table, _: table.application != "pictures",
    "that opens accounts": accounts.opens_accounts,
}


def is_chosen(table: JobTable, which: str, tables: Sequence[JobTable]) -> bool:
    """Return whether a template's block applies to one of `tables`; `which` is the block's condition on them.

    Raises:
        KeyError: there is no such condition.
    """
    return _CHOICES[which](table, tables)


def fact(table: JobTable, name: str, subject: str | None, tables: Sequence[JobTable]) -> str:
    """Return a fact of one of `tables`: over an alias of its row, or built `from` a given text.

    Raises:
        KeyError: there is no such fact.
    """
    if subject is None:
        if name in accounts.OF_A_TABLE_AMONG:
            return accounts.OF_A_TABLE_AMONG[name](table, tables)
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
