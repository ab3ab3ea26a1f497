"""Charges and refunds of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.connections import Connection
from models.job_tables.registry import types_paid_in_tokens
from models.job_tables.rendering import listed

_OF_JOB: Final = f"""
SELECT m.kind, m.amount, m.at, (SELECT min(t."balanceAfter") FROM public.token_transactions t
    WHERE t."sourceId" = m.job_id AND (t.type = 'REFUND') = (m.kind = 'refund')
      AND m.job_type IN ({listed(types_paid_in_tokens())})) AS balance
FROM darkroom.job_money m WHERE m.job_id = $1 AND ($2::text IS NULL OR m.job_type = $2) ORDER BY m.at
"""
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


async def money_of_job(connection: Connection, job_id: str, job_type: str | None = None) -> list[MoneyMove]:
    """Return a job's charges and refunds, oldest first. `job_type` is None for a job whose row is deleted."""
    return [MoneyMove(**row) for row in await connection.fetch(_OF_JOB, job_id, job_type)]


async def money_of_jobs(connection: Connection, job_ids: Sequence[str]) -> dict[tuple[str, Kind], int]:
    """Return the tokens that were charged and refunded for each of several jobs, by the job's id and the kind."""
    rows = await connection.fetch(_OF_JOBS, job_ids)
    return {(row["job_id"], row["kind"]): row["amount"] for row in rows}


async def refunded(connection: Connection, job_type: str, job_id: str) -> int | None:
    """Return how many tokens a job was refunded; None if it wasn't."""
    amount: int | None = await connection.fetchval(_REFUNDED, job_type, job_id)
    return amount
