"""When a worker process is recycled."""

from pipelines.settings import Settings
from workers.process.recycling import Recycling


def after(jobs, **limits):
    recycling = Recycling(Settings(**limits))
    for _ in range(jobs):
        recycling.count_job()
    return recycling.reason()


def test_process_has_had_its_time_with_its_last_job():
    assert after(2, max_jobs=3) is None
    assert after(3, max_jobs=3) == after(4, max_jobs=3) == "DARKROOM_MAX_JOBS"


def test_memory_counts_once_a_job_is_done_so_that_a_limit_too_low_stops_nothing():
    assert after(0, max_rss_mb=1) is None
    assert after(1, max_rss_mb=1) == "DARKROOM_MAX_RSS_MB"
    assert after(1, max_rss_mb=1_000_000) is None


def test_without_limits_a_process_stays():
    assert after(1_000_000) is None
