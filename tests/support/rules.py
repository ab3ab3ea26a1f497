"""Rules of an application that refuse a change of one row: constraint, index, trigger, ASSERT, limit or mistake."""

from models.database import Database

_TRIGGER = """
CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF {condition} THEN
        {statement}
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $body$;
CREATE TRIGGER app_rule BEFORE {events} ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.app_rule();
"""
_DEFERRED = """
CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF {condition} THEN
        RAISE EXCEPTION 'said at the commit' USING ERRCODE = '23000';
    END IF;
    RETURN NULL;
END $body$;
CREATE CONSTRAINT TRIGGER app_rule AFTER {events} ON public.{table} DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION public.app_rule();
"""
STATEMENTS = {
    "raise": "RAISE EXCEPTION 'not while the moon is full';",
    "raise of a right": "RAISE EXCEPTION 'not allowed here' USING ERRCODE = '42501';",
    "raise of its own state": "RAISE EXCEPTION 'a rule of the application' USING ERRCODE = 'APP01';",
    "assert": "ASSERT false, 'this can never be';",
    "division by zero": "PERFORM 1 / 0;",
    "missing table": "INSERT INTO public.app_history VALUES (NEW.id);",
    "long notify": "PERFORM pg_notify('app', repeat('x', 9000));",
    "bad cast": "PERFORM NEW.id::integer;",
    "no row": "RETURN NULL;",
    "the old row": "RETURN CASE TG_OP WHEN 'UPDATE' THEN OLD END;",
}
"""What a trigger of the application's may do; ASSERT isn't among OTHERS, and the last two refuse without a word."""

STATES = (
    *("08000", "08003", "08006", "08P01", "0A000", "25006", "25P02", "26000", "40001", "40002", "40P01", "42P05"),
    *("53000", "53100", "53200", "53300", "53400", "54000", "55006", "55P03", "57000", "57014", "57P01", "57P02"),
    *("57P03", "58030", "P0001", "XX000", "XX002"),
)
"""SQLSTATEs that mean something of the server's, the connection's or the moment's, until a trigger raises them."""


async def run(database: Database, script: str) -> None:
    """Run statements as the application's owner does."""
    async with database.connection() as connection:
        await connection.execute(script)


async def refuse(
    database: Database,
    kind: str,
    condition: str,
    *,
    table: str = "image_enhancement_jobs",
    events: str = "UPDATE",
) -> None:
    """Refuse changes of rows for which a condition over NEW (or OLD) holds.

    `kind` is of STATEMENTS, `deferred` for a refusal at the commit, or the SQLSTATE that a trigger raises.
    """
    if kind == "deferred":
        await run(database, _DEFERRED.format(condition=condition, events=events, table=table))
        return
    statement = STATEMENTS.get(kind, f"RAISE EXCEPTION 'no' USING ERRCODE = '{kind}';")
    await run(database, _TRIGGER.format(condition=condition, statement=statement, events=events, table=table))


async def allow(database: Database, table: str = "image_enhancement_jobs") -> None:
    """Drop the rule."""
    await run(database, f"DROP TRIGGER app_rule ON public.{table}")


async def raise_states(
    database: Database,
    states: dict[str, str],
    *,
    key: str = "id",
    table: str = "image_enhancement_jobs",
    when: str = "",
) -> None:
    """Let a trigger raise a SQLSTATE for each row whose key has one, at each UPDATE for which `when` over NEW holds."""
    await run(
        database,
        f"""CREATE TABLE IF NOT EXISTS public.app_states (key text PRIMARY KEY, state text);
            CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
            DECLARE
                found_state text := (SELECT s.state FROM public.app_states s WHERE s.key = NEW."{key}");
            BEGIN
                IF found_state IS NOT NULL AND {when or "true"} THEN
                    RAISE EXCEPTION 'no' USING ERRCODE = found_state;
                END IF;
                RETURN NEW;
            END $body$;
            CREATE TRIGGER app_rule BEFORE UPDATE ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.app_rule()""",
    )
    await database.fetch(
        "INSERT INTO public.app_states SELECT * FROM unnest($1::text[], $2::text[])",
        list(states),
        list(states.values()),
    )
