"""Plots of numbers by minute: where lines, ticks and labels stand in an SVG picture of WIDTH times HEIGHT units."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from models.periodic.minutes import Ends, WaitingInMinute
from workers.presentation.overview import CANCELLED, COMPLETED, FAILED_ONES, kind_of_end
from workers.presentation.values import utc

WIDTH: Final = 360
HEIGHT: Final = 190
LEFT, RIGHT, TOP, BOTTOM = 48, 350, 24, 148
X_TICKS: Final = 4
MOST_Y_TICKS: Final = 5
MINUTE: Final = timedelta(minutes=1)
MOST_GAP: Final = 2 * MINUTE
"""Points that are further apart aren't joined, because what was between them isn't known. Counts are made each ten
seconds, so that a single minute may be left out."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis: where it stands, in units of the picture, and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series: its name, and its points, in units of the picture.

    Attributes:
        name: what is counted.
        paths: points that are joined, each as SVG's `points`.
        dots: points that are joined with none.
    """

    name: str
    paths: Sequence[str]
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, and the table of its numbers.

    Attributes:
        name: its name.
        key: of its elements' ids.
        unit: of its vertical axis.
        description: what it shows, in a sentence.
        lines: its series.
        x_ticks: of the time (UTC).
        y_ticks: of the numbers, from 0.
        columns: titles of the table; those that begin with `#` are of numbers.
        rows: a row for each minute, the newest first: its time, and the number of each series; None where it isn't
            known.
    """

    name: str
    key: str
    unit: str
    description: str
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int | None]]]


def jobs_plot(ends: Ends, now: datetime, *, minutes: int) -> Plot:
    """Return the plot of jobs per minute. Minutes in which no job ended have zeros; the present one is only a row."""
    this_minute = _floor(now)
    numbers: dict[str, dict[datetime, int]] = {COMPLETED: {}, FAILED_ONES: {}, CANCELLED: {}}
    for one in ends.minutes:
        of_kind = numbers[kind_of_end(one.outcome)]
        minute = utc(one.minute)
        of_kind[minute] = of_kind.get(minute, 0) + one.jobs
    shown = _minutes(this_minute, minutes)
    known = [one for one in shown if ends.unknown_since is None or one < utc(ends.unknown_since)]
    series = {name: {one: found.get(one, 0) for one in known} for name, found in numbers.items()}
    ended = {name: sum(found.values()) for name, found in series.items()}
    most = max((number for found in series.values() for number in found.values()), default=0)
    description = (
        f"In the {minutes} minutes before {this_minute:%H:%M} UTC {ended[COMPLETED]:,} jobs were completed, "
        f"{ended[FAILED_ONES]:,} failed and {ended[CANCELLED]:,} were cancelled; at most {most:,} in a minute."
    )
    plot = _plot("Jobs per minute", "jobs", "jobs per minute", description, series, shown)
    present = (f"{this_minute:%H:%M}, so far", [found.get(this_minute, 0) for found in numbers.values()])
    return replace(plot, rows=[present, *plot.rows])


def waiting_plot(waiting: Iterable[WaitingInMinute], now: datetime, *, minutes: int) -> Plot:
    """Return the plot of waiting jobs. Minutes in which no scheduler counted them are a gap."""
    found = {utc(one.minute): one.jobs for one in waiting}
    shown = _minutes(_floor(now) + MINUTE, minutes)
    series = {minute: found[minute] for minute in shown if minute in found}
    description = "No scheduler has counted waiting jobs yet."
    if series:
        last = max(series)
        description = (
            f"At {last:%H:%M} UTC {series[last]:,} jobs waited; "
            f"in the {minutes} minutes before between {min(series.values()):,} and {max(series.values()):,}."
        )
    return _plot("Waiting", "waiting", "jobs", description, {"waiting": series}, shown)


def _floor(moment: datetime) -> datetime:
    return utc(moment).replace(second=0, microsecond=0)


def _minutes(end: datetime, count: int) -> list[datetime]:
    """Return the last minutes before a time, oldest first."""
    return [end - number * MINUTE for number in range(count, 0, -1)]


def _plot(
    name: str,
    key: str,
    unit: str,
    description: str,
    series: Mapping[str, Mapping[datetime, int]],
    minutes: Sequence[datetime],
) -> Plot:
    highest = max((number for found in series.values() for number in found.values()), default=0)
    step = _step(highest)
    top = max(step, math.ceil(highest / step) * step)

    def x(minute: datetime) -> float:
        return round(LEFT + (minute - minutes[0]) / (minutes[-1] - minutes[0]) * (RIGHT - LEFT), 1)

    def y(number: float) -> float:
        return round(BOTTOM - number / top * (BOTTOM - TOP), 1)

    lines = []
    for title, found in series.items():
        runs = _runs(sorted(found))
        points = [[(x(minute), y(found[minute])) for minute in run] for run in runs]
        paths = [" ".join(f"{left},{up}" for left, up in run) for run in points if len(run) > 1]
        lines.append(Line(title, paths, [run[0] for run in points if len(run) == 1]))
    every = max(1, len(minutes) // X_TICKS)
    return Plot(
        name,
        key,
        unit,
        description,
        lines,
        [Tick(x(minute), f"{minute:%H:%M}") for minute in minutes if _minute_number(minute) % every == 0],
        [Tick(y(number), _short(number)) for number in range(0, top + 1, step)],
        ["Minute (UTC)", *(f"#{title.capitalize()}" for title in series)],
        [(f"{minute:%H:%M}", [found.get(minute) for found in series.values()]) for minute in reversed(minutes)],
    )


def _short(number: int) -> str:
    """Return a label of few characters: 2,000, 50k, 1.5M."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit and number >= 10_000:  # noqa: PLR2004 - five digits are too wide beside a plot
            return f"{number / unit:g}{name}"
    return f"{number:,}"


def _minute_number(minute: datetime) -> int:
    return minute.hour * 60 + minute.minute


def _runs(minutes: Sequence[datetime]) -> list[list[datetime]]:
    """Return minutes in runs in which no two neighbours are further apart than MOST_GAP."""
    runs: list[list[datetime]] = []
    for minute in minutes:
        if runs and minute - runs[-1][-1] <= MOST_GAP:
            runs[-1].append(minute)
        else:
            runs.append([minute])
    return runs


def _step(highest: int) -> int:
    """Return the step between ticks, 1, 2 or 5 times a power of ten, with which there are at most MOST_Y_TICKS."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if math.ceil(highest / (factor * power)) < MOST_Y_TICKS:
                return factor * power
        power *= 10
