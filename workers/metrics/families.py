"""The families of metrics: name, kind, labels and meaning of each, and which kind of process has it.

Names and labels are an outside contract; `docs/metrics.md` lists them, and a test compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "darkroom_"

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["worker", "scheduler", "dashboard", "all"]
"""Which processes have a family. A scheduler also has the counters of ends, since it ends jobs, too."""

STAGE_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
WAIT_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
CALL_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: it is the key of each recording
class Family:
    """A family of metrics.

    Attributes:
        name: as Prometheus shows it, without PREFIX; a counter's ends in `_total`.
        kind: of the family.
        source: the processes that have it.
        meaning: for people, in one line.
        labels: the names of its labels, in the order in which values are given.
        buckets: upper limits of a histogram's buckets, ascending, without infinity.
    """

    name: str
    kind: Kind
    source: Source
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()


JOBS_FINISHED: Final = Family(
    *("jobs_finished_total", "counter", "worker"),
    "Jobs that this process has ended, by the status in which they are.",
    ("type", "tier", "status"),
)
STAGE_SECONDS: Final = Family(
    *("stage_seconds", "histogram", "worker"),
    "Seconds that a stage took until it finished, or until its attempt ended.",
    ("type", "stage", "outcome"),
    STAGE_BUCKETS_S,
)
JOB_WAIT_SECONDS: Final = Family(
    *("job_wait_seconds", "histogram", "worker"),
    "Seconds from a job's entry, or from its run_at, to its first claim.",
    ("tier",),
    WAIT_BUCKETS_S,
)
ATTEMPTS_ENDED: Final = Family(
    *("attempts_ended_total", "counter", "worker"),
    "Attempts that ended without ending their job: retried, snoozed, released, rescued, fenced.",
    ("stage", "how"),
)
FENCED_WRITES: Final = Family(
    *("fenced_writes_total", "counter", "worker"), "Writes that the fence refused, because their claim was lost."
)
REFUNDS: Final = Family(*("refunds_total", "counter", "worker"), "Refunds that were paid by ends of this process.")
REFUNDED_TOKENS: Final = Family(
    *("refunded_tokens_total", "counter", "worker"), "Tokens that were refunded by ends of this process."
)
LEASE_RENEWALS: Final = Family(
    *("lease_renewals_total", "counter", "worker"), "Renewals of leases: renewed, or failed.", ("outcome",)
)
LANES: Final = Family(*("lanes", "gauge", "worker"), "Lanes of the live processes of this worker.")
LANES_BUSY: Final = Family(*("lanes_busy", "gauge", "worker"), "Lanes in which a job runs.")
PROVIDER_CALLS: Final = Family(
    *("provider_calls_total", "counter", "worker"),
    "Calls of providers that have ended: answered, cut_off, or the name of the error.",
    ("provider", "purpose", "outcome"),
)
PROVIDER_CALL_SECONDS: Final = Family(
    *("provider_call_seconds", "histogram", "worker"),
    "Seconds from a call's admission to its end.",
    ("provider", "purpose"),
    CALL_BUCKETS_S,
)
PROVIDER_UNITS: Final = Family(
    *("provider_units_total", "counter", "worker"),
    "Units that providers have counted: prompt_units, output_units, images.",
    ("provider", "model", "kind"),
)
PROVIDER_COST: Final = Family(
    *("provider_cost_usd_total", "counter", "worker"),
    "USD for calls: what the provider said, or the price in the table for a call that may have been paid.",
    ("provider", "model"),
)
QUEUE_JOBS: Final = Family(*("queue_jobs", "gauge", "scheduler"), "Jobs in a queue, by status.", ("queue", "status"))
QUEUE_OLDEST: Final = Family(
    *("queue_oldest_seconds", "gauge", "scheduler"),
    "For how long the oldest waiting or retrying job of a queue has waited; 0 if there is none.",
    ("queue",),
)
QUEUE_DRAIN: Final = Family(
    *("queue_drain_seconds", "gauge", "scheduler"),
    "In how many seconds the waiting jobs of a queue have left it; absent while that is unknown.",
    ("queue",),
)
WORKERS_LIVE: Final = Family(*("workers_live", "gauge", "scheduler"), "Worker processes whose lease lasts.")
LANES_LIVE: Final = Family(*("lanes_live", "gauge", "scheduler"), "Lanes of these worker processes.")
PROVIDER_OPEN: Final = Family(
    *("provider_open", "gauge", "scheduler"), "1 if a provider may be called now, else 0.", ("provider",)
)
BUDGET_SPENT: Final = Family(
    *("budget_spent_ratio", "gauge", "scheduler"), "Spent part of a budget of all users together.", ("budget",)
)
PAUSED: Final = Family(
    *("paused", "gauge", "scheduler"), "1 for each pause by an operator; buying is the kill switch.", ("name",)
)
CALLS_OPEN: Final = Family(
    *("calls_open", "gauge", "scheduler"), "Calls of providers that were begun and haven't been closed."
)
TICK_AGE: Final = Family(
    *("tick_age_seconds", "gauge", "scheduler"), "Seconds since a periodic task's last tick ended.", ("task",)
)
TICKS_FAILED: Final = Family(
    *("ticks_failed", "gauge", "scheduler"), "Ticks of a task that failed for good in the last day.", ("task",)
)
MONEY_VIOLATIONS: Final = Family(
    *("money_violations", "gauge", "scheduler"), "Breaches of the money promises that the last audit found."
)
WEBHOOK_DELIVERIES: Final = Family(
    *("webhook_deliveries", "gauge", "scheduler"), "Deliveries of webhooks, by status.", ("status",)
)
USAGE_ALERTS: Final = Family(
    *("usage_alerts_total", "counter", "scheduler"),
    "Alerts that a part of a user's allowance is used, by application and threshold.",
    ("application", "threshold"),
)
WATCHERS: Final = Family(*("watchers", "gauge", "dashboard"), "Streams of progress that are open.")
HTTP_REQUEST_SECONDS: Final = Family(
    *("http_request_seconds", "histogram", "dashboard"),
    "Seconds until a request was answered, by the pattern of its path.",
    ("route", "method", "status"),
    REQUEST_BUCKETS_S,
)
BUILD_INFO: Final = Family(*("build_info", "gauge", "all"), "1; the label has the version.", ("version",))

FAMILIES: Final = (
    *(JOBS_FINISHED, STAGE_SECONDS, JOB_WAIT_SECONDS, ATTEMPTS_ENDED, FENCED_WRITES, REFUNDS, REFUNDED_TOKENS),
    *(LEASE_RENEWALS, LANES, LANES_BUSY, PROVIDER_CALLS, PROVIDER_CALL_SECONDS, PROVIDER_UNITS, PROVIDER_COST),
    *(QUEUE_JOBS, QUEUE_OLDEST, QUEUE_DRAIN, WORKERS_LIVE, LANES_LIVE, PROVIDER_OPEN, BUDGET_SPENT, PAUSED),
    *(CALLS_OPEN, TICK_AGE, TICKS_FAILED, MONEY_VIOLATIONS, WEBHOOK_DELIVERIES, USAGE_ALERTS),
    *(WATCHERS, HTTP_REQUEST_SECONDS, BUILD_INFO),
)

OF_ENDS: Final = (JOBS_FINISHED, ATTEMPTS_ENDED, REFUNDS, REFUNDED_TOKENS)
"""The families of workers that a scheduler has, too: it rescues claims, and ends overdue jobs."""
