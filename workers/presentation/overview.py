"""The overview of an installation as JSON: what the page shows, without what changes by itself each second."""

from datetime import timedelta
from typing import Any, Final

from models.queue.stats import Moment
from workers.operations.overview import FAILED, Overview
from workers.operations.providers import ProviderNow

SILENT_AFTER: Final = timedelta(seconds=150)
"""After so long without a sign of it no scheduler is taken to run. A roll-up each minute is one."""

COMPLETED: Final = "completed"
FAILED_ONES: Final = "failed"
CANCELLED: Final = "cancelled"


def kind_of_end(outcome: str) -> str:
    """Return what an outcome counts as: completed, failed or cancelled, as which a deleted job counts, too."""
    if outcome in FAILED:
        return FAILED_ONES
    return COMPLETED if outcome == "COMPLETED" else CANCELLED


def is_scheduler_seen(moment: Moment) -> bool:
    """Return whether a scheduler runs, as far as its traces tell."""
    return moment.scheduler_seen_at is not None and moment.now - moment.scheduler_seen_at < SILENT_AFTER


def overview_fields(overview: Overview) -> dict[str, Any]:
    """Return an overview as JSON's objects; durations in seconds, money in USD."""
    stats = overview.queues.stats
    return {
        "waiting": overview.waiting_jobs,
        "running": overview.running_jobs,
        "oldestWaitS": overview.oldest_wait_s,
        "drainS": overview.drain_s,
        "failedToday": overview.failed_today,
        "spentTodayUsd": overview.spending.spent_usd,
        "tokensToday": overview.tokens_today,
        "isEstimate": overview.queues.is_estimate,
        "queues": [
            {
                "queue": one.queue,
                "waiting": one.waiting,
                "running": one.running,
                "retrying": one.retrying,
                "scheduled": one.scheduled,
                "paused": one.paused,
                "oldestWaitS": one.oldest_wait_s,
                "drainS": one.drain_s,
                "lanes": one.lanes,
                "workers": one.workers,
            }
            for one in stats.queues
        ],
        "stages": [{"stage": one.stage, "running": one.running, "waiting": one.waiting} for one in overview.stages],
        "failures": [
            {
                "reason": one.reason,
                "jobs": one.jobs,
                "lastAt": one.last_at,
                "lastType": one.last.job_type,
                "lastId": one.last.job_id,
            }
            for one in overview.failures
        ],
        "providers": [provider_fields(one) for one in overview.providers],
        "budgets": [
            {"name": one.name, "most": one.most, "spent": one.spent, "spentFraction": one.spent_fraction}
            for one in overview.spending.budgets
        ],
        "isSchedulerSeen": is_scheduler_seen(overview.queues.moment),
        "workers": [
            {
                "host": one.host,
                "pid": one.pid,
                "queues": one.queues,
                "lanes": one.lanes,
                "running": one.running,
                "startedAt": one.started_at,
            }
            for one in stats.workers
        ],
        "pauses": [
            {"name": one.name, "pausedAt": one.paused_at, "actor": one.actor, "reason": one.reason, "jobs": one.jobs}
            for one in stats.pauses
        ],
        "endedByMinute": [
            {"minute": one.minute, "outcome": one.outcome, "jobs": one.jobs} for one in overview.ends.minutes
        ],
        "waitingByMinute": [{"minute": one.minute, "jobs": one.jobs} for one in overview.waiting],
    }


def provider_fields(provider: ProviderNow) -> dict[str, Any]:
    """Return a provider as JSON's objects."""
    state = provider.state
    return {
        "name": provider.name,
        "place": provider.place,
        "isOpen": state.refused is None,
        "reason": None if state.refused is None else state.refused.reason,
        "throttledUntil": state.throttled_until,
        "breaker": state.breaker,
        "breakerUntil": state.breaker_until,
        "isPaused": provider.pause is not None,
        "inFlight": state.in_flight,
        "requestsToday": state.requests_today,
        "imagesToday": state.images_today,
    }
