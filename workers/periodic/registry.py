"""The registry of periodic tasks."""

from typing import Final

from models.applications.registry import fits
from pipelines.settings import Settings
from workers.periodic.task import Task
from workers.periodic.tasks import (
    audit_ledger,
    check_estimates,
    collect_orphans,
    expire_vouchers,
    prune_records,
    regenerate_tokens,
    renew_subscriptions,
    roll_up_jobs,
    roll_up_usage,
)

TASKS: Final = (
    regenerate_tokens.TASK,
    renew_subscriptions.TASK,
    expire_vouchers.TASK,
    collect_orphans.TASK,
    audit_ledger.TASK,
    roll_up_usage.TASK,
    roll_up_jobs.TASK,
    check_estimates.TASK,
)
"""Tasks with one schedule each; retention adds one for each of its policies."""


class UnknownScheduleError(ValueError):
    """Raised when DARKROOM_SCHEDULES names a task that doesn't exist."""


def periodic_tasks(settings: Settings) -> tuple[Task, ...]:
    """Return every task under these settings that fits the applications which this process drains.

    Raises:
        ForbiddenPolicyError: a retention policy names a table that is never deleted from.
        InvalidScheduleError: a schedule in the settings can't be read.
        UnknownScheduleError: the settings schedule a task that doesn't exist.
    """
    tasks = (*TASKS, *prune_records.tasks(settings))
    if unknown := settings.schedules.keys() - {task.name for task in tasks}:
        raise UnknownScheduleError(
            f"DARKROOM_SCHEDULES names {', '.join(sorted(unknown))}; known are {', '.join(task.name for task in tasks)}"
        )
    for task in tasks:
        task.schedule.changed(settings.schedules.get(task.name), {})
    return tuple(task for task in tasks if fits(task.name))
