"""The application that an operator's file describes, from its text and from what was recorded of the database.

The same text and record give the same description, whatever the database says today: workers rebuild it from
`darkroom.settings`.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from models.applications.application import Application
from models.applications.files.catalogue import ID_TYPES, Catalogue, tables_of
from models.applications.files.file import ApplicationFile, MoneyFile, TableFile, read
from models.applications.files.frozen import columns_that_stay
from models.applications.files.job_table import job_table
from models.applications.files.sql_names import relation
from models.applications.files.types_of_jobs import types_of_jobs
from models.job_tables.quoting import quoted_name
from models.job_tables.sql_tokens import columns_named, without_comments
from models.job_tables.table import Balance


def described(text: str, file_name: str, schema: str, facts: Mapping[str, Any]) -> Application:
    """Return the application that a file describes.

    Args:
        text: the file's content.
        file_name: its name, for errors.
        schema: the schema of its tables.
        facts: what `facts_of` of models.applications.files.faults found when it was recorded.

    Raises:
        ValueError: the text has a fault, or names what the facts don't have; such a file is never recorded.
    """
    file, faults = read(text)
    if faults:
        raise ValueError(faults[0].line(file_name))
    catalogue = Catalogue.from_json(facts)
    try:
        money = _balance(file.money, schema, catalogue) if file.money else None
        types, _ = types_of_jobs(file.tables)
        tables = [job_table(file.name, table, types[table.name], schema, catalogue, money) for table in file.tables]
        return Application(
            name=file.name,
            schema=schema,
            tables=tuple(table for table, _ in tables),
            needs=_needs(file, catalogue),
            references=_references(file, schema),
            sql="\n".join(sql for _, sql in tables),
            source=text,
        )
    except KeyError as error:
        raise ValueError(f"{file_name}: {error.args[0]} is in none of the tables that were recorded") from error


def _balance(money: MoneyFile, schema: str, catalogue: Catalogue) -> Balance:
    return Balance(
        table=relation(schema, money.table),
        payer_column=quoted_name(money.user),
        balance=without_comments(money.balance),
        change=without_comments(money.change),
        payer_type=ID_TYPES[catalogue.column(money.table, money.user).type],
        ledger=without_comments(money.ledger),
    )


def _references(file: ApplicationFile, schema: str) -> dict[str, tuple[str, ...]]:
    columns: dict[str, tuple[str, ...]] = {}
    for table, column in dict.fromkeys(file.references):
        name = relation(schema, table)
        columns[name] = (*columns.get(name, ()), column)
    return columns


def _needs(file: ApplicationFile, catalogue: Catalogue) -> dict[str, str]:
    """Return the columns that the file names, by table; its statements (`books`, `ledger`) aren't looked through.

    Names with spaces are left out, as `needs` is a list of words; a file that names what isn't there is refused anyway.
    """
    needed: dict[str, list[str]] = {table: [] for table in sorted(tables_of(file.references))}
    for name, column in file.references:
        needed[name].append(column)
    if file.money:
        columns = catalogue.tables[file.money.table].columns
        named = (columns_named(sql, "b", columns) for sql in (file.money.balance, file.money.change))
        needed.setdefault(file.money.table, []).extend([file.money.user, *chain.from_iterable(named)])
    for table in file.tables:
        needed.setdefault(table.name, []).extend(_needed_of(table, catalogue))
    return {
        name: " ".join(one for one in dict.fromkeys(columns) if [one] == one.split())
        for name, columns in needed.items()
    }


def _needed_of(table: TableFile, catalogue: Catalogue) -> list[str]:
    columns = catalogue.tables[table.name].columns
    fragments = (table.max_attempts, table.scheduled_at, *table.result.values(), *(one.must for one in table.checks))
    return [
        *(table.id, table.status, *table.columns.values(), *table.result),
        *columns_that_stay(table, catalogue),
        *chain.from_iterable(columns_named(sql, "r", columns) for sql in fragments),
    ]
