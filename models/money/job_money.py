"""Charges and refunds of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.applications.registry import account_types, types_paid_in_tokens
from models.connections import Connection
from models.job_tables.rendering import listed, quoted

_OF_JOB: Final = """
SELECT m.kind, m.amount, m.at, {balance} AS balance
FROM darkroom.job_money m WHERE m.job_id = $1 AND ($2::text[] IS NULL OR m.job_type = ANY ($2)) ORDER BY m.at
"""
_IN_LEDGER: Final = """(SELECT min(t."balanceAfter") FROM public.token_transactions t
    WHERE t."sourceId" = m.job_id AND (t.type = 'REFUND') = (m.kind = 'refund') AND m.job_type IN ({types}))"""
_IN_ENTRIES: Final = """(SELECT min(e.balance_after) FROM darkroom.token_entries e
    WHERE e.job_id = m.job_id AND e.kind = m.kind AND e.application = {application} AND m.job_type IN ({types}))"""
_OF_JOBS: Final = "SELECT m.job_id, m.kind, m.amount FROM darkroom.job_money m WHERE m.job_id = ANY ($1::text[])"
_REFUNDED: Final = """
SELECT m.amount FROM darkroom.job_money m WHERE m.job_type = $1 AND m.job_id = $2 AND m.kind = 'refund'
"""

Kind = Literal["charge", "refund"]


@dataclass(frozen=True, slots=True)
class MoneyMove:
    """A charge or a refund; `balance` is the user's balance after it; None if the ledger doesn't have that."""

    kind: Kind
    amount: int
    at: datetime
    balance: int | None


async def money_of_job(connection: Connection, job_id: str, types: Sequence[str] | None) -> list[MoneyMove]:
    """Return a job's charges and refunds, oldest first.

    `types` are those of the jobs of its table; None if nothing tells the table of a job whose row is deleted.
    """
    return [MoneyMove(**row) for row in await connection.fetch(of_job(), job_id, types)]


async def money_of_jobs(connection: Connection, job_ids: Sequence[str]) -> dict[tuple[str, Kind], int]:
    """Return the tokens that were charged and refunded for each of several jobs, by the job's id and the kind."""
    rows = await connection.fetch(_OF_JOBS, job_ids)
    return {(row["job_id"], row["kind"]): row["amount"] for row in rows}


async def refunded(connection: Connection, job_type: str, job_id: str) -> int | None:
    """Return how many tokens a job was refunded; None if it wasn't."""
    amount: int | None = await connection.fetchval(_REFUNDED, job_type, job_id)
    return amount


def of_job() -> str:
    """Return the statement that reads the money of a job: the balance after a move stands in the ledger or an entry."""
    in_tokens = types_paid_in_tokens()
    balances = [
        *([_IN_LEDGER.format(types=listed(in_tokens))] if in_tokens else []),
        *(_IN_ENTRIES.format(application=quoted(name), types=listed(own)) for name, own in account_types().items()),
    ]
    return _OF_JOB.format(balance=f"coalesce({', '.join(balances)})" if balances else "NULL::integer")
