"""The tables of whose rows retention deletes by itself: the application's, and Darkroom's own."""

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
    # of jobs that are over: until then they are work in hand, and behind their end for people to read
    "checkpoints": ("darkroom.checkpoints", "at", _JOB_IS_OVER),
    # of a key that is forgotten a second submission is a new job
    "submissions": ("darkroom.submissions", "created_at", _JOB_IS_OVER),
    "pipeline_links": ("darkroom.pipeline_links", "at", _JOB_IS_OVER),
    "provider_calls": (
        "darkroom.provider_calls",
        "started_at",
        "NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = t.job_id AND q.job_type = t.job_type)",
    ),
    # cells of days that are over and settled; those of 'epoch' are of no day: providers, budgets in all
    "limits": (
        "darkroom.limits",
        "window_start",
        "t.window_start > 'epoch' AND t.window_start < now() - interval '2 d'",
    ),
}

"""By its bare name each table's schema and name, its time column, and in SQL which rows `t` may go."""

WEEKLY: Final[Mapping[str, tuple[str, str, str]]] = {
    "stage_runs": (
        "darkroom.stage_runs_default",
        "at",
        "NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = t.job_id)",
    ),
    "ticks": ("darkroom.ticks_default", "tick_at", "t.status IN ('finished', 'failed')"),
}
"""Logs of Darkroom in weekly partitions, as in TABLES; what their default partition caught goes row by row."""
