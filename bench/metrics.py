"""What metrics cost: the recording of a job's end, and a scrape of a busy fleet's worker.

python -m bench.metrics

Exits with 1 if the recording of an end takes more than 10 us of CPU, or a scrape more than 50 ms.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from statistics import median
from uuid import uuid4

from models.gate.provider_calls import CallOutcome
from models.job_state import JobStatus
from models.queue.claims import Claim
from models.queue.ended import Ended
from models.queue.transitions import Completed
from workers.metrics.exposition import exposition
from workers.metrics.folder import MetricsFolder
from workers.metrics.recording import Recording
from workers.metrics.values import Values
from workers.running.ends import count_end
from workers.running.job import RunningJob

ENDS = 100_000
MOST_US = 10.0
MOST_MS = 50.0
PROCESSES = 16
SCRAPES = 21
TYPES = ("enhance", "blend", "generate", "modify", "studio.generate", "call")
TIERS = ("FREE", "TIER_1K", "TIER_2K", "TIER_4K")
STAGES = ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING", "CALLING")
OUTCOMES = ("finished", "failed", "retried", "snoozed", "released")
PROVIDERS = ("local", "gemini", "openai")


def claim() -> Claim:
    names = ("enhance", "j", "u", "default", "GENERATING")
    return Claim(1, *names, 1, 3, uuid4(), uuid4(), datetime.now(UTC), "TIER_1K", 0.2)


def end_us(folder: Path) -> float:
    """Return the microseconds of CPU that the recording of one end takes: the end, its last stage and the lanes."""
    recording = Recording(Values(folder, "0"))
    job, end = RunningJob(claim()), Completed("GENERATING", 1_500, {})
    job.ended = Ended(JobStatus.COMPLETED)
    began_s = time.process_time()
    for number in range(ENDS):
        recording.stage_ended("enhance", "GENERATING", "finished", 1_500)
        count_end(recording, job, end)
        recording.set_busy(number & 63)
    return (time.process_time() - began_s) / ENDS * 1e6


def busy(folder: Path, process: int) -> None:
    """Record what a process of a fleet with every type, tier, stage and outcome has recorded."""
    recording = Recording(Values(folder, str(process)))
    recording.set_lanes(64)
    recording.set_busy(60)
    for job_type, stage, outcome in product(TYPES, STAGES, OUTCOMES):
        for duration_ms in (40, 400, 900, 1_500, 4_000, 9_000):
            recording.stage_ended(job_type, stage, outcome, duration_ms)
        recording.attempt_ended(stage, outcome)
    for job_type, tier, status in product(TYPES, TIERS, ("COMPLETED", "FAILED", "REFUNDED")):
        recording.job_ended(job_type, tier, Ended(JobStatus(status), 2))
        recording.job_claimed(claim())
    for provider, purpose, outcome in product(PROVIDERS, ("analyze", "generate"), ("answered", "cut_off", "Throttled")):
        ended = CallOutcome(outcome, may_be_paid=True, latency_ms=900, prompt_units=5, output_units=7, images=1)
        recording.call_ended(provider, purpose, f"{provider}-1", Decimal("0.25"), ended)


def scrape_ms(folder: MetricsFolder) -> tuple[float, int]:
    """Return the milliseconds of CPU of a scrape, the median of some without the first, and its bytes."""
    times, text = [], b""
    for _ in range(SCRAPES):
        began_s = time.process_time()
        text = exposition(folder.read(), {"worker", "scheduler"})
        times.append((time.process_time() - began_s) * 1e3)
    return median(times[1:]), len(text)


def main() -> int:
    with tempfile.TemporaryDirectory() as above:
        with MetricsFolder(Path(above)) as folder:
            us = end_us(folder.path)
        with MetricsFolder(Path(above)) as folder:
            for process in range(PROCESSES):
                busy(folder.path, process)
            ms, size = scrape_ms(folder)
    print(f"recording an end: {us:.2f} us of CPU, on average over {ENDS:,} (at most {MOST_US:g})")
    print(f"a scrape of {PROCESSES} busy processes: {ms:.1f} ms of CPU, {size:,} bytes (at most {MOST_MS:g} ms)")
    return int(us > MOST_US or ms > MOST_MS)


if __name__ == "__main__":
    sys.exit(main())
