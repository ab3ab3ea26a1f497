"""Plots: lines, gaps, zeros and ticks."""

from datetime import UTC, datetime, timedelta

import pytest

from models.periodic.minutes import EndedInMinute, Ends, WaitingInMinute
from workers.dashboard.plots import BOTTOM, LEFT, RIGHT, TOP, jobs_plot, waiting_plot

NOW = datetime(2026, 6, 15, 12, 0, 30, tzinfo=UTC)


def minute(number: int) -> datetime:
    """Return the minute so many minutes before the present one."""
    return NOW.replace(second=0) - timedelta(minutes=number)


def test_minutes_in_which_no_job_ended_are_zeros():
    ends = Ends((), [EndedInMinute(minute(3), "COMPLETED", 4), EndedInMinute(minute(0), "FAILED", 9)], None)

    plot = jobs_plot(ends, NOW, minutes=10)

    assert [line.name for line in plot.lines] == ["completed", "failed", "cancelled"]
    assert [len(line.paths) for line in plot.lines] == [1, 1, 1]
    assert plot.rows[0] == ("12:00, so far", [0, 9, 0])
    assert plot.rows[3] == ("11:57", [4, 0, 0])
    assert len(plot.rows) == 11
    assert plot.columns == ["Minute (UTC)", "#Completed", "#Failed", "#Cancelled"]
    assert "4 jobs were completed, 0 failed" in plot.description
    points = plot.lines[0].paths[0].split()
    assert (points[0], points[-1]) == (f"{LEFT}.0,{BOTTOM}.0", f"{RIGHT}.0,{BOTTOM}.0")
    assert points[7].endswith(f",{TOP}.0")


def test_minutes_of_which_not_all_is_rolled_up_are_unknown():
    ends = Ends((), [EndedInMinute(minute(9), "COMPLETED", 4)], minute(5))

    rows = dict(jobs_plot(ends, NOW, minutes=10).rows)

    assert (rows["11:54"], rows["11:55"], rows["11:59"]) == ([0, 0, 0], [None, None, None], [None, None, None])


def test_minutes_in_which_nobody_counted_are_a_gap():
    counted = [WaitingInMinute(minute(number), number) for number in (9, 8, 6, 2)]

    plot = waiting_plot(counted, NOW, minutes=10)

    (line,) = plot.lines
    assert [len(path.split()) for path in line.paths] == [3]  # a single minute may be left out between two counts
    assert len(line.dots) == 1
    assert dict(plot.rows)["11:55"] == [None]
    assert "At 11:58 UTC 2 jobs waited; in the 10 minutes before between 2 and 9." in plot.description


def test_nothing_counted_is_an_empty_plot():
    plot = waiting_plot([], NOW, minutes=10)

    assert (plot.lines[0].paths, plot.lines[0].dots) == ([], [])
    assert [tick.label for tick in plot.y_ticks] == ["0", "1"]


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (3, ["0", "1", "2", "3"]),
        (7, ["0", "2", "4", "6", "8"]),
        (4_000, ["0", "1,000", "2,000", "3,000", "4,000"]),
        (1_000_000, ["0", "500k", "1M"]),
    ],
)
def test_ticks_are_few_and_round(highest, labels):
    plot = waiting_plot([WaitingInMinute(minute(1), highest)], NOW, minutes=120)

    assert [tick.label for tick in plot.y_ticks] == labels
    assert len(plot.x_ticks) == 4
    assert all(LEFT <= tick.at <= RIGHT for tick in plot.x_ticks)
