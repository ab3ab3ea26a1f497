"""Rights of a role on everything that a worker, a scheduler and the command line use, read from the catalog."""

from typing import Final

from sqlalchemy import Connection, text

from models.applications.registry import applications, has_pictures, job_tables

MOST_NAMED: Final = 3
"""How many missing rights a message lists; it gives the number of the others."""

_READ: Final = ("public.enhanced_images", "public.enhancement_pipelines", "public.user_token_balances")
"""The tables of `pictures` that every job reads, or whose user's balance is shown."""

_SCHEMAS = text("""
    SELECT format('USAGE on schema %I', nspname) FROM pg_namespace
    WHERE nspname = ANY (:schemas) AND NOT has_schema_privilege(oid, 'USAGE') ORDER BY 1
""")

# Every table, sequence and function of ours, except functions that only triggers call; the version table is only read.
_OBJECTS = text("""
    WITH wanted AS (
        SELECT c.oid, c.relname, c.relkind, w.what FROM pg_class c
        CROSS JOIN unnest(CASE
            WHEN c.relkind = 'S' THEN ARRAY['USAGE', 'SELECT']
            WHEN c.relkind = 'v' OR c.relname = 'alembic_version' THEN ARRAY['SELECT']
            ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) w (what)
        WHERE c.relnamespace = 'darkroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND NOT c.relispartition),
    missing AS (
        SELECT 1 AS place, format('%s on darkroom.%I', w.what, w.relname) AS name FROM wanted w
        WHERE CASE WHEN w.relkind = 'S' THEN NOT has_sequence_privilege(w.oid, w.what)
                   ELSE NOT has_table_privilege(w.oid, w.what) END
        UNION ALL
        SELECT 2, 'EXECUTE on ' || p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'darkroom'::regnamespace AND p.prorettype <> 'trigger'::regtype
          AND NOT has_function_privilege(p.oid, 'EXECUTE')
        UNION ALL
        SELECT 0, w.what || ' on ' || u.name FROM unnest(CAST(:tables AS text[])) u (name)
        JOIN pg_class c ON c.oid = to_regclass(u.name)
        CROSS JOIN unnest(CASE WHEN u.name = ANY (:job_tables) THEN ARRAY['SELECT', 'UPDATE']
                               ELSE ARRAY['SELECT'] END) w (what)
        -- rows are read as a whole, and by their places (ctid), for which no right on columns is enough
        WHERE NOT CASE w.what WHEN 'SELECT' THEN has_table_privilege(c.oid, w.what)
                              ELSE has_any_column_privilege(c.oid, w.what) END)
    SELECT name FROM missing ORDER BY place, name
""")


def missing_rights(connection: Connection) -> list[str]:
    """Return every right that the session's role lacks, such as `EXECUTE on darkroom.adopt(integer)`.

    If the role may not use a schema, only that is returned: rights on objects in it can't be read.
    """
    used = ["darkroom", *(one.schema for one in applications())]
    schemas = list(connection.scalars(_SCHEMAS, {"schemas": used}))
    is_installed = connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'darkroom'"))
    if schemas or not is_installed:
        return schemas
    ours = [table.name for table in job_tables()]
    tables = {"job_tables": ours, "tables": [*ours, *(_READ if has_pictures() else ())]}
    return list(connection.scalars(_OBJECTS, tables))


def rights_message(connection: Connection, missing: list[str]) -> str:
    """Return a line for operators that says what a role lacks and what to do."""
    role = connection.scalar(text("SELECT current_user"))
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    named = ", ".join(missing[:MOST_NAMED])
    return f"role {role} lacks {named}{more}: use the role that ran `darkroom db upgrade`, or grant it these rights"
