"""The columns of a job table that may not change while a job is unfinished."""

from models.applications.files.catalogue import Catalogue
from models.applications.files.file import TableFile
from models.job_tables.sql_tokens import columns_named


def written_columns(table: TableFile) -> dict[str, str]:
    """Return the columns that Darkroom writes itself, each with the key that says so."""
    return {
        **{column: f"{table.path}.result.{column}" for column in table.result},
        **{column: f"{table.path}.columns.{fact}" for fact, column in table.columns.items()},
        table.status: f"{table.path}.status",
    }


def columns_that_stay(table: TableFile, catalogue: Catalogue) -> list[str]:
    """Return the columns that may not change while a job is unfinished.

    They are the id, those that the file freezes, and those that user, type, tier, cost and inputs name. The contract
    freezes user, cost and inputs; type and tier are what the price was paid for. A file is refused where one of these
    names a column that Darkroom writes.
    """
    names = catalogue.tables[table.name].columns
    fragments = (table.user, table.job_type, table.tier, table.cost, *table.inputs.values())
    named = [column for sql in fragments for column in columns_named(sql, "r", names)]
    written = written_columns(table)
    return list(dict.fromkeys([table.id, *table.frozen, *(column for column in named if column not in written)]))
