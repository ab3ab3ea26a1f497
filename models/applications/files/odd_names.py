"""Names of a file that are refused, whatever the database says of them."""

from models.applications.files.file import ApplicationFile
from models.applications.files.file_keys import Fault
from models.applications.files.sql_names import ODD_IN_WORDS, is_odd


def odd_names(file: ApplicationFile, schema: str) -> list[Fault]:
    """Return a fault for each schema, table and column of a file whose name our SQL couldn't have everywhere."""
    named = [("schema", schema), *(("references", name) for pair in file.references for name in pair)]
    if file.money:
        named += [("money.table", file.money.table), ("money.user", file.money.user)]
    for table in file.tables:
        named += [(table.path, table.name), (f"{table.path}.id", table.id), (f"{table.path}.status", table.status)]
        named += [(f"{table.path}.columns.{fact}", column) for fact, column in table.columns.items()]
        named += [(f"{table.path}.frozen", column) for column in table.frozen]
        named += [(f"{table.path}.result.{column}", column) for column in table.result]
    return [Fault(key, f"{name} {ODD_IN_WORDS}") for key, name in named if is_odd(name)]
