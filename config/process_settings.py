"""Settings of processes: how many there are, how many jobs each runs, and how long things may take."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from config.job_terms import DEFAULT_QUEUE
from config.periodic_terms import ALLOWANCES_TOKENS
from config.setting_group import SettingGroup
from config.setting_types import MOST_S, Names, PositiveInt, PositiveSeconds, number_by_name

_StageDeadlines = Annotated[Mapping[str, PositiveSeconds], BeforeValidator(number_by_name({}))]
_UserCaps = Annotated[
    Mapping[str, PositiveInt], BeforeValidator(number_by_name({}, allowed=frozenset(ALLOWANCES_TOKENS)))
]


def require_queues(names: Sequence[str]) -> None:
    """Check that jobs enter each of these queues: a worker of any other would claim nothing, and nobody would notice.

    Raises:
        ValueError: there is a queue among them that no job enters.
    """
    unknown = [name for name in names if name != DEFAULT_QUEUE]
    if unknown:
        raise ValueError(f"there is no queue {' and no queue '.join(unknown)}; every job enters queue {DEFAULT_QUEUE}")


def _queues(names: tuple[str, ...]) -> tuple[str, ...]:
    require_queues(names)
    return names


class ProcessSettings(SettingGroup):
    """How workers and schedulers run."""

    lanes: PositiveInt = Field(
        default=64,
        description="Jobs that each worker process runs at once; most of the time they wait for providers or for a "
        "pixel child. A job that comes later waits for those that have lanes",
    )
    processes: PositiveInt = Field(
        default=2, description="Worker processes that `darkroom worker` keeps running; set it to the number of cores"
    )
    queues: Annotated[Names, AfterValidator(_queues)] = Field(
        default=(DEFAULT_QUEUE,),
        min_length=1,
        description="Queues whose jobs this worker claims, separated by commas. So far every job enters queue default, "
        "and the name of another queue is refused",
    )
    lease_s: Annotated[float, Field(ge=3, le=MOST_S, allow_inf_nan=False)] = Field(
        default=15,
        description="Seconds without a heartbeat after which a worker's jobs are rescued, at least 3; a heartbeat is "
        "sent three times in this time. With a shorter lease jobs are rescued sooner, and from living workers more "
        "easily",
    )
    poll_s: PositiveSeconds = Field(
        default=1,
        description="Seconds after which a worker looks for jobs without a wake-up: the longest delay of a job where "
        "wake-ups get lost",
    )
    max_wait_s: PositiveSeconds = Field(
        default=86_400,
        description="Seconds after which a job that isn't finished ends, refunded; operators' pauses aren't counted",
    )
    shutdown_grace_s: Annotated[float, Field(ge=0, le=MOST_S, allow_inf_nan=False)] = Field(
        default=25,
        description="Seconds that provider calls in flight have to end after SIGTERM; less than the time after which "
        "the platform kills the process, often 30",
    )
    max_jobs: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Jobs after which a worker process is recycled: it claims no more, finishes what it runs and is "
        "replaced, which frees memory that libraries leak; 0: never",
    )
    max_rss_mb: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Resident memory of a worker process, its pixel children not counted, in MB of 1,000,000 bytes, at "
        "which it is recycled in the same way; a new process takes about 200; 0: never",
    )
    stage_deadlines: _StageDeadlines = Field(
        default={},
        description="Seconds that a stage may take, NAME=seconds,...; other stages keep their default. Waits for what "
        "other jobs hold aren't counted. A job that is 30 s past it is rescued. "
        "GENERATING must last longer than the slowest answer of a provider (300 s)",
    )
    max_retries: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=3, description="Attempts after the first one, for jobs whose table has no column maxRetries"
    )
    user_caps: _UserCaps = Field(
        default={},
        description="How many jobs of a user may run at once, by the tier of the user's balance, FREE=2,.... It has no "
        "effect yet: a worker that starts with it warns, and `darkroom doctor` fails",
    )
