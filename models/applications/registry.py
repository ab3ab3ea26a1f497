"""The registry of shipped applications, and those that this process drains."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from models.applications.application import Application
from models.applications.pictures.application import PICTURES
from models.applications.studio import application as studio
from models.job_tables.accounts import sharing
from models.job_tables.table import Balance, JobTable, Tokens

SHIPPED: Final[dict[str, Callable[[str], Application]]] = {
    "pictures": lambda _: PICTURES,
    "studio": studio.application,
}
"""Functions that describe each shipped application in a schema, by its name."""

_in_use: tuple[Application, ...] = (PICTURES,)


def use(applications: Sequence[Application]) -> None:
    """Let this process drain these applications: those that `db upgrade` recorded in its database.

    Every process does this once, before it uses the database. Until then it drains `pictures`.
    """
    global _in_use  # noqa: PLW0603 - statements are rendered from them all over models, and they hold for the process
    _in_use = tuple(applications)


def applications() -> tuple[Application, ...]:
    """Return the applications that this process drains."""
    return _in_use


def has_pictures() -> bool:
    """Return whether `pictures` is one of them, whose tables have users, tokens, pipelines and pictures."""
    return PICTURES in _in_use


def fits(periodic_task: str) -> bool:
    """Return whether a periodic task is of use here: not if only `pictures` needs it, and isn't drained."""
    return has_pictures() or periodic_task not in PICTURES.periodic_tasks


def job_tables() -> tuple[JobTable, ...]:
    """Return the job tables that this process drains."""
    return _tables_of(_in_use)


@lru_cache(maxsize=64)
def _tables_of(chosen: tuple[Application, ...]) -> tuple[JobTable, ...]:
    return tuple(table for one in chosen for table in one.tables)


def table_of(job_type: str) -> JobTable:
    """Return the table that holds the jobs of a type.

    Raises:
        KeyError: no table holds such jobs.
    """
    return _by_type(_in_use)[job_type]


@lru_cache(maxsize=64)
def _by_type(chosen: tuple[Application, ...]) -> dict[str, JobTable]:
    return {job_type: table for table in _tables_of(chosen) for job_type in table.job_types}


def is_of_pictures(job_type: str) -> bool:
    """Return whether a job type is one of the application `pictures`, whose tables have users, pictures and logs."""
    table = _by_type(_in_use).get(job_type)
    return table is not None and table.application == PICTURES.name


def job_types() -> list[str]:
    """Return the types of the jobs that this process runs."""
    return [job_type for table in job_tables() for job_type in table.job_types]


def types_paid_in_tokens() -> list[str]:
    """Return the types of jobs that are paid from `public.user_token_balances`."""
    return [one for table in job_tables() if isinstance(table.money, Tokens) for one in table.job_types]


def spend_types() -> list[str]:
    """Return the ledger's types for the charges of jobs."""
    return [table.money.spend_type for table in job_tables() if isinstance(table.money, Tokens)]


def account_types() -> dict[str, list[str]]:
    """Return the types of jobs that are paid from accounts, by the application that the accounts' entries name."""
    found: dict[str, list[str]] = {}
    for table in job_tables():
        if isinstance(table.money, Balance):
            found.setdefault(sharing(table, job_tables())[0].application, []).extend(table.job_types)
    return found
