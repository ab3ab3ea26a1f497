"""Which types of jobs each table of an operator's file has: a type belongs to one table."""

from collections.abc import Sequence

from models.applications.files.file import JOB_TYPES, TableFile, literal
from models.applications.files.file_keys import Fault
from models.job_tables.sql_tokens import tokens


def types_of_jobs(tables: Sequence[TableFile]) -> tuple[dict[str, tuple[str, ...]], list[Fault]]:
    """Return the types of each table's jobs, by the table's name, and what is wrong with them.

    The jobs of a file's only table may be of any type, as its SQL says. Those of one of several are of the types that
    the SQL has as literals, since another table can't have jobs of the same type.
    """
    if len(tables) == 1:
        value = literal(tables[0].job_type)
        return {tables[0].name: JOB_TYPES if value is None else (value,)}, []
    types: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    faults = []
    for table in tables:
        named = {one.text[1:-1] for one in tokens(table.job_type) if one.kind == "text"}
        types[table.name] = tuple(one for one in JOB_TYPES if one in named) or JOB_TYPES
        for one in types[table.name]:
            owner = owners.setdefault(one, table.path)
            if owner != table.path and table.job_type:
                faults.append(Fault(f"{table.path}.job_type", f'"{one}" is already a type of {owner}'))
    return types, faults
