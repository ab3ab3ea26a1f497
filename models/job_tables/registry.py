"""The registry of job tables: every job table whose jobs this release runs."""

from typing import Final

from models.job_tables import pictures
from models.job_tables.table import Balance, JobTable, Tokens

JOB_TABLES: Final[tuple[JobTable, ...]] = (*pictures.TABLES,)


def table_of(job_type: str) -> JobTable:
    """Return the table that holds the jobs of a type.

    Raises:
        KeyError: no table holds such jobs.
    """
    for table in JOB_TABLES:
        if job_type in table.job_types:
            return table
    raise KeyError(job_type)


def types_paid_in_tokens() -> list[str]:
    """Return the types of jobs that are paid from `public.user_token_balances`."""
    return [one for table in JOB_TABLES if isinstance(table.money, Tokens) for one in table.job_types]


def spend_types() -> list[str]:
    """Return the ledger's types for the charges of jobs."""
    return [table.money.spend_type for table in JOB_TABLES if isinstance(table.money, Tokens)]


def balances_without_ledger() -> list[str]:
    """Return the tables of balances that Darkroom can't audit, because it knows only its own charges."""
    return list(dict.fromkeys(table.money.table for table in JOB_TABLES if isinstance(table.money, Balance)))
