"""Tables for the audit in a schema of their own: a log of statuses, and the records of the programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from tests.chaos.added import AddedTable
from tests.chaos.book import Book

SCHEMA = """
CREATE SCHEMA chaos;

-- Every change of a status, by our own trigger, in the transaction of whoever made it.
CREATE TABLE chaos.status_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text NOT NULL,
    before text,
    after text NOT NULL,
    stage text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    program text NOT NULL DEFAULT current_setting('application_name')
);
CREATE INDEX status_log_job_idx ON chaos.status_log (job_id);
CREATE INDEX status_log_completed_idx ON chaos.status_log (at) WHERE after = 'COMPLETED';

-- Its arguments: the columns of id and label, and the state of each label that isn't called like its state.
CREATE FUNCTION chaos.log_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    old_row jsonb := to_jsonb(OLD);
    states jsonb := TG_ARGV[2];
    before text := coalesce(states ->> (old_row ->> TG_ARGV[1]), old_row ->> TG_ARGV[1]);
    after text := 'DELETED';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        after := to_jsonb(NEW) ->> TG_ARGV[1];
        after := coalesce(states ->> after, after);
    END IF;
    IF before <> after THEN
        INSERT INTO chaos.status_log (job_id, before, after, stage)
        VALUES (old_row ->> TG_ARGV[0], before, after,
                CASE WHEN before = 'PROCESSING' THEN coalesce(
                    old_row ->> 'currentStage',
                    (SELECT q.stage FROM darkroom.job_queue q WHERE q.job_id = old_row ->> TG_ARGV[0]),
                    'GENERATING') END);
    END IF;
    RETURN NULL;
END $$;

-- The stages of each job type, in order.
CREATE TABLE chaos.stages (job_type text NOT NULL, stage text NOT NULL, place integer NOT NULL,
                           PRIMARY KEY (job_type, stage));

-- What each payer had before the run and has after it, where jobs of some types are paid without a ledger.
CREATE TABLE chaos.own_balances (
    job_types text[] NOT NULL, payer text NOT NULL, opening bigint NOT NULL, balance bigint);

-- When the balances were about to be compared with their entries and repaired; nothing may be left to do for these.
CREATE TABLE chaos.repaired (at timestamptz NOT NULL DEFAULT clock_timestamp());

-- Every label that was refused at its job's end and is written now: the end is in the history since then.
CREATE TABLE chaos.settled (
    job_id text NOT NULL, label text NOT NULL, xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE FUNCTION chaos.log_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.settled (job_id, label) VALUES (OLD.job_id, OLD.label);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_log AFTER UPDATE ON darkroom.refused_ends
    FOR EACH ROW WHEN (OLD.label IS NOT NULL AND NEW.label IS NULL) EXECUTE FUNCTION chaos.log_settled();

-- What the programs know; filled when all is over, from memory that no fault touched.
CREATE TABLE chaos.submitted (
    job_id text NOT NULL, user_id text NOT NULL, image_id text, idempotency_key text, is_certain boolean NOT NULL,
    pictures integer NOT NULL DEFAULT 1);
CREATE INDEX submitted_job_idx ON chaos.submitted (job_id);
CREATE TABLE chaos.deleted (kind text NOT NULL, id text NOT NULL);
CREATE TABLE chaos.injected (
    kind text NOT NULL, at timestamptz NOT NULL, until timestamptz NOT NULL, worker_id uuid, detail text NOT NULL);
-- Every process that became a worker: one may be killed before anybody has looked who it is.
CREATE TABLE chaos.workers (worker_id uuid NOT NULL, pid integer NOT NULL, at timestamptz NOT NULL);
CREATE FUNCTION chaos.log_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.workers VALUES (NEW.id, NEW.pid, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_log AFTER INSERT ON darkroom.workers FOR EACH ROW EXECUTE FUNCTION chaos.log_worker();
INSERT INTO chaos.workers SELECT id, pid, started_at FROM darkroom.workers;
CREATE TABLE chaos.deadlocks (error text NOT NULL);
CREATE TABLE chaos.isolation_failures (error text NOT NULL, user_id text, since timestamptz, until timestamptz);
CREATE TABLE chaos.restored (job_id text NOT NULL);
CREATE TABLE chaos.refused_cancels (error text NOT NULL);
CREATE TABLE chaos.exceeded (finding text NOT NULL);

-- A table of another program's beside the application's, which nobody but it may touch.
CREATE TABLE public.somebody_elses (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value text);
INSERT INTO public.somebody_elses (value) SELECT n::text FROM generate_series(1, 100) n;
CREATE TABLE chaos.provider_count (at timestamptz NOT NULL, event text NOT NULL, purpose text NOT NULL);
"""


_PICTURES = ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING")
TABLES = (
    AddedTable("public.image_enhancement_jobs", "id", "status", {}, stages={"enhance": _PICTURES, "blend": _PICTURES}),
    AddedTable(
        "public.mcp_generation_jobs",
        "id",
        "status",
        {},
        stages={"generate": ("GENERATING",), "modify": ("GENERATING",)},
    ),
)
"""Those that every run has."""


async def prepare(database_url: str, added: Sequence[AddedTable] = ()) -> None:
    """Make the schema, on a database that is migrated and holds no job; workers may be there already."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(SCHEMA)
        for table in (*TABLES, *added):
            log = f"chaos.log_status('{table.id_column}', '{table.status_column}', '{json.dumps(table.states)}')"
            await connection.execute(
                f"""CREATE TRIGGER chaos_log AFTER UPDATE OR DELETE ON {table.name}
                    FOR EACH ROW EXECUTE FUNCTION {log}"""
            )
            places = [(kind, one, at) for kind, stages in table.stages.items() for at, one in enumerate(stages)]
            await connection.executemany("INSERT INTO chaos.stages VALUES ($1, $2, $3)", places)
            if table.balances:
                await connection.execute(
                    f"""INSERT INTO chaos.own_balances (job_types, payer, opening)
                        SELECT $1, b.* FROM ({table.balances}) b""",
                    list(table.stages),
                )
    finally:
        await connection.close()


async def load(connection: asyncpg.Connection, book: Book, count_path: Path, added: Sequence[AddedTable] = ()) -> None:
    """Write the book, the provider's own count and the balances that have no ledger into the schema."""
    for table in added:
        if table.balances:
            await connection.execute(
                f"""UPDATE chaos.own_balances o SET balance = b.balance FROM ({table.balances}) b (payer, balance)
                    WHERE o.payer = b.payer AND o.job_types = $1""",
                list(table.stages),
            )
    await connection.executemany(
        "INSERT INTO chaos.submitted VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (one.job_id, one.user_id, one.image_id, one.idempotency_key, one.is_certain, one.pictures)
            for one in book.submitted
        ],
    )
    await connection.executemany("INSERT INTO chaos.deleted VALUES ($1, $2)", sorted(book.deleted))
    await connection.executemany(
        """INSERT INTO chaos.injected
           SELECT $1, $2::timestamptz, $3::timestamptz, coalesce($4::uuid, w.worker_id), $5
           FROM (SELECT) one
           LEFT JOIN chaos.workers w ON w.pid = ANY ($6::integer[]) AND w.at < $3::timestamptz + interval '30 s'""",
        [
            (one.kind, _at(one.at_s), _at(one.until_s), one.worker_id, one.detail, sorted(one.pids))
            for one in book.injected
        ],
    )
    await connection.executemany("INSERT INTO chaos.deadlocks VALUES ($1)", [(one,) for one in book.deadlocks])
    await connection.executemany(
        "INSERT INTO chaos.isolation_failures VALUES ($1, $2, $3, $4)",
        [(error, user, _at(since_s), _at(until_s)) for error, user, since_s, until_s in book.isolation_failures],
    )
    lines = {
        "refused_cancels": book.refused_cancels,
        "exceeded": sorted(book.exceeded),
        "restored": sorted(book.restored),
    }
    for table, errors in lines.items():
        await connection.executemany(f"INSERT INTO chaos.{table} VALUES ($1)", [(one,) for one in errors])
    with count_path.open() as lines:
        counted = [json.loads(line) for line in lines]
    await connection.executemany(
        "INSERT INTO chaos.provider_count VALUES ($1, $2, $3)",
        [(_at(one["at"]), one["event"], one["purpose"]) for one in counted],
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
