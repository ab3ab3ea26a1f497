"""Progress of jobs: on a terminal as a table or one line that is redrawn, otherwise as a few lines."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from models.queue.progress import JobProgress
from workers.cli.output import cell
from workers.operations.waiting import Waiting
from workers.operations.watching import Look, watch_jobs
from workers.presentation.outlooks import short_words
from workers.presentation.values import count_of, duration
from workers.presentation.wording import waiting_words
from workers.process.runtime import Runtime

REFRESHES_PER_S: Final = 4

MANY: Final = 10
"""More jobs than this are shown as one line about all of them, and end in a summary."""

LINE_EVERY_S: Final = 60.0
"""Longest time, in seconds, between two lines about many jobs where stderr is no terminal.

A line is also printed whenever another tenth of the jobs is over.
"""

TENTHS: Final = 10
GAP: Final = 2
INDENT: Final = 4
LABEL_CHARS: Final = 28
LEAST_LABEL: Final = 10
"""Widths, in characters, to which a job's name is cut where the terminal has no room for it."""

LEAST_BESIDE: Final = 4
"""How many columns always stand beside each other: all up to the time."""

TIME: Final = 3
"""The place of the time, which is aligned to the right."""

MOST_REASONS: Final = 3
"""How many different reasons to wait are shown."""


async def follow_jobs(
    runtime: Runtime,
    labels: Mapping[str, str],
    screen: Console,
    *,
    keeps_table: bool,
    label_title: str = "picture",
    on_look: Callable[[Look], Awaitable[None]] | None = None,
    without_worker: str | None = None,
) -> Sequence[JobProgress]:
    """Show the progress of jobs until all are over; return the final progress of each, in the order given.

    Args:
        runtime: open.
        labels: the name of each job, by its id.
        screen: where to show it.
        keeps_table: whether the last table stays; otherwise it is removed before the caller prints.
        label_title: title of the column of names.
        on_look: awaited with each look, at least once a second.
        without_worker: what is printed if no worker is alive; None prints how to start a worker.
    """
    words = partial(_reason, max_wait_s=runtime.settings.max_wait_s, without_worker=without_worker)
    view = _View(labels, screen, label_title, words)
    live = (
        Live(get_renderable=view.render, console=screen, refresh_per_second=REFRESHES_PER_S, transient=not keeps_table)
        if screen.is_terminal
        else nullcontext()
    )
    progress: Sequence[JobProgress] = []
    with live:
        async for look in watch_jobs(runtime, labels):
            progress = look.jobs
            view.update(look)
            if on_look is not None:
                await on_look(look)
    return progress


class _View:
    """What is shown. The event loop updates it, and rich's own thread renders it."""

    def __init__(
        self, labels: Mapping[str, str], screen: Console, label_title: str, words: Callable[[Waiting], str]
    ) -> None:
        self._labels = labels
        self._label_title = label_title
        self._screen = screen
        self._words = words
        self._look = Look((), {})
        self._looked_s = self._began_s = time.monotonic()
        self._over_at_first: int | None = None
        self._said: dict[str, tuple[object, ...]] = {}
        self._line: tuple[int, float] | None = None

    def update(self, look: Look) -> None:
        self._looked_s = time.monotonic()
        self._look = look
        if self._over_at_first is None:
            self._over_at_first = sum(one.is_over for one in look.jobs)
        if self._screen.is_terminal:
            return
        if len(look.jobs) > MANY:
            self._say_if_due()
            return
        for one in look.jobs:
            self._say_if_changed(one)

    def _say_if_due(self) -> None:
        """Print a line about all jobs if another tenth of them is over, or no line was printed for LINE_EVERY_S."""
        tenth = TENTHS * sum(one.is_over for one in self._look.jobs) // len(self._look.jobs)
        if self._line is None or tenth != self._line[0] or self._looked_s - self._line[1] >= LINE_EVERY_S:
            self._line = (tenth, self._looked_s)
            self._screen.print(Text(". ".join([self._summary(), *self._reasons()])), soft_wrap=True)

    def _say_if_changed(self, one: JobProgress) -> None:
        wait = self._look.waits.get(one.job_id)
        now = (one.status, one.stage, one.is_waiting_for_retry, one.is_scheduled, wait and wait.kind)
        if self._said.get(one.job_id) == now:
            return
        self._said[one.job_id] = now
        parts = [one.job_id, self._labels[one.job_id], one.status or "DELETED", _stage(one), duration(one.elapsed_s)]
        reason = one.error if one.is_over or one.is_waiting_for_retry else None
        if wait is not None:
            reason = self._words(wait)
        self._screen.print(Text("  ".join(part for part in [*parts, reason] if part)), soft_wrap=True)

    def render(self) -> RenderableType:
        lines = [Text(line, style="dim") for line in (self._summary(), *self._reasons()) if line]
        return Group(*lines) if len(self._look.jobs) > MANY else Group(*self._table(), *lines)

    def _table(self) -> list[Text]:
        """Return a line for each job, and below it what the terminal has no room for beside the rest."""
        if not self._look.jobs:  # nobody has looked yet
            return []
        rows = [self._cells(one) for one in self._look.jobs]
        titles = [Text(one, style="bold") for one in (self._label_title, "job", "status", "time", "stage", "estimate")]
        widths = [max(one.cell_len for one in parts) for parts in zip(titles, *rows, strict=True)]
        beside = len(titles)
        while beside > LEAST_BESIDE and self._screen.width < LEAST_LABEL + sum(widths[1:beside]) + GAP * (beside - 1):
            beside -= 1
        room = self._screen.width - sum(widths[1:beside]) - GAP * (beside - 1)
        widths[0] = min(widths[0], LABEL_CHARS, max(LEAST_LABEL, room))
        lines = []
        for row in (titles, *rows):
            row[0].truncate(widths[0], overflow="ellipsis")
            row[TIME].align("right", widths[TIME])
            padded = [Text.assemble(one, " " * (width - one.cell_len)) for one, width in zip(row, widths, strict=True)]
            line = Text(" " * GAP, no_wrap=True, overflow="crop").join(padded[:beside])
            line.rstrip()
            lines.append(line)
            below = [part for part in row[beside:] if part.plain and row is not titles]
            if below:
                lines.append(Text.assemble(" " * INDENT, Text(", ").join(below), style="dim"))
        return lines

    def _cells(self, one: JobProgress) -> list[Text]:
        """Return the texts of a job's row: name, id, status, time, stage, and its place and estimate."""
        elapsed_s = one.elapsed_s + (0 if one.is_over else time.monotonic() - self._looked_s)
        outlook = self._look.outlooks.get(one.job_id)
        # what was last read of its place is true as long as its status is the same
        estimate = short_words(outlook) if outlook is not None and one.status == outlook.status else ""
        texts = (Text(duration(elapsed_s)), Text(_stage(one)), Text(estimate))
        return [Text(self._labels[one.job_id]), Text(one.job_id), cell(one.status or "DELETED"), *texts]

    def _summary(self) -> str:
        """Return the state of all jobs: `40% of 300 jobs: 118 done, 2 failed, 180 waiting; about 3 min left`.

        Scheduled jobs are counted by themselves, because nobody waits for them yet.
        """
        jobs = [one for one in self._look.jobs if not one.is_scheduled]
        scheduled = count_of(len(self._look.jobs) - len(jobs), "scheduled job")
        if not jobs:
            return scheduled if self._look.jobs else ""
        over = sum(one.is_over for one in jobs)
        counts = Counter(_group(one) for one in jobs)
        counted = ", ".join(f"{counts[name]:,} {name}" for name in _GROUPS if counts[name])
        left_s = self._left_s(over, len(jobs))
        left = "" if left_s is None else f"; about {duration(round(left_s))} left"
        others = f"; and {scheduled}" if len(jobs) < len(self._look.jobs) else ""
        return f"{100 * over // len(jobs)}% of {count_of(len(jobs), 'job')}: {counted}{left}{others}"

    def _left_s(self, over: int, count: int) -> float | None:
        """Return the seconds until all are over, at the rate since the first look; None if none has ended since it."""
        ended = over - (self._over_at_first or 0)
        if ended <= 0 or over == count:
            return None
        since_look_s = time.monotonic() - self._looked_s
        return max(0.0, (self._looked_s - self._began_s) / ended * (count - over) - since_look_s)

    def _reasons(self) -> list[str]:
        """Return the reasons why jobs wait, each once."""
        found = dict.fromkeys(map(self._words, self._look.waits.values()))
        return [f"waits: {reason}" for reason in list(found)[:MOST_REASONS]]


def _reason(wait: Waiting, *, max_wait_s: float, without_worker: str | None) -> str:
    """Return words for why a job waits."""
    if wait.kind == "no_worker" and without_worker is not None:
        return without_worker
    return waiting_words(wait, max_wait_s)


_GROUPS: Final = ("done", "failed", "cancelled", "running", "waiting")


def _group(one: JobProgress) -> str:
    """Return the status under which the summary counts a job; a job whose row is deleted counts as failed."""
    match one.status:
        case "COMPLETED":
            return "done"
        case "CANCELLED":
            return "cancelled"
        case "PROCESSING":
            return "running"
        case "PENDING":
            return "waiting"
        case _:
            return "failed"


def _stage(one: JobProgress) -> str:
    """Return the stage that a job runs, or that it waits to run again, or what it waits for; empty if it has none."""
    if one.is_over:
        return ""
    if one.is_scheduled:
        return "scheduled"
    if one.is_waiting_for_retry:
        return f"{one.stage or ''} (attempt {one.attempts + 1} waits)".strip()
    return (one.stage or "") if one.status == "PROCESSING" or one.attempts else ""
