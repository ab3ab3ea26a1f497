"""The audit after a run: each promise is a query over tables, and each result is read. None of Darkroom's code is used.

A query returns the violations: what broke (a job, a user, a worker), and how.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.chaos.added import AddedTables

RECOVERY_S = 60
"""After a broker or PostgreSQL was lost, a job must complete within so long, if one waited."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which, of what, and how."""

    promise: str
    subject: str
    finding: str


FINISHED = "('COMPLETED', 'FAILED', 'REFUNDED', 'CANCELLED')"

I1 = {
    "not terminal": f"SELECT id, status::text FROM darkroom.jobs WHERE status::text NOT IN {FINISHED}",
    "still queued": "SELECT job_id, format('%s, %s: %s', status, stage, last_error) FROM darkroom.job_queue",
    "lost": """
        SELECT s.job_id, 'its commit was confirmed, and there is no such row' FROM chaos.submitted s
        WHERE s.is_certain AND NOT EXISTS (SELECT FROM darkroom.jobs j WHERE j.id = s.job_id)
          AND NOT EXISTS (SELECT FROM chaos.deleted d WHERE d.id IN (s.user_id, s.image_id, s.job_id))""",
    "nobody's": """
        SELECT j.id, 'no producer knows of it' FROM darkroom.jobs j
        WHERE NOT EXISTS (SELECT FROM chaos.submitted s WHERE s.job_id = j.id)""",
}

# What may stand before an event in a job's history, by the id of its row: a job's rows are written under its lock.
ENDS = "('released', 'retried', 'rescued', 'snoozed')"
HISTORY = """
    SELECT r.*, lag(r.event) OVER w AS event_before, lag(r.stage) OVER w AS stage_before,
           lag(r.attempt) OVER w AS attempt_before, lag(r.worker_id) OVER w AS worker_before
    FROM darkroom.stage_runs r WHERE r.event NOT IN ('fenced', 'started')
    WINDOW w AS (PARTITION BY r.job_type, r.job_id ORDER BY r.id)"""

I2 = {
    "claimed while held": f"""
        SELECT job_id, format('claimed by %s after %s by %s', worker_id, event_before, worker_before)
        FROM ({HISTORY}) h WHERE event = 'claimed' AND event_before NOT IN {ENDS}""",
    "written by a lost claim": f"""
        SELECT job_id, format('%s at %s by attempt %s of %s, after %s by attempt %s of %s', event, stage, attempt,
                              worker_id, event_before, attempt_before, worker_before)
        FROM ({HISTORY}) h
        WHERE event <> 'claimed' AND worker_id IS NOT NULL
          AND (event_before IS NULL OR event_before NOT IN ('claimed', 'finished')
               OR (event_before = 'finished' AND stage_before = 'GENERATING')
               OR (attempt, worker_id) IS DISTINCT FROM (attempt_before, worker_before))""",
    "written past its fence": """
        SELECT l.job_id, format('%s -> %s without a line of history in its transaction', l.before, l.after)
        FROM chaos.status_log l
        WHERE l.program = 'darkroom' AND l.after <> 'DELETED'
          AND NOT EXISTS (SELECT FROM darkroom.stage_runs r WHERE r.job_id = l.job_id AND r.xmin = l.xid::xid)
          AND NOT EXISTS (
              SELECT FROM chaos.settled s WHERE (s.job_id, s.xid) = (l.job_id, l.xid)
                AND (s.label = l.after OR (s.label, l.after) = ('REFUNDED', 'FAILED')))""",  # one label may be both
    "rescued from the living": """
        SELECT r.job_id, format('taken from %s, to which nothing had happened', r.worker_id)
        FROM darkroom.stage_runs r
        WHERE r.event = 'rescued' AND NOT EXISTS (
            SELECT FROM chaos.injected i WHERE i.worker_id = r.worker_id AND i.at <= r.at)""",
}

MONEY = """
    SELECT m.job_type, m.job_id, sum(m.amount) FILTER (WHERE m.kind = 'charge') AS charge,
           sum(m.amount) FILTER (WHERE m.kind = 'refund') AS refund
    FROM darkroom.job_money m GROUP BY 1, 2"""
LEDGER = """
    SELECT t."sourceId" AS job_id, count(*) FILTER (WHERE t.type <> 'REFUND') AS charges,
           count(*) FILTER (WHERE t.type = 'REFUND') AS refunds,
           -sum(t.amount) FILTER (WHERE t.type <> 'REFUND') AS charge,
           sum(t.amount) FILTER (WHERE t.type = 'REFUND') AS refund
    FROM public.token_transactions t
    WHERE t.type IN ('SPEND_ENHANCEMENT', 'SPEND_MCP_GENERATION', 'REFUND') GROUP BY 1"""

I3 = {
    "charged or refunded twice": f"""
        SELECT job_id, format('%s charges and %s refunds in the ledger', charges, refunds)
        FROM ({LEDGER}) l WHERE charges > 1 OR refunds > 1""",
    "not charged": f"""
        SELECT j.id, format('costs %s, charged %s', j."tokensCost", coalesce(m.charge, 0))
        FROM darkroom.jobs j LEFT JOIN ({MONEY}) m ON m.job_type = j.type AND m.job_id = j.id
        WHERE coalesce(m.charge, 0) <> j."tokensCost" """,
    "not refunded": f"""
        SELECT j.id, format('ended %s, charged %s, refunded %s', j.status, m.charge, coalesce(m.refund, 0))
        FROM darkroom.jobs j JOIN ({MONEY}) m ON m.job_type = j.type AND m.job_id = j.id
        WHERE j.status::text IN ('FAILED', 'REFUNDED', 'CANCELLED') AND coalesce(m.refund, 0) <> m.charge""",
    "deleted and not refunded": f"""
        SELECT m.job_id, format('deleted as %s, charged %s, refunded %s', l.before, m.charge, coalesce(m.refund, 0))
        FROM ({MONEY}) m JOIN chaos.status_log l ON l.job_id = m.job_id AND l.after = 'DELETED'
        JOIN chaos.submitted s ON s.job_id = m.job_id
        WHERE l.before IN ('PENDING', 'PROCESSING') AND coalesce(m.refund, 0) <> m.charge
          AND (EXISTS (SELECT FROM public.users u WHERE u.id = s.user_id)
               OR EXISTS (SELECT FROM chaos.own_balances b WHERE m.job_type = ANY (b.job_types)
                                                             AND b.payer = s.user_id AND b.balance IS NOT NULL))""",
    "refunded beyond its charge": f"""
        SELECT job_id, format('charged %s, refunded %s', coalesce(charge, 0), refund)
        FROM ({MONEY}) m WHERE refund > coalesce(charge, 0)""",
    "ledger against keys": f"""
        SELECT coalesce(m.job_id, l.job_id), format('keys: charge %s, refund %s; ledger: charge %s, refund %s',
                                                    m.charge, m.refund, l.charge, l.refund)
        FROM ({MONEY}) m FULL JOIN ({LEDGER}) l ON l.job_id = m.job_id
        WHERE (m.charge, m.refund) IS DISTINCT FROM (l.charge, l.refund)
          AND NOT EXISTS (SELECT FROM chaos.own_balances b WHERE m.job_type = ANY (b.job_types))
          AND NOT EXISTS (SELECT FROM chaos.submitted s JOIN chaos.deleted d ON d.kind = 'user' AND d.id = s.user_id
                          WHERE s.job_id = m.job_id)""",
    "one key, two jobs": """
        SELECT idempotency_key, string_agg(DISTINCT job_id, ', ') FROM chaos.submitted
        WHERE idempotency_key IS NOT NULL GROUP BY 1 HAVING count(DISTINCT job_id) > 1""",
}

I4 = {
    "completed and refunded": f"""
        SELECT j.id, format('refunded %s', m.refund)
        FROM darkroom.jobs j JOIN ({MONEY}) m ON m.job_type = j.type AND m.job_id = j.id
        WHERE j.status = 'COMPLETED' AND m.refund IS NOT NULL""",
}

I5 = {
    "changed after its end": f"""
        SELECT job_id, format('%s -> %s by %s', before, after, program) FROM chaos.status_log
        WHERE before IN {FINISHED} AND after <> 'DELETED' AND (before, after) <> ('FAILED', 'REFUNDED')""",
    "not what was logged last": """
        SELECT j.id, format('is %s, was set to %s', j.status, l.after)
        FROM darkroom.jobs j JOIN LATERAL (
            SELECT l.after FROM chaos.status_log l WHERE l.job_id = j.id ORDER BY l.id DESC LIMIT 1) l ON true
        WHERE l.after <> j.status::text""",
}

PLACE = "(SELECT o.place FROM chaos.stages o WHERE o.job_type = h.job_type AND o.stage = h.{})"
I6 = {
    "finished twice": """
        SELECT job_id, format('%s finished %s times', stage, count(*)) FROM darkroom.stage_runs
        WHERE event = 'finished' GROUP BY job_type, job_id, stage HAVING count(*) > 1""",
    "went back": f"""
        SELECT job_id, format('%s at %s after %s', event, stage, stage_before) FROM ({HISTORY}) h
        WHERE ({PLACE.format("stage")} < {PLACE.format("stage_before")}
               AND NOT EXISTS (SELECT FROM chaos.restored s WHERE s.job_id = h.job_id))
           OR (event_before = 'finished' AND event = 'finished' AND stage = stage_before)""",
    "bought after it was finished": """
        SELECT c.job_id, format('%s call %s, after %s had finished', c.purpose, c.id, r.stage)
        FROM darkroom.provider_calls c JOIN darkroom.stage_runs r ON r.job_id = c.job_id AND r.job_type = c.job_type
            AND r.event = 'finished'
            AND r.stage = CASE c.purpose WHEN 'analyze' THEN 'ANALYZING' ELSE 'GENERATING' END
        WHERE c.started_at > r.at""",
}

I7 = {
    "balance against ledger": """
        SELECT b."userId", format('balance %s, opening %s, ledger %s', b.balance, o.balance, l.total)
        FROM public.user_token_balances b LEFT JOIN darkroom.opening_balances o ON o.user_id = b."userId"
        LEFT JOIN (SELECT "userId", sum(amount) AS total FROM public.token_transactions GROUP BY 1) l
            ON l."userId" = b."userId"
        WHERE b.balance IS DISTINCT FROM o.balance + coalesce(l.total, 0)""",
    "below zero": """
        SELECT "userId", format('balance %s', balance) FROM public.user_token_balances WHERE balance < 0
        UNION ALL SELECT payer, format('balance %s', balance) FROM chaos.own_balances WHERE balance < 0
        UNION ALL SELECT "userId", format('%s after row %s', "balanceAfter", id) FROM public.token_transactions
        WHERE "balanceAfter" < 0""",
    # what each row found and what each left must match up, in whatever order: a balance seen by nobody else is a gap
    "at some commit": """
        WITH found AS (
                SELECT "userId", "balanceAfter" - amount AS balance FROM public.token_transactions
                UNION ALL SELECT "userId", balance FROM public.user_token_balances),
            left_behind AS (
                SELECT "userId", "balanceAfter" AS balance FROM public.token_transactions
                UNION ALL SELECT b."userId", o.balance FROM public.user_token_balances b
                JOIN darkroom.opening_balances o ON o.user_id = b."userId")
        SELECT "userId", format('a balance of %s was found that nothing had left', balance)
        FROM (SELECT * FROM found EXCEPT ALL SELECT * FROM left_behind) gap""",
    "balance against keys": f"""
        SELECT b.payer, format('balance %s, opening %s, charged %s, refunded %s, changed by others %s',
                                b.balance, b.opening, k.charge, k.refund, o.other)
        FROM chaos.own_balances b CROSS JOIN LATERAL (
            SELECT coalesce(sum(m.charge), 0) AS charge, coalesce(sum(m.refund), 0) AS refund FROM ({MONEY}) m
            WHERE m.job_type = ANY (b.job_types)
              AND EXISTS (SELECT FROM chaos.submitted s WHERE s.job_id = m.job_id AND s.user_id = b.payer)) k
        CROSS JOIN LATERAL (SELECT coalesce(sum(e.amount), 0) AS other FROM darkroom.token_entries e
                            WHERE e.user_id = b.payer AND e.kind = 'other') o
        WHERE b.balance <> b.opening - k.charge + k.refund + o.other""",
}

LOSSES = "('flush', 'redis_restart', 'postgres_restart')"
I12 = {
    "no job completed after a loss": f"""
        SELECT i.kind, format('at %s, and none completed within {RECOVERY_S} s though %s waited', i.until, w.waiting)
        FROM chaos.injected i CROSS JOIN LATERAL (
            SELECT count(*) AS waiting FROM darkroom.jobs j
            WHERE j."createdAt" < i.until AT TIME ZONE 'utc' AND j.status = 'COMPLETED'
              AND j."processingCompletedAt" > i.until AT TIME ZONE 'utc') w
        WHERE i.kind IN {LOSSES} AND w.waiting > 0 AND NOT EXISTS (
            SELECT FROM chaos.status_log l WHERE l.after = 'COMPLETED'
              AND l.at BETWEEN i.until AND i.until + interval '{RECOVERY_S} s')""",
}

# A job's picture may be bought once, and once more for each time that the harness took it away in GENERATING: its
# worker was killed or stopped, or somebody ended the job meanwhile.
INTERRUPTED = """
    SELECT r.job_id, 'its worker died' AS why FROM darkroom.stage_runs r
    JOIN LATERAL (SELECT FROM chaos.injected i
                  WHERE i.worker_id = r.worker_id AND i.kind IN ('kill', 'zombie', 'lost_machine') LIMIT 1) i ON true
    WHERE r.stage = 'GENERATING' AND r.event IN ('rescued', 'failed')
    UNION ALL SELECT l.job_id, 'it was ended' FROM chaos.status_log l
    WHERE l.stage = 'GENERATING' AND l.after IN ('CANCELLED', 'FAILED', 'REFUNDED', 'DELETED')
      AND l.program <> 'darkroom'"""

ANSWERED = """
    SELECT c.job_id, count(*) AS answered,
           coalesce((SELECT max(s.pictures) FROM chaos.submitted s WHERE s.job_id = c.job_id), 1) AS pictures
    FROM darkroom.provider_calls c WHERE c.purpose = 'generate' AND c.outcome = 'answered' GROUP BY 1"""

# What jobs of several pictures may have bought beyond one: all if they completed, otherwise those before the last.
FURTHER = f"""
    SELECT coalesce(sum(CASE WHEN EXISTS (SELECT FROM chaos.status_log l
                                          WHERE l.job_id = a.job_id AND l.after = 'COMPLETED') THEN a.pictures - 1
                             ELSE least(a.answered, a.pictures - 1) END), 0)::bigint AS further
    FROM ({ANSWERED}) a WHERE a.pictures > 1"""

BOUGHT_ONCE = {
    "answers": f"""
        SELECT 'provider', format('%s answers with a picture; %s jobs completed, %s were interrupted in GENERATING',
                                  p.pictures, c.completed, i.interrupted)
        FROM (SELECT count(*) AS pictures FROM chaos.provider_count WHERE event = 'picture') p,
             (SELECT count(DISTINCT job_id) AS completed FROM chaos.status_log WHERE after = 'COMPLETED') c,
             (SELECT count(*) AS interrupted FROM ({INTERRUPTED}) i) i, ({FURTHER}) f
        WHERE p.pictures > c.completed + i.interrupted + f.further""",
    "answers for one job": f"""
        SELECT c.job_id, format('%s of %s pictures were answered; %s interruptions', c.answered, c.pictures,
                                coalesce(i.times, 0))
        FROM ({ANSWERED}) c
        LEFT JOIN (SELECT job_id, count(*) AS times FROM ({INTERRUPTED}) i GROUP BY 1) i ON i.job_id = c.job_id
        WHERE c.answered > c.pictures + coalesce(i.times, 0)""",
    "calls without an intent": """
        SELECT purpose, format('%s calls arrived, %s intents were written', n.calls, n.intents) FROM (
            SELECT purpose, (SELECT count(*) FROM chaos.provider_count p
                             WHERE p.purpose = k.purpose AND p.event NOT IN ('picture', 'analysis')) AS calls,
                   (SELECT count(*) FROM darkroom.provider_calls c
                    WHERE c.purpose = k.purpose AND c.provider = 'gemini' AND c.was_sent) AS intents
            FROM (VALUES ('analyze'), ('generate')) k (purpose)) n
        WHERE n.calls > n.intents""",
}

DEADLOCKS = {"suffered": "SELECT 'a foreign program', error FROM chaos.deadlocks"}

# Programs that do nothing wrong must not be refused for what Darkroom does in their statements.
FOREIGN_PROGRAMS = {
    "serialization failure": """
        SELECT 'an unrelated producer', f.error FROM chaos.isolation_failures f
        WHERE NOT EXISTS (SELECT FROM public.token_transactions t WHERE t."userId" = f.user_id AND t.type = 'REFUND'
                            AND t."createdAt" AT TIME ZONE 'utc' BETWEEN f.since - interval '1 s' AND f.until)""",
    "cancel refused": "SELECT 'a canceller', error FROM chaos.refused_cancels",
    "another program's table": """
        SELECT 'public.somebody_elses', format('%s rows of 100', count(*)) FROM public.somebody_elses
        HAVING count(*) <> 100""",
}

CAPS = {"exceeded": "SELECT 'a user', finding FROM chaos.exceeded"}

CHECKS = {
    "I1": I1,
    "I2": I2,
    "I3": I3,
    "I4": I4,
    "I5": I5,
    "I6": I6,
    "I7": I7,
    "I12": I12,
    "bought once": BOUGHT_ONCE,
    "no deadlock": DEADLOCKS,
    "caps": CAPS,
    "foreign programs": FOREIGN_PROGRAMS,
}

COMPLETED = """
SELECT j.id, j.key, coalesce(j."sizeBytes", (r.output ->> 'size_bytes')::bigint) AS size_bytes,
       r.output ->> 'sha256' AS sha256
FROM darkroom.jobs j LEFT JOIN LATERAL (
    SELECT r.output FROM darkroom.stage_runs r
    WHERE r.job_id = j.id AND r.job_type = j.type AND r.event = 'finished' AND r.stage = 'GENERATING'
    ORDER BY r.id DESC LIMIT 1) r ON true
WHERE j.status = 'COMPLETED' AND j.type <> ALL ($1)
"""


async def audit(connection: asyncpg.Connection, objects: Path, added: Sequence[AddedTables] = ()) -> list[Violation]:
    """Return every broken promise that tables and objects show; all work must be over.

    Args:
        connection: to the database, with the evidence loaded; tables of a long run are analyzed.
        objects: the folder where file storage keeps its objects.
        added: what the run had besides.
    """
    found = [
        Violation(promise, str(row[0]), f"{name}: {row[1]}")
        for all_checks in (CHECKS, *(one.checks for one in added))
        for promise, checks in all_checks.items()
        for name, query in checks.items()
        for row in await connection.fetch(query, timeout=300)
    ]
    own = [table for one in added for table in one.tables if table.pictures]
    pictures = await connection.fetch(COMPLETED, [kind for table in own for kind in table.stages])
    for table in own:
        pictures += await connection.fetch(table.pictures)
    return found + [Violation("I4", row["id"], finding) for row in pictures if (finding := _object_fault(row, objects))]


def _object_fault(row: asyncpg.Record, objects: Path) -> str | None:
    if not row["key"] or not row["sha256"]:
        return f"no picture recorded: key {row['key']}, sha256 {row['sha256']}"
    try:
        content = (objects / row["key"]).read_bytes()
    except OSError as error:
        return f"no picture stored: {row['key']}: {error.strerror}"
    if len(content) != row["size_bytes"]:
        return f"wrong picture stored: {row['key']} has {len(content)} bytes, recorded {row['size_bytes']}"
    if not hashlib.sha256(content).hexdigest().startswith(row["sha256"]):
        return f"wrong picture stored: {row['key']} has another sha256 than recorded"
    return None
