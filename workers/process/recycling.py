"""Recycling of a worker process: after a number of jobs, or at a size in memory, it ends and another one is started."""

import psutil

from pipelines.settings import Settings

BYTES_PER_MB = 1_000_000


class Recycling:
    """Counts the jobs of this process and reads its memory use."""

    def __init__(self, settings: Settings) -> None:
        """Store the limits; 0 means no limit."""
        self._most_jobs = settings.max_jobs
        self._most_rss_mb = settings.max_rss_mb
        self._process = psutil.Process()
        self.jobs = 0

    def count_job(self) -> None:
        """Count a job whose run is over."""
        self.jobs += 1

    @property
    def rss_mb(self) -> int:
        """The resident memory of this process in MB of 1,000,000 bytes, without its pixel children."""
        return round(self._process.memory_info().rss / BYTES_PER_MB)

    def reason(self) -> str | None:
        """Return the variable whose limit is reached; None if none is reached, or no job has run yet.

        If a process could be recycled before its first job, a memory limit below what it needs at its start would keep
        it from running any job.
        """
        if not self.jobs:
            return None
        if 0 < self._most_jobs <= self.jobs:
            return "DARKROOM_MAX_JOBS"
        return "DARKROOM_MAX_RSS_MB" if 0 < self._most_rss_mb <= self.rss_mb else None
