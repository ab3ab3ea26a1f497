"""The queues of stages: which workers run a stage of a job."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

from config.job_terms import DEFAULT_QUEUE
from config.setting_types import name_by_name

_QUEUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""The form of a queue's name. With a prefix it is the name of a sequence, whose names PostgreSQL cuts at 63 bytes."""


def _queue(name: str) -> str:
    if not _QUEUE.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is no queue: give letters, digits, '-' and '_', at most 32")
    return name


StageQueues = Annotated[Mapping[str, Annotated[str, AfterValidator(_queue)]], BeforeValidator(name_by_name("queue"))]
"""The queues of stages by the stages' names."""


def queue_of(stage: str, stage_queues: Mapping[str, str]) -> str:
    """Return the queue of a stage."""
    return stage_queues.get(stage, DEFAULT_QUEUE)


def queues_of(stage_queues: Mapping[str, str]) -> tuple[str, ...]:
    """Return all queues: `default`, and those that stages name, each once."""
    return tuple(dict.fromkeys((DEFAULT_QUEUE, *stage_queues.values())))


def worker_for(queue: str) -> str:
    """Return the command that starts a worker for a queue."""
    return "darkroom worker" if queue == DEFAULT_QUEUE else f"darkroom worker --queues {queue}"
