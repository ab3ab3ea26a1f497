"""Settings of periodic tasks: when they run, what they delete, and what they warn of."""

from typing import Literal

from pydantic import Field

from config.periodic_terms import RETENTION_DAYS, USAGE_MEASURES, RetentionDays, Schedules, UsageLimits
from config.setting_group import SettingGroup
from config.setting_types import PositiveSeconds


class PeriodicSettings(SettingGroup):
    """When and how the schedulers' periodic tasks run."""

    retention: RetentionDays = Field(
        default=RETENTION_DAYS,
        description="Days for which finished records are kept, table=days,...; other tables keep their default. As "
        'JSON, it may name other tables of the application, too: {"table": {"column": "createdAt", "days": 90, '
        '"where": "done"}}. '
        "Money, audit rows and unfinished jobs are never deleted",
    )
    schedules: Schedules = Field(
        default={},
        description='When periodic tasks run, as JSON: {"audit-ledger": "30 4 * * *"}, a cron expression or an ISO '
        '8601 interval (PT15M), or {"audit-ledger": {"schedule": ..., "time_zone": "Europe/London", "missed": '
        '"skip"|"coalesce"|"catch_up"}}; `darkroom schedule list` shows them all',
    )
    tick_budget_s: PositiveSeconds = Field(
        default=20,
        description="Seconds for which a scheduler works on one tick before it turns to other due ticks; it continues "
        "later",
    )
    usage_limits: UsageLimits = Field(
        default={},
        description="What a user may use in a month, measure=number,...; at 80 % and at 100 % a warning is written to "
        f"error_logs, and nothing is refused. Measures: {', '.join(USAGE_MEASURES)}",
    )
    orphans: Literal["report", "delete"] | None = Field(
        default=None,
        description="What the periodic task collect-orphans does with objects that Darkroom wrote and no row names: "
        "report them, or delete those that an earlier run reported. If this is set to delete, inputs of finished jobs "
        "that a producer uploaded are deleted, too. Unset: delete on tables that Darkroom made, report on another "
        "tool's, except for what is under answers/",
    )
