"""Values in files: what one process has recorded, the next one of its slot continues."""

import contextlib
import subprocess
import sys

import pytest
from prometheus_client.mmap_dict import MmapedDict

from workers.metrics import values as values_module
from workers.metrics.families import JOBS_FINISHED, LANES, REFUNDS, STAGE_BUCKETS_S, STAGE_SECONDS
from workers.metrics.folder import MetricsFolder
from workers.metrics.reading import Reader
from workers.metrics.values import Values

DONE = ("enhance", "TIER_1K", "COMPLETED")
KEY = ("jobs_finished_total", DONE, "")


@pytest.fixture
def open_values():
    """Open the values of a slot; they are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda folder, slot="0": stack.enter_context(contextlib.closing(Values(folder, slot)))


def test_counters_of_a_slot_continue_and_those_of_slots_are_added_up(tmp_path, open_values):
    open_values(tmp_path, "0").cell(JOBS_FINISHED, *DONE).add(3)
    open_values(tmp_path, "0").cell(JOBS_FINISHED, *DONE).add()
    open_values(tmp_path, "1").cell(JOBS_FINISHED, *DONE).add(10)

    assert Reader(tmp_path).read() == {KEY: 14}


def test_what_a_killed_process_recorded_last_is_there(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from workers.metrics.values import Values\n"
        "from workers.metrics.families import REFUNDS\n"
        "cell = Values(Path(sys.argv[1]), '0').cell(REFUNDS)\n"
        "for _ in range(1000): cell.add()\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9

    assert Reader(tmp_path).read() == {("refunds_total", (), ""): 1000}


def test_values_are_right_beyond_the_first_size_of_a_file(tmp_path, open_values):
    recorded = open_values(tmp_path)
    for number in range(900):
        recorded.cell(JOBS_FINISHED, "x" * 40, "TIER_1K", str(number)).add(number)

    found = Reader(tmp_path).read()

    assert len(found) == 900
    assert found == recorded.read()


def test_histogram_counts_each_value_in_the_bucket_whose_limit_it_does_not_exceed(tmp_path, open_values):
    histogram = open_values(tmp_path).histogram(STAGE_SECONDS, "enhance", "CROPPING", "finished")
    for seconds in (0, 0.01, 0.011, 600, 601):
        histogram.observe(seconds)

    parts = {part: value for (_, _, part), value in Reader(tmp_path).read().items() if value}

    last = len(STAGE_BUCKETS_S)
    assert parts == {"0": 2, "1": 1, str(last - 1): 1, str(last): 1, "sum": pytest.approx(1201.021)}


def test_family_has_a_bounded_number_of_series(monkeypatch):
    monkeypatch.setattr(values_module, "MOST_SERIES", 3)
    recorded = Values()
    for number in range(10):
        recorded.cell(JOBS_FINISHED, str(number), "TIER_1K", "COMPLETED").add()

    assert recorded.read()["jobs_finished_total", ("other",) * 3, ""] == 7
    assert len(recorded.read()) == 4


def test_gauges_of_a_dead_process_are_gone_and_its_counters_stay(tmp_path, open_values):
    with MetricsFolder(tmp_path) as folder:
        for slot in "01":
            recorded = open_values(folder.path, slot)
            recorded.cell(LANES).set(4)
            recorded.cell(REFUNDS).add()

        folder.forget_gauges("0")

        assert folder.read() == {("lanes", (), ""): 4, ("refunds_total", (), ""): 2}
    assert list(tmp_path.iterdir()) == []


def test_file_that_its_process_is_just_making_has_no_values(tmp_path):
    (tmp_path / "counts_0.db").touch()

    assert Reader(tmp_path).read() == {}


def test_folder_of_a_killed_supervisor_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from workers.metrics.folder import MetricsFolder\n"
        "MetricsFolder(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1

    with MetricsFolder(tmp_path) as first, MetricsFolder(tmp_path) as second:
        assert set(tmp_path.iterdir()) == {first.path, second.path}
        assert first.path.stat().st_mode & 0o077 == 0


def test_reader_sees_what_comes_later_in_files_that_grow_or_are_made_anew(tmp_path, open_values):
    reader, recorded = Reader(tmp_path), open_values(tmp_path)
    for number in range(900):
        recorded.cell(JOBS_FINISHED, "x" * 40, "TIER_1K", str(number)).add(number)
        if number % 300 == 0:
            assert reader.read() == recorded.read()
    for path in tmp_path.iterdir():
        path.unlink()
    assert reader.read() == {}
    open_values(tmp_path).cell(REFUNDS).add(7)

    assert reader.read() == {("refunds_total", (), ""): 7}


def test_files_are_those_of_prometheus_client(tmp_path, open_values):
    recorded = open_values(tmp_path)
    for length in range(20):
        recorded.cell(JOBS_FINISHED, "x" * length, "TIER_1K", "COMPLETED").add(length)

    theirs = MmapedDict.read_all_values_from_file(str(tmp_path / "counts_0.db"))

    assert [value for _, value, *_ in theirs] == list(map(float, range(20)))
