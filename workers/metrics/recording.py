"""What a process records: each function takes about a microsecond, and neither waits nor asks the database."""

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

from models.gate.provider_calls import CallOutcome
from models.job_state import JobStatus
from models.queue.claims import Claim
from models.queue.ended import Ended, Settled
from workers.metrics import families
from workers.metrics.slot import FOLDER, SLOT
from workers.metrics.values import Values

RENEWED: Final = "renewed"
RENEWAL_FAILED: Final = "failed"
_MS: Final = 1000
_UNITS: Final = ("prompt_units", "output_units", "images")


class Recording:
    """Records what happens in one process. The lease's thread may call it, too."""

    def __init__(self, values: Values | None = None) -> None:
        """Record into values; None: into values of its own, in memory."""
        self.values = values or Values()
        self._cell = self.values.cell
        self._histogram = self.values.histogram

    def job_claimed(self, claim: Claim) -> None:
        """Record how long a job has waited, if this is its first claim."""
        if claim.first_wait_s is not None:
            self._histogram(families.JOB_WAIT_SECONDS, claim.tier).observe(max(0.0, claim.first_wait_s))

    def stage_ended(self, job_type: str, stage: str, outcome: str, duration_ms: int) -> None:
        """Record how long a stage took until it finished, or until its attempt ended in it."""
        self._histogram(families.STAGE_SECONDS, job_type, stage, outcome).observe(duration_ms / _MS)

    def job_ended(self, job_type: str, tier: str, ended: Ended) -> None:
        """Record the end of a job, after its commit, and its refund."""
        self._cell(families.JOBS_FINISHED, job_type, tier, ended.status).add()
        if ended.refunded_tokens is not None:
            self._cell(families.REFUNDS).add()
            self._cell(families.REFUNDED_TOKENS).add(ended.refunded_tokens)

    def attempt_ended(self, stage: str, how: str) -> None:
        """Record the end of an attempt after which its job isn't over, or is another process's."""
        self._cell(families.ATTEMPTS_ENDED, stage, how).add()

    def write_fenced(self, stage: str) -> None:
        """Record that the fence refused a write of an attempt, which ends with that."""
        self._cell(families.FENCED_WRITES).add()
        self.attempt_ended(stage, "fenced")

    def job_rescued(self, job: Settled) -> None:
        """Record that a claim was taken from its worker; its job is due again, or has ended."""
        if job.now.status is JobStatus.PENDING:
            self.attempt_ended(job.stage, "rescued")
        else:
            self.job_settled(job)

    def job_settled(self, job: Settled) -> None:
        """Record the end of a job that housekeeping has ended."""
        self.job_ended(job.job_type, job.tier, job.now)

    def lease_renewed(self, outcome: str) -> None:
        """Record that a lease was renewed (RENEWED), or couldn't be (RENEWAL_FAILED)."""
        self._cell(families.LEASE_RENEWALS, outcome).add()

    def set_lanes(self, lanes: int) -> None:
        """Record how many lanes this process has."""
        self._cell(families.LANES).set(lanes)

    def set_busy(self, lanes: int) -> None:
        """Record how many of them are busy."""
        self._cell(families.LANES_BUSY).set(lanes)

    def call_ended(self, provider: str, purpose: str, model: str, price_usd: Decimal, outcome: CallOutcome) -> None:
        """Record the end of a provider's call.

        Args:
            provider: the provider's name.
            purpose: `analyze` or `generate`.
            model: the model that was asked. What a provider answers with isn't used: it may be any text.
            price_usd: the price in the table; it counts if the provider named none and the call may have been paid.
            outcome: how the call ended, with its duration and units.
        """
        self._cell(families.PROVIDER_CALLS, provider, purpose, outcome.outcome).add()
        self._histogram(families.PROVIDER_CALL_SECONDS, provider, purpose).observe(outcome.latency_ms / _MS)
        for kind in _UNITS:
            if units := getattr(outcome, kind):
                self._cell(families.PROVIDER_UNITS, provider, model, kind).add(units)
        cost_usd = outcome.cost_usd
        if cost_usd is None and outcome.may_be_paid:
            cost_usd = price_usd
        if cost_usd:
            self._cell(families.PROVIDER_COST, provider, model).add(float(cost_usd))


def recording_of_slot(environ: Mapping[str, str] = os.environ) -> Recording:
    """Return what a worker process records into: the files of its slot if its supervisor has made a folder."""
    folder = environ.get(FOLDER)
    return Recording(Values(Path(folder), environ.get(SLOT, "0")) if folder else None)
