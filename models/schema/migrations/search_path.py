"""Keeps our schema out of the search path of the role that migrates."""

from sqlalchemy import Connection, text

from models.schema.migrations.session import SCHEMA


def keep_role_out_of_our_schema(connection: Connection) -> None:
    """Remove `"$user"` from the migrating role's search path in this database, if the role is named like our schema.

    PostgreSQL's default is `"$user", public`: a role called darkroom, as in the embedded PostgreSQL, would create its
    tables in our schema and find ours before the application's. The path is read before the migration sets a path of
    its own; the change holds for sessions that begin after the commit.
    """
    role, path = connection.execute(text("SELECT current_user, current_setting('search_path')")).one()
    named = [part.strip() for part in path.split(",")]
    kept = [part for part in named if part.strip('"') not in {"$user", SCHEMA}]
    if role != SCHEMA or kept == named:
        return
    database = connection.scalar(text("SELECT quote_ident(current_database())"))
    connection.execute(
        text(f"ALTER ROLE {SCHEMA} IN DATABASE {database} SET search_path = {', '.join(kept) or 'public'}")
    )
