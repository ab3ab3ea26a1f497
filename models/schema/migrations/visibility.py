"""Checks whether row-level security hides rows from Darkroom's roles, which would treat such rows as deleted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from models.applications.pictures.tables import TABLES
from models.applications.registry import applications, has_pictures

# The role of this session, and the owners of trigger functions and views, because these run with their owners' rights.
_HIDDEN: Final = text("""
    WITH readers AS (
        SELECT oid FROM pg_roles WHERE rolname = current_user
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'darkroom'::regnamespace AND prosecdef
        UNION SELECT relowner FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace AND relkind = 'v')
    SELECT format('%I.%I', n.nspname, c.relname) AS table_name, pg_get_userbyid(r.oid) AS role
    FROM readers r
    CROSS JOIN LATERAL darkroom.hidden_tables(r.oid, ARRAY(
        SELECT t.oid FROM pg_class t WHERE t.relrowsecurity AND t.relkind IN ('r', 'p')
            AND (t.relnamespace = 'darkroom'::regnamespace OR t.oid IN (
                SELECT to_regclass(quote_ident(u.schema) || '.' || quote_ident(u.name))
                FROM unnest(CAST(:schemas AS text[]), CAST(:tables AS text[])) u (schema, name))))) hidden
    JOIN pg_class c ON c.oid = hidden JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class HiddenTable:
    """A table whose rows row-level security hides, at least in part, from one of Darkroom's roles."""

    table: str
    role: str

    @property
    def message(self) -> str:
        """Return a line for operators that says which rows are hidden from which role, and what to do."""
        return (
            f"row-level security hides rows of {self.table} from role {self.role}: ALTER ROLE {self.role} BYPASSRLS, "
            f"or CREATE POLICY darkroom ON {self.table} TO {self.role} USING (true) WITH CHECK (true)"
        )


def hidden_tables(connection: Connection) -> Iterator[HiddenTable]:
    """Yield the tables that Darkroom uses and of which rows are hidden from it; none before the first upgrade."""
    if connection.scalar(text("SELECT to_regprocedure('darkroom.hidden_tables(oid, oid[])')")) is None:
        return
    used = [(one.schema, table) for one in applications() for table in one.needs]
    used += [("public", table) for table in TABLES] if has_pictures() else []
    names = {"schemas": [schema for schema, _ in used], "tables": [table for _, table in used]}
    for table, role in connection.execute(_HIDDEN, names):
        yield HiddenTable(table, role)
