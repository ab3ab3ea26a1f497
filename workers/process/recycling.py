"""When a worker process has had its time: after so many jobs, or with so much memory, it makes room for a fresh one."""

import psutil

from pipelines.settings import Settings

BYTES_PER_MB = 1_000_000


class Recycling:
    """Counts the jobs of this process and looks at its memory."""

    def __init__(self, settings: Settings) -> None:
        """Keep the limits; 0 means none."""
        self._most_jobs = settings.max_jobs
        self._most_rss_mb = settings.max_rss_mb
        self._process = psutil.Process()
        self.jobs = 0

    def count_job(self) -> None:
        """Note that a job's run is over."""
        self.jobs += 1

    @property
    def rss_mb(self) -> int:
        """The memory of this process that is resident now, without its pixel children."""
        return round(self._process.memory_info().rss / BYTES_PER_MB)

    def reason(self) -> str | None:
        """Return the variable whose limit is reached; None where none is, and before the first job.

        Without that, a limit below what a process takes from its start would have nothing done at all.
        """
        if not self.jobs:
            return None
        if 0 < self._most_jobs <= self.jobs:
            return "DARKROOM_MAX_JOBS"
        return "DARKROOM_MAX_RSS_MB" if 0 < self._most_rss_mb <= self.rss_mb else None
