"""Rules of an application that refuse a change of one row: constraint, index, trigger, ASSERT, limit or mistake."""

from models.database import Database

_TRIGGER = """
CREATE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF {condition} THEN
        {statement}
    END IF;
    RETURN NEW;
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
    """Refuse changes of rows for which a condition over NEW holds: in a way of STATEMENTS, or at the commit."""
    if kind == "deferred":
        await run(database, _DEFERRED.format(condition=condition, events=events, table=table))
        return
    await run(database, _TRIGGER.format(condition=condition, statement=STATEMENTS[kind], events=events, table=table))


async def allow(database: Database, table: str = "image_enhancement_jobs") -> None:
    """Drop the rule."""
    await run(database, f"DROP TRIGGER app_rule ON public.{table}")


def raising(state: str, condition: str) -> str:
    """Make the script of a trigger on enhancements that raises one SQLSTATE where a condition over NEW holds."""
    statement = f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}';"
    return _TRIGGER.format(condition=condition, statement=statement, events="UPDATE", table="image_enhancement_jobs")
