"""Queries for `darkroom doctor`: each counts the rows with one kind of fault, and returns one example."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from models.connections import Connection
from models.gate.operating import LEFT_OPEN

Finding = Literal[
    "leases",
    "queues of workers",
    "stuck jobs",
    "quarantined jobs",
    "refused jobs",
    "refused ends",
    "refunds owed",
    "models of pipelines",
    "provider calls",
    "pauses",
    "breakers",
    "periodic tasks",
    "rows of periodic tasks",
    "money",
]
"""The kinds of faults, as `darkroom doctor` names them."""

_QUERIES: Final[Mapping[Finding, str]] = {
    "leases": """
        SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
        WHERE q.status = 'processing' AND NOT EXISTS (
            SELECT FROM darkroom.workers w
            WHERE w.id = q.worker_id AND w.lease_expires_at > now() - interval '10 seconds')""",
    "queues of workers": """
        SELECT count(*), min(q.name) FROM darkroom.workers w CROSS JOIN LATERAL unnest(w.queues) q (name)
        WHERE w.lease_expires_at > now() AND q.name NOT IN (SELECT darkroom.queues())""",
    "stuck jobs": """
        SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
        WHERE q.status = 'processing' AND q.deadline_at < now() - interval '60 seconds'""",
    "quarantined jobs": """
        SELECT count(*), max(r.job_id) FROM darkroom.stage_runs r
        WHERE r.event = 'failed' AND r.error LIKE 'quarantined:%' AND r.at > now() - interval '7 days'""",
    "refused jobs": """
        SELECT count(*), (array_agg(q.job_id || ': ' || q.last_error ORDER BY q.refused_since))[1]
        FROM darkroom.job_queue q WHERE q.refused_since IS NOT NULL""",
    "refused ends": """
        SELECT count(*), (array_agg(format('job %s should be %s: %s', j.id, r.label, r.words)
                                   ORDER BY r.refused_at))[1]
        FROM darkroom.refused_ends r CROSS JOIN LATERAL darkroom.jobs_of(ARRAY[r.job_id]) j
        WHERE j.type = r.job_type AND r.label IS NOT NULL AND j.status IN ('PENDING', 'PROCESSING')""",
    "refunds owed": """
        SELECT count(*), (array_agg(format('%s tokens for job %s: %s', o.owed, o.job_id, o.words)
                                   ORDER BY o.refused_at))[1] FROM darkroom.refunds_owed o""",
    "models of pipelines": """
        SELECT count(*), min('pipeline ' || p.id || ', ' || f.fault) FROM public.enhancement_pipelines p,
            LATERAL (SELECT darkroom.pipeline_model_fault(p."analysisConfig", p."generationConfig") AS fault) f
        WHERE f.fault IS NOT NULL""",
    "provider calls": f"SELECT count(*), min(c.job_id) FROM darkroom.provider_calls c WHERE {LEFT_OPEN}",
    "pauses": """
        SELECT count(*), min(p.name || coalesce(' by ' || p.actor, '') || coalesce(': ' || p.reason, ''))
        FROM darkroom.pauses p WHERE p.resumed_at IS NULL""",
    "breakers": """
        SELECT count(*), min(l.name || coalesce(': ' || (l.state ->> 'open_reason'), '')) FROM darkroom.limits l
        WHERE l.scope = 'provider' AND greatest((l.state ->> 'open_until')::timestamptz,
                                                (l.state ->> 'paused_until')::timestamptz) > now()""",
    "periodic tasks": """
        SELECT count(*), min(t.task || ': ' || coalesce(t.error, 'no reason recorded')) FROM darkroom.ticks t
        WHERE t.status = 'failed' AND t.finished_at > now() - interval '1 day'""",
    "rows of periodic tasks": """
        SELECT count(*), min(t.task || ': ' || (t.counts ->> 'refused'))
        FROM (SELECT DISTINCT ON (k.task) k.task, k.counts FROM darkroom.ticks k
              WHERE k.status = 'finished' AND k.finished_at > now() - interval '1 day'
              ORDER BY k.task, k.finished_at DESC) t
        WHERE (t.counts ->> 'refused')::numeric > 0""",
    "money": "SELECT count(*), min(v.promise || ': ' || v.finding) FROM darkroom.money_violations v",
}


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows have a fault, and one example; None where there is none."""

    count: int
    example: str | None


async def look_for(connection: Connection, finding: Finding) -> Found:
    """Count the rows with one kind of fault.

    Raises:
        asyncpg.PostgresError: the query was refused.
    """
    row = await connection.fetchrow(_QUERIES[finding])
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return Found(row[0], row[1])
