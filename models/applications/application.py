"""The description of an application: its job tables, and what else Darkroom needs to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.job_tables.table import JobTable


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """An application in one schema of a database. Equality is identity, as for job tables.

    Attributes:
        name: `[a-z][a-z0-9_]{0,30}`; its job types and its objects' keys begin with it, but for `pictures`.
        schema: the schema in which its tables stand.
        tables: its job tables.
        needs: the columns that Darkroom reads or writes, by table, in the words of the application, separated by
            spaces.
        references: columns that can hold an object's key or URL, by their names, by table with its schema as in SQL;
            those of its job tables count by themselves.
        periodic_tasks: names of the periodic tasks that only this application needs. All others fit every application.
        sql: functions of ours that only this application needs, as a text of SQL: its fragments call them.
        source: the text of the file that describes it; empty for a shipped application.
    """

    name: str
    schema: str
    tables: tuple[JobTable, ...]
    needs: Mapping[str, str]
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    periodic_tasks: frozenset[str] = frozenset()
    sql: str = ""
    source: str = ""

    @property
    def object_columns(self) -> Mapping[str, tuple[str, ...]]:
        """The columns that can hold an object's key or URL, by table, as `references` has them."""
        own = {table.name: table.object_columns for table in self.tables if table.object_columns}
        return {
            table: (*own.get(table, ()), *self.references.get(table, ())) for table in (own | dict(self.references))
        }
