"""CPU time of one log line: written as JSON if the level is info, and not written if the level is warning.

Goal: a job's lines under 100 us together.

    .venv/bin/python -m bench.log_line
"""

import os
import time
from pathlib import Path

from config.log import configure_logging, name_process
from config.logger import EventLogger, bound_fields
from pipelines.settings import Settings

LINES = 5_000
ROUNDS = 7

log = EventLogger(__name__)


def cpu_us() -> float:
    """Return the CPU time of a line in the fastest of several rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(LINES):
            log.info("stage_completed", stage="ANALYZING", duration_s=0.123)
        least = min(least, time.process_time() - began)
    return least / LINES * 1e6


def main() -> None:
    settings = Settings(
        log_format="json",
        database_url="postgresql://app:a-long-password@db/app",
        redis_url="redis://queue",
        provider=("local",),
    )
    name_process(worker_id="0b6a4ce8-0000-4000-8000-000000000000")
    bound_fields.set({"job_id": "c0123456789abcdef01234567", "job_type": "enhance", "attempt": 1})
    with Path(os.devnull).open("w", encoding="utf-8") as stream:
        for level in ("info", "warning"):
            configure_logging(settings.model_copy(update={"log_level": level}), stream=stream)
            print(f"a line of level info at log level {level}: {cpu_us():.1f} us")


if __name__ == "__main__":
    main()
