"""Facts of job tables that are paid from a balance of the application's own.

An account is such a balance of one user. Job tables that are paid from the same balances share their accounts, which
have the names of the first of these tables.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from models.job_tables.rendering import as_type, as_types, listed, quoted
from models.job_tables.sql_tokens import with_placeholders
from models.job_tables.table import Balance, JobTable

_LEDGER: Final = {"$user": "$1", "$amount": "$2", "$kind": "$3", "$job": "$4", "$balance": "$5"}
"""Parameters of the statement that records a movement: text, integer, text, text and integer."""


def balance_of(table: JobTable) -> Balance:
    """Return the balance of a table whose jobs are paid from a balance of its own.

    Raises:
        KeyError: they aren't; templates ask only about tables of which they are.
    """
    if not isinstance(table.money, Balance):
        raise KeyError(f"jobs of {table.name} aren't paid from a balance of its own")
    return table.money


def sharing(table: JobTable, tables: Sequence[JobTable]) -> list[JobTable]:
    """Return the tables that are paid from the same balances as `table`, itself included, in their order."""
    own = balance_of(table)
    return [
        one
        for one in tables
        if isinstance(one.money, Balance)
        and (one.money.table, one.money.payer_column, one.money.balance) == (own.table, own.payer_column, own.balance)
    ]


def opens_accounts(table: JobTable, tables: Sequence[JobTable]) -> bool:
    """Return whether a table is the first that is paid from its balances."""
    return isinstance(table.money, Balance) and sharing(table, tables)[0] is table


def _too_few(table: JobTable) -> str:
    """Return the words of the refusal of a charge beyond the balance, with the values that RAISE inserts."""
    if table.application == "pictures":
        return "'too few tokens for user %: needed %, available %', wrong.user_id"
    return "'too few tokens: needed %, available %'"


def _write_the_ledger(table: JobTable) -> str:
    """Return PL/pgSQL that records movements in the application's own ledger; empty where there is none."""
    if not balance_of(table).ledger:
        return ""
    return f"PERFORM darkroom.write_{table.rows}_ledger(of_users, amounts, kind, of_jobs, balances_after);"


OF_A_TABLE: Final[Mapping[str, Callable[[JobTable], str]]] = {
    "balances": lambda table: balance_of(table).table,
    "payer column": lambda table: balance_of(table).payer_column,
    "payer": lambda table: f"b.{balance_of(table).payer_column}::text",
    "balance": lambda table: f"({balance_of(table).balance})",
    "too few": _too_few,
    "write the ledger": _write_the_ledger,
    "ledger statement": lambda table: quoted(with_placeholders(balance_of(table).ledger, _LEDGER)),
}
"""The payer's id, as text, and the balance are over `b`, the row of the balance."""

OF_A_TABLE_AMONG: Final[Mapping[str, Callable[[JobTable, Sequence[JobTable]], str]]] = {
    "account": lambda table, tables: sharing(table, tables)[0].rows,
    "application": lambda table, tables: quoted(sharing(table, tables)[0].application),
    "account types": lambda table, tables: listed(one for other in sharing(table, tables) for one in other.job_types),
}
"""Facts of a table that depend on the others."""

FROM_TEXT: Final[Mapping[str, Callable[[JobTable, str], str]]] = {
    "payer": lambda table, text: as_type(balance_of(table).payer_type, text),
    "payers": lambda table, texts: as_types(balance_of(table).payer_type, texts),
    "change": lambda table, amount: with_placeholders(balance_of(table).change, {"$amount": f"({amount})"}),
}
