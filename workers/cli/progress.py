"""Jobs on their way: a live table on a terminal, a line for each change elsewhere."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from models.queue.progress import JobProgress
from workers.cli.output import cell, duration
from workers.operations.watching import watch_jobs
from workers.process.runtime import Runtime

REFRESHES_PER_S: Final = 4
LINES_AROUND: Final = 4
"""Header, summary and the line of the prompt: what a terminal's height must hold beside the jobs."""

GAP: Final = 2
LABEL_CHARS: Final = 28
LEAST_COLUMN: Final = 10
"""Width of a column whose widest cell may stand in another row."""


async def follow_jobs(
    runtime: Runtime,
    labels: Mapping[str, str],
    screen: Console,
    *,
    keeps_table: bool,
    label_title: str = "picture",
    on_look: Callable[[], Awaitable[None]] | None = None,
) -> list[JobProgress]:
    """Show jobs until all have ended; return where each ended, in the order given.

    Args:
        runtime: open.
        labels: what to call each job, by its id.
        screen: where to show it.
        keeps_table: leave the last table standing; else it makes way for what the caller prints.
        label_title: what the labels are.
        on_look: awaited after each look, at least once a second.
    """
    view = _View(labels, screen, label_title)
    live = (
        Live(get_renderable=view.render, console=screen, refresh_per_second=REFRESHES_PER_S, transient=not keeps_table)
        if screen.is_terminal
        else nullcontext()
    )
    progress: list[JobProgress] = []
    with live:
        async for progress in watch_jobs(runtime, labels):
            view.update(progress)
            if on_look is not None:
                await on_look()
    return progress


class _View:
    """What is shown; updated by the event loop, rendered by rich's own thread."""

    def __init__(self, labels: Mapping[str, str], screen: Console, label_title: str) -> None:
        self._labels = labels
        self._label_title = label_title
        self._screen = screen
        self._progress: Sequence[JobProgress] = ()
        self._looked_s = time.monotonic()
        self._said: dict[str, tuple[str | None, str | None, bool]] = {}

    def update(self, progress: Sequence[JobProgress]) -> None:
        self._looked_s = time.monotonic()
        self._progress = progress
        if not self._screen.is_terminal:
            for one in progress:
                self._say_if_changed(one)

    def _say_if_changed(self, one: JobProgress) -> None:
        now = (one.status, one.stage, one.is_waiting_for_retry)
        if self._said.get(one.job_id) == now:
            return
        self._said[one.job_id] = now
        parts = [one.job_id, self._labels[one.job_id], one.status or "DELETED", _stage(one), duration(one.elapsed_s)]
        reason = one.error if one.is_over or one.is_waiting_for_retry else None
        self._screen.print(Text("  ".join(part for part in [*parts, reason] if part)), soft_wrap=True)

    def render(self) -> RenderableType:
        since_s = time.monotonic() - self._looked_s
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for title in (self._label_title, "job", "status", "stage"):
            table.add_column(title, no_wrap=True, overflow="fold")
        table.add_column("time", justify="right", no_wrap=True)
        unfinished_first = sorted(self._progress, key=lambda one: one.is_over)
        shown = unfinished_first[: max(1, self._screen.height - LINES_AROUND)]
        for one in sorted(shown, key=self._progress.index):
            elapsed_s = one.elapsed_s + (0 if one.is_over else since_s)
            parts = (Text(one.job_id), cell(one.status or "DELETED"), Text(_stage(one)), Text(duration(elapsed_s)))
            table.add_row(self._label(one.job_id, parts), *parts)
        return Group(table, Text(self._summary(len(self._progress) - len(shown)), style="dim"))

    def _label(self, job_id: str, parts: Sequence[Text]) -> Text:
        """Return a job's label, cut where the terminal has no room for it beside the rest of its row."""
        label = Text(self._labels[job_id])
        room = self._screen.width - sum(max(part.cell_len, LEAST_COLUMN) + GAP for part in parts)
        label.truncate(max(LEAST_COLUMN, min(LABEL_CHARS, room)), overflow="ellipsis")
        return label

    def _summary(self, hidden: int) -> str:
        counts = Counter(one.status or "DELETED" for one in self._progress)
        text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        return f"{text} ({hidden} not shown)" if hidden else text


def _stage(one: JobProgress) -> str:
    """Say where a job is: its stage, also while it waits to do that stage again."""
    if one.is_over:
        return ""
    if one.is_waiting_for_retry:
        return f"{one.stage or ''} (attempt {one.attempts + 1} waits)".strip()
    return (one.stage or "") if one.status == "PROCESSING" or one.attempts else ""
