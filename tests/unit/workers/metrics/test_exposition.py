"""The text that Prometheus reads: every family from the start, and what isn't known isn't shown."""

from prometheus_client.parser import text_string_to_metric_families

from workers.metrics.exposition import exposition, families_of, merged
from workers.metrics.families import FAMILIES, JOB_WAIT_SECONDS, WORKERS_LIVE
from workers.metrics.values import Values


def parsed(text):
    return {one.name: one for one in text_string_to_metric_families(text.decode())}


def test_every_family_is_there_from_the_start_with_its_kind():
    shown = parsed(exposition({}, {"worker", "scheduler", "dashboard"}))

    kinds = {f"darkroom_{one.name}".removesuffix("_total"): one.kind for one in FAMILIES}
    assert {name: one.type for name, one in shown.items()} == kinds
    with_values = {sample.name: sample.value for one in shown.values() for sample in one.samples}
    assert with_values == {
        **dict.fromkeys(("darkroom_fenced_writes_total", "darkroom_refunds_total"), 0.0),
        **dict.fromkeys(("darkroom_refunded_tokens_total", "darkroom_lanes", "darkroom_lanes_busy"), 0.0),
        "darkroom_build_info": 1.0,
    }


def test_process_shows_only_its_own_families():
    names = {one.name for one in families_of({"scheduler"})}

    assert {"queue_jobs", "jobs_finished_total", "build_info"} <= names
    assert not {"lanes", "stage_seconds", "watchers"} & names


def test_histogram_is_cumulative_and_labels_are_escaped():
    values = Values()
    for seconds in (0.2, 0.2, 100_000):
        values.histogram(JOB_WAIT_SECONDS, 'a "tier"\\').observe(seconds)

    (wait,) = (one for one in parsed(exposition(values.read(), {"worker"})).values() if "wait" in one.name)

    buckets = {sample.labels["le"]: sample.value for sample in wait.samples if sample.name.endswith("_bucket")}
    assert (buckets["0.1"], buckets["0.25"], buckets["86400"], buckets["+Inf"]) == (0, 2, 2, 3)
    assert {sample.labels["tier"] for sample in wait.samples} == {'a "tier"\\'}
    assert {sample.name: sample.value for sample in wait.samples if "le" not in sample.labels} == {
        "darkroom_job_wait_seconds_count": 3,
        "darkroom_job_wait_seconds_sum": 100_000.4,
    }


def test_gauge_that_is_known_is_shown_and_sources_are_added_up():
    key = (WORKERS_LIVE.name, (), "")

    assert b"darkroom_workers_live 0.0" in exposition({key: 0.0}, {"scheduler"})
    assert b"\ndarkroom_workers_live" not in exposition({}, {"scheduler"})
    assert merged([{key: 1.0}, {key: 2.0}]) == {key: 3.0}
