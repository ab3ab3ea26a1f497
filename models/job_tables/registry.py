"""Every job table whose jobs this release runs."""

from typing import Final

from models.job_tables import pictures
from models.job_tables.table import JobTable

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
