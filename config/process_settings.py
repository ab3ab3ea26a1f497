"""Settings of processes: how many there are, how many jobs each runs, and how long things may take."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from config.application_names import parse_entries
from config.fair_terms import HEAD_START_TOKENS, MOST_WEIGHT, WEIGHTS, HeadStart, UserCaps, Weights
from config.job_terms import DEFAULT_QUEUE
from config.queue_terms import StageQueues
from config.setting_group import SettingGroup
from config.setting_types import MOST_S, Names, PositiveInt, PositiveSeconds, number_by_name

_StageDeadlines = Annotated[Mapping[str, PositiveSeconds], BeforeValidator(number_by_name({}))]


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
    application: Annotated[tuple[str, ...], BeforeValidator(parse_entries)] | None = Field(
        default=None,
        description="Applications whose job tables are drained, separated by commas: NAME, NAME@SCHEMA or the path of "
        "a .toml file that describes one, with @SCHEMA where its tables don't stand in public. `darkroom db upgrade` "
        "records it, and a process that is started with another list stops. Unset: as recorded, or recognised by the "
        "tables",
    )
    queues: Names = Field(
        default=(DEFAULT_QUEUE,),
        min_length=1,
        description="Queues whose jobs this worker claims, separated by commas, the first one first. The name of a "
        "queue that DARKROOM_STAGE_QUEUES doesn't name is refused",
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
    stage_queues: StageQueues | None = Field(
        default=None,
        description="Queues of stages, STAGE=queue,...: their workers alone run these stages, and jobs are handed over "
        "between them; other stages have queue default. `darkroom db upgrade` records it and moves waiting jobs; {} "
        "takes all stages back to default. Unset: as recorded, at first none",
    )
    user_caps: UserCaps | None = Field(
        default=None,
        description="How many jobs of a user may run at once, by the tier of the user's balance, FREE=2,...; other "
        "tiers have no cap, and none lifts all caps. `darkroom db upgrade` and `darkroom queue caps` record it. Unset: "
        "as recorded, at first no caps",
    )
    weights: Weights | None = Field(
        default=None,
        description="How many tokens' worth of jobs a user gets for each of a user with weight 1 while both wait, by "
        f"the tier of the balance, TIER=weight,... up to {MOST_WEIGHT}; other tiers keep their default. `darkroom db "
        "upgrade` and `darkroom queue weights` record it. Unset: as recorded, at first "
        f"{','.join(f'{tier}={weight}' for tier, weight in WEIGHTS.items())}",
    )
    priority_head_start: HeadStart | None = Field(
        default=None,
        description="How many tokens' worth of jobs of users whose plan has priority, all of them together, may go "
        "before those of everyone who waits; 0: none. `darkroom db upgrade` and `darkroom queue weights --head-start` "
        f"record it. Unset: as recorded, at first {HEAD_START_TOKENS}",
    )

    def fair_terms(self) -> dict[str, object]:
        """Return the terms of queues and their order that are set, for darkroom.settings, where SQL functions look."""
        terms = {
            "user_caps": self.user_caps,
            "weights": self.weights,
            "priority_head_start": self.priority_head_start,
            "stage_queues": self.stage_queues,
        }
        return {key: value for key, value in terms.items() if value is not None}
