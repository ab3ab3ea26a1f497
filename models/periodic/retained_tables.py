"""The tables whose old rows retention deletes by default: some of the application's, and Darkroom's own."""

from collections.abc import Mapping
from typing import Final

_JOB_IS_OVER: Final = """
NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = t.job_id)
AND NOT EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[t.job_id]) j WHERE NOT darkroom.is_terminal(j.status))
"""

TABLES: Final[Mapping[str, tuple[str, str, str]]] = {
    "error_logs": ("public.error_logs", "timestamp", "true"),
    "merch_webhook_events": ("public.merch_webhook_events", "createdAt", "t.processed"),
    "sessions": ("public.sessions", "expires", "true"),
    "verification_tokens": ("public.verification_tokens", "expires", "true"),
    "campaign_metrics_cache": ("public.campaign_metrics_cache", "expiresAt", "true"),
    "artifacts": ("darkroom.artifacts", "created_at", "true"),
    # Kept until the job is over, because it may still need them, and some days longer for people to read
    "checkpoints": ("darkroom.checkpoints", "at", _JOB_IS_OVER),
    # Once a key is deleted, a second submission with it makes a new job
    "submissions": ("darkroom.submissions", "created_at", _JOB_IS_OVER),
    # What was under way is over long before
    "batches": ("darkroom.batches", "created_at", "t.finished_at IS NOT NULL"),
    "album_batches": ("darkroom.album_batches", "at", "true"),
    "job_hours": ("darkroom.job_hours", "hour", "true"),
    "stage_hours": ("darkroom.stage_hours", "hour", "true"),
    "queue_hours": ("darkroom.queue_hours", "hour", "true"),
    "pipeline_links": ("darkroom.pipeline_links", "at", _JOB_IS_OVER),
    "provider_calls": (
        "darkroom.provider_calls",
        "started_at",
        "NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = t.job_id AND q.job_type = t.job_type)",
    ),
    # Cells of days that are over. Cells of day 'epoch' belong to no day: limits of providers, and budgets in total.
    "limits": (
        "darkroom.limits",
        "window_start",
        "t.window_start > 'epoch' AND t.window_start < now() - interval '2 d'",
    ),
}

"""The tables that retention cleans by default: name with schema, time column, and SQL condition for rows to delete.

The condition is about `t`, the row.
"""

WEEKLY: Final[Mapping[str, tuple[str, str, str]]] = {
    "stage_runs": (
        "darkroom.stage_runs_default",
        "at",
        "NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = t.job_id)",
    ),
    "ticks": ("darkroom.ticks_default", "tick_at", "t.status IN ('finished', 'failed')"),
}
"""Darkroom's logs with weekly partitions, in the form of TABLES.

Of a default partition, rows are deleted one by one.
"""
