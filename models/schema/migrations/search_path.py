"""The schema in which a role makes what it names without a schema: never ours."""

from sqlalchemy import Connection, text

from models.schema.migrations.session import SCHEMA


def keep_role_out_of_our_schema(connection: Connection) -> None:
    """Take `"$user"` off the search path of the role that migrates, if it has our schema's name, in this database.

    PostgreSQL's default is `"$user", public`: a role called darkroom, as on embedded data, would make its tables in
    our schema and find ours before the application's. Asked before the migration sets a path of its own; effective
    for sessions that begin after the commit.
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
