"""Overview of an installation: what waits, runs and fails, what it costs, and who works on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.applications.registry import types_paid_in_tokens
from models.connections import Connection
from models.gate.costs import Spending, spending
from models.history.failures import failures_of_today
from models.job_state import TERMINAL, JobStatus
from models.periodic.minutes import Ends, WaitingInMinute, ended_jobs, waiting_jobs
from models.queue.counts import JobGroup
from workers.operations.failures import FailureReason, by_reason
from workers.operations.providers import ProviderNow, known_providers, with_pauses
from workers.operations.queues import QueuesRead, read_queues
from workers.operations.shut_providers import shut_of
from workers.process.runtime import Runtime

MINUTES: Final = 120
"""How many minutes back ends and waiting jobs are shown."""

MOST_FAILURES: Final = 500
"""How many of today's failures are looked at, the newest ones."""

FAILED: Final = frozenset({JobStatus.FAILED, JobStatus.REFUNDED})


@dataclass(frozen=True, slots=True)
class StageNow:
    """How many jobs run a stage, and how many wait for it."""

    stage: str
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of an installation.

    Attributes:
        queues: the queues, the live workers and the pauses.
        stages: jobs by stage.
        ends: jobs that ended.
        waiting: how many jobs waited in each of the last minutes.
        failures: today's failures by reason; of more than MOST_FAILURES only the newest ones.
        providers: all providers.
        spending: of today, and the budgets.
    """

    queues: QueuesRead
    stages: Sequence[StageNow]
    ends: Ends
    waiting: Sequence[WaitingInMinute]
    failures: Sequence[FailureReason]
    providers: Sequence[ProviderNow]
    spending: Spending

    @property
    def last_day(self) -> Mapping[str, int]:
        """How many jobs ended in the last 24 hours, by status. Jobs whose rows were deleted are left out."""
        found: dict[str, int] = {}
        for one in sorted(self.ends.jobs, key=lambda one: one.outcome):
            if one.outcome in TERMINAL:
                found[one.outcome] = found.get(one.outcome, 0) + one.last_day
        return found

    @property
    def failed_today(self) -> int:
        """How many jobs ended without success since midnight UTC; cancelled ones aren't among them."""
        return sum(one.today for one in self.ends.jobs if one.outcome in FAILED)

    @property
    def tokens_today(self) -> int | None:
        """Tokens of the jobs that were completed since midnight UTC; None if no job is paid in tokens."""
        paid = frozenset(types_paid_in_tokens())
        if not paid:
            return None
        prices = self.queues.moment.prices
        completed = (one for one in self.ends.jobs if one.outcome == JobStatus.COMPLETED and one.job_type in paid)
        return sum(one.today * prices.get(one.tier, 0) for one in completed)

    @property
    def waiting_jobs(self) -> int:
        """How many jobs wait for a lane."""
        return sum(one.waiting for one in self.queues.stats.queues)

    @property
    def running_jobs(self) -> int:
        """How many jobs workers hold."""
        return sum(one.running for one in self.queues.stats.queues)

    @property
    def oldest_wait_s(self) -> float | None:
        """For how long the oldest waiting job has waited; None if none waits."""
        return max((one.oldest_wait_s for one in self.queues.stats.queues if one.waiting or one.retrying), default=None)

    @property
    def drain_s(self) -> float | None:
        """In how many seconds all waiting jobs have left their queues; None if that is unknown."""
        found = [one.drain_s for one in self.queues.stats.queues if one.waiting or one.running]
        known = [one for one in found if one is not None]
        return max(known, default=0.0) if len(known) == len(found) else None


async def overview(runtime: Runtime) -> Overview:
    """Return the state of an installation. It reads little, however many jobs there are."""
    settings = runtime.settings

    async def read(connection: Connection) -> Overview:
        spent = await spending(connection, settings.budgets)
        states = await known_providers(connection, settings)
        used = [one for one in states if one.name in settings.providers]
        reasons = {f"the {one.label} is spent" for one in spent.budgets if one.label and not one.is_day}
        queues = await read_queues(connection, settings, is_small=True, shut=shut_of(used, reasons))
        return Overview(
            queues,
            _stages(queues.groups),
            await ended_jobs(connection, minutes=MINUTES),
            await waiting_jobs(connection, minutes=MINUTES),
            by_reason(await failures_of_today(connection, most=MOST_FAILURES)),
            with_pauses(settings, states, queues.stats.pauses),
            spent,
        )

    return await runtime.database.run(read)


def _stages(groups: Sequence[JobGroup]) -> list[StageNow]:
    stages = sorted({one.stage for one in groups})

    def jobs(stage: str, status: str) -> int:
        return sum(one.jobs for one in groups if one.stage == stage and one.status == status)

    return [StageNow(stage, jobs(stage, "running"), jobs(stage, "waiting")) for stage in stages]
