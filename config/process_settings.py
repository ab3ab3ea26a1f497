"""Settings of processes: how many there are, how many jobs each runs, and how long things may take."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from config.job_terms import DEFAULT_QUEUE
from config.periodic_terms import ALLOWANCES_TOKENS
from config.setting_group import SettingGroup
from config.setting_types import Names, PositiveInt, PositiveSeconds, number_by_name

_StageDeadlines = Annotated[Mapping[str, PositiveSeconds], BeforeValidator(number_by_name({}))]
_UserCaps = Annotated[
    Mapping[str, PositiveInt], BeforeValidator(number_by_name({}, allowed=frozenset(ALLOWANCES_TOKENS)))
]


class ProcessSettings(SettingGroup):
    """How workers and schedulers run."""

    lanes: PositiveInt = Field(
        default=16, description="Jobs in flight per worker process; they wait for providers most of their time"
    )
    processes: PositiveInt = Field(
        default=2, description="Worker processes that `darkroom worker` keeps running; one per core"
    )
    queues: Names = Field(
        default=(DEFAULT_QUEUE,),
        min_length=1,
        description="Queues this worker takes jobs from, separated by commas; so far all jobs enter the queue default",
    )
    lease_s: Annotated[float, Field(ge=3, allow_inf_nan=False)] = Field(
        default=15,
        description="Seconds without a heartbeat after which a worker's jobs are rescued; three heartbeats fall in "
        "them, so at least 3; a shorter lease rescues sooner and tolerates shorter interruptions",
    )
    poll_s: PositiveSeconds = Field(
        default=1, description="Seconds between looks for work without a wake-up: the longest delay without a broker"
    )
    max_wait_s: PositiveSeconds = Field(
        default=86_400,
        description="Seconds after which a job that isn't finished ends refunded, operator pauses not counted",
    )
    shutdown_grace_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=25,
        description="Seconds that provider calls in flight get after SIGTERM; below the platform's kill delay (30)",
    )
    max_jobs: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Jobs after which a worker process claims no more, finishes what it runs and is replaced, against "
        "memory that libraries lose; 0: never",
    )
    max_rss_mb: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Resident memory of a worker process, its pixel children not counted, in MB of 1,000,000 bytes, at "
        "which it is replaced in the same way after a job; it takes about 200 from its start; 0: never",
    )
    stage_deadlines: _StageDeadlines = Field(
        default={},
        description="Seconds a stage may take, NAME=seconds,...; stages not named keep their default. Claims "
        "30 s past it are rescued; GENERATING must outlast the provider's slowest answer (300 s)",
    )
    max_retries: Annotated[int, Field(ge=0)] = Field(
        default=3, description="Attempts after the first for jobs whose table has no maxRetries column"
    )
    user_caps: _UserCaps = Field(
        default={},
        description="Running jobs a user may have, by tier of the balance, FREE=2,...; not named: no cap. Not carried "
        "out yet: a worker that starts with it warns, and `darkroom doctor` fails",
    )
