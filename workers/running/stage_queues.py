"""The queues of stages, as the claim loop last read them and as runs of this process use them."""

from collections.abc import Mapping

from config.job_terms import DEFAULT_QUEUE, LONE_STAGES
from config.queue_terms import queue_of


class StageQueues:
    """The recorded queues of stages. Nothing is recorded as long as none was read."""

    def __init__(self, recorded: Mapping[str, str] | None = None) -> None:
        """Begin with what is recorded; None if that isn't known yet."""
        self._recorded: Mapping[str, str] = recorded or {}

    def set_recorded(self, recorded: Mapping[str, str] | None) -> None:
        """Replace them by what is recorded now; None if nothing is."""
        self._recorded = recorded or {}

    def of(self, stage: str) -> str:
        """Return the queue of a stage."""
        return queue_of(stage, self._recorded)

    def needs_provider(self, queue: str) -> bool:
        """Return whether jobs of a queue may need a provider: not if only LONE_STAGES have the queue."""
        stages = [stage for stage, own in self._recorded.items() if own == queue]
        return queue == DEFAULT_QUEUE or not stages or not set(stages) <= set(LONE_STAGES)
