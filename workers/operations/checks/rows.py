"""Checks that are one query each: it counts what is wrong and gives one example."""

from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from workers.operations.checks.check import Check


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A query that counts what is wrong, and gives one example: (count, example)."""

    name: str
    sql: str
    none: str
    found: str
    advice: str
    status: Literal["warn", "fail"] = "warn"


ROW_CHECKS: Final = (
    RowCheck(
        "leases",
        """SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
           WHERE q.status = 'processing' AND NOT EXISTS (
               SELECT FROM darkroom.workers w
               WHERE w.id = q.worker_id AND w.lease_expires_at > now() - interval '10 seconds')""",
        "every claim belongs to a live worker",
        "{count} claims of dead workers wait for rescue, one is job {example}",
        "start `darkroom worker` or `darkroom scheduler`: either rescues them",
    ),
    RowCheck(
        "queues of workers",
        """SELECT count(*), min(q.name) FROM darkroom.workers w CROSS JOIN LATERAL unnest(w.queues) q (name)
           WHERE w.lease_expires_at > now() AND q.name <> 'default'""",
        "no worker waits at a queue that no job enters",
        "{count} times a live worker takes from a queue that no job enters yet, one is {example}",
        "start workers without --queues and DARKROOM_QUEUES: every job is in queue default",
        "fail",
    ),
    RowCheck(
        "stuck jobs",
        """SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
           WHERE q.status = 'processing' AND q.deadline_at < now() - interval '60 seconds'""",
        "no stage is past its deadline",
        "{count} jobs are past their stage's deadline, one is job {example}",
        "start `darkroom scheduler`, which rescues them; `darkroom jobs explain` says where they are",
    ),
    RowCheck(
        "quarantined jobs",
        """SELECT count(*), max(r.job_id) FROM darkroom.stage_runs r
           WHERE r.event = 'failed' AND r.error LIKE 'quarantined:%' AND r.at > now() - interval '7 days'""",
        "none in the last 7 days",
        "{count} jobs killed their workers in the last 7 days and were ended, refunded, one is job {example}",
        "`darkroom jobs explain` one; when the cause is mended, `darkroom jobs retry --error quarantined --since 7d`",
    ),
    RowCheck(
        "refused jobs",
        """SELECT count(*), (array_agg(q.job_id || ': ' || q.last_error ORDER BY q.refused_since))[1]
           FROM darkroom.job_queue q WHERE q.refused_since IS NOT NULL""",
        "the database refuses no job",
        "{count} jobs are refused by the database and wait, one is job {example}",
        "mend the rule that PostgreSQL names, or cancel them: they are tried again, and end refunded at last",
        "fail",
    ),
    RowCheck(
        "refused ends",
        """SELECT count(*), (array_agg(format('job %s should be %s: %s', j.id, r.label, r.words)
                                      ORDER BY r.refused_at))[1]
           FROM darkroom.refused_ends r JOIN darkroom.jobs j ON j.id = r.job_id AND j.type = r.job_type
           WHERE r.label IS NOT NULL AND j.status IN ('PENDING', 'PROCESSING')""",
        "every job that is over says so",
        "{count} jobs are over and their rows can't say so, {example}",
        "mend the rule that PostgreSQL names; a scheduler tries the labels again each hour",
        "fail",
    ),
    RowCheck(
        "refunds owed",
        """SELECT count(*), (array_agg(format('%s tokens for job %s: %s', o.owed, o.job_id, o.words)
                                      ORDER BY o.refused_at))[1] FROM darkroom.refunds_owed o""",
        "none",
        "{count} refunds couldn't be paid and are owed, {example}",
        "mend what PostgreSQL names, then `darkroom tokens audit --repair`",
        "fail",
    ),
    RowCheck(
        "models of pipelines",
        """SELECT count(*), min('pipeline ' || p.id || ', ' || f.fault) FROM public.enhancement_pipelines p,
               LATERAL (SELECT darkroom.pipeline_model_fault(p."analysisConfig", p."generationConfig") AS fault) f
           WHERE f.fault IS NOT NULL""",
        "every model that a pipeline names may be asked",
        "{count} pipelines name models that can't be asked, one is {example}",
        "their jobs are refused: name other models, or give these a price",
    ),
    RowCheck(
        "provider calls",
        """SELECT count(*), min(c.job_id) FROM darkroom.provider_calls c
           WHERE c.outcome = 'open' AND c.started_at < now() - interval '15 minutes'""",
        "no intent is left open",
        "{count} provider calls were begun and never closed, one for job {example}",
        "a worker died in them; they may have been paid: compare with the provider's bill",
    ),
    RowCheck(
        "pauses",
        """SELECT count(*), min(p.name || coalesce(' by ' || p.actor, '') || coalesce(': ' || p.reason, ''))
           FROM darkroom.pauses p WHERE p.resumed_at IS NULL""",
        "nothing is paused",
        "{count} by operators, one is {example}",
        "`darkroom queue stats` lists them, `darkroom queue resume` ends them (`darkroom costs --resume` for buying)",
    ),
    RowCheck(
        "breakers",
        """SELECT count(*), min(l.name || coalesce(': ' || (l.state ->> 'open_reason'), '')) FROM darkroom.limits l
           WHERE l.scope = 'provider' AND greatest((l.state ->> 'open_until')::timestamptz,
                                                   (l.state ->> 'paused_until')::timestamptz) > now()""",
        "every provider takes calls",
        "{count} providers are left alone for now, one is {example}",
        "they are tried again by themselves; if it lasts, check key, billing and the provider's status",
    ),
    RowCheck(
        "periodic tasks",
        """SELECT count(*), min(t.task || ': ' || coalesce(t.error, 'no reason recorded')) FROM darkroom.ticks t
           WHERE t.status = 'failed' AND t.finished_at > now() - interval '1 day'""",
        "no tick failed in the last day",
        "{count} ticks failed for good in the last day, one of {example}",
        "`darkroom schedule list` shows them; mend the cause, then `darkroom schedule run NAME`",
    ),
    RowCheck(
        "rows of periodic tasks",
        """SELECT count(*), min(t.task || ': ' || (t.counts ->> 'refused'))
           FROM (SELECT DISTINCT ON (k.task) k.task, k.counts FROM darkroom.ticks k
                 WHERE k.status = 'finished' AND k.finished_at > now() - interval '1 day'
                 ORDER BY k.task, k.finished_at DESC) t
           WHERE (t.counts ->> 'refused')::numeric > 0""",
        "the last ticks left no row as it was",
        "{count} tasks had to leave rows that the database refuses to change, one is {example}",
        "the scheduler's log names them with PostgreSQL's words (periodic_row_refused); the others were treated",
    ),
    RowCheck(
        "money",
        "SELECT count(*), min(v.promise || ': ' || v.finding) FROM darkroom.money_violations v",
        "balances and ledger agree, every refund has its charge",
        "{count} breaches of the money promises, one is {example}",
        "`darkroom tokens audit` names them all, and `--repair` sets right what costs nobody a token",
        "fail",
    ),
)


async def count_rows(database: Database, row_check: RowCheck) -> Check:
    """Run one query, and say what it counted; a query that fails is a finding too."""
    try:
        row = await database.fetchrow(row_check.sql)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseLostError, ContentionError, OSError) as error:
        is_lost = isinstance(error, DatabaseLostError)
        advice = "PostgreSQL went away: try again" if is_lost else "see the PostgreSQL log"
        return Check(row_check.name, "fail", f"couldn't be looked at: {error}", advice)
    count, example = (0, None) if row is None else (row[0], row[1])
    if not count:
        return Check(row_check.name, "ok", row_check.none)
    message = row_check.found.format(count=f"{count:,}", example=example)
    return Check(row_check.name, row_check.status, message, row_check.advice)
