"""Balances that applications keep themselves, of one user, and the entries that have every change of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.applications.registry import job_tables
from models.connections import Connection
from models.job_tables.accounts import FROM_TEXT, OF_A_TABLE, sharing
from models.job_tables.table import Balance, JobTable

_ENTRIES: Final = """
SELECT e.created_at AS at, e.kind, e.amount, e.balance_after, e.job_id FROM darkroom.token_entries e
WHERE e.user_id = $1 AND e.application = $2 ORDER BY e.id DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of a balance.

    Attributes:
        at: when it was written.
        kind: opening, charge, refund or other.
        amount: tokens that were added; below 0 where they were taken.
        balance_after: the balance after it.
        job_id: the job that was charged or refunded; else None.
    """

    at: datetime
    kind: str
    amount: int
    balance_after: int
    job_id: str | None


def accounts_of(application: str) -> list[JobTable]:
    """Return, once for each kind of balance from which jobs of an application are paid, the table that opens it."""
    tables = [one for one in job_tables() if one.application == application and isinstance(one.money, Balance)]
    return list(dict.fromkeys(sharing(one, job_tables())[0] for one in tables))


async def account_balance(connection: Connection, table: JobTable, user_id: str) -> int | None:
    """Return a user's balance, from which jobs of a table are paid; None if the user has none."""
    balance, relation = OF_A_TABLE["balance"](table), OF_A_TABLE["balances"](table)
    payer = f"b.{OF_A_TABLE['payer column'](table)} = {FROM_TEXT['payer'](table, '$1::text')}"
    found = await connection.fetchval(f"SELECT {balance}::bigint FROM {relation} b WHERE {payer}", user_id)
    return None if found is None else int(found)


async def newest_entries(connection: Connection, application: str, user_id: str, most: int) -> Sequence[Entry]:
    """Return the changes of a user's balances of an application, the newest first."""
    return [Entry(**row) for row in await connection.fetch(_ENTRIES, user_id, application, most)]
