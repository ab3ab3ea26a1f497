"""The names of a job table and of its jobs in words, as people and programs give them: TABLE/ID."""

import re
from typing import Final

from models.job_tables.table import JobTable

_PART: Final = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def schema_in_words(table: JobTable) -> str:
    """Return the schema of a job table, without quotes."""
    return _parts(table)[0]


def table_in_words(table: JobTable) -> str:
    """Return the name of a job table, without its schema and quotes."""
    return _parts(table)[1]


def beginnings_of_names(table: JobTable) -> tuple[str, str]:
    """Return what stands before the id in the names of a table's jobs: `TABLE/`, and `SCHEMA.TABLE/`."""
    schema, name = _parts(table)
    return f"{name}/", f"{schema}.{name}/"


def ids_in_name(table: JobTable, name: str) -> list[str]:
    """Return the ids that a name, or the beginning of a name, may stand for in a table, if it is of the form TABLE/ID.

    The name itself, which may be an id too, isn't among them.
    """
    return [name[len(one) :] for one in beginnings_of_names(table) if name.startswith(one) and name != one]


def _parts(table: JobTable) -> tuple[str, str]:
    found = [plain or quoted.replace('""', '"') for quoted, plain in _PART.findall(table.name)]
    return found[0], found[-1]
