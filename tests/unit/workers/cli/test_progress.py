"""Progress of jobs on a terminal: nothing is cut but a name, and scheduled jobs are counted by themselves."""

import io
from typing import Any

import pytest
from rich.console import Console

from models.queue.outlook import Outlook
from models.queue.progress import JobProgress
from workers.cli.progress import _View
from workers.operations.watching import Look

IDS = [f"cmh5x2k9d0001qw08f3zt7ab{number}" for number in range(3)]
JOBS = (
    JobProgress(IDS[0], "enhance", "PENDING", "ANALYZING", elapsed_s=754),
    JobProgress(IDS[1], "enhance", "PENDING", "GENERATING", attempts=1, is_waiting_for_retry=True, elapsed_s=5),
    JobProgress(IDS[2], "enhance", "COMPLETED", elapsed_s=9),
)
ESTIMATE = "place 1,234, about 2 h 10 min"
SCHEDULED = JobProgress("later", "enhance", "PENDING", "ANALYZING", is_scheduled=True, elapsed_s=60)


def outlook(status: str = "PENDING") -> Outlook:
    return Outlook(status, "ANALYZING", 0, 1234, 7800, 1, 2, 3, 4, None)


def shown(width: int, jobs: tuple[JobProgress, ...], *, label: str = "enhance TIER_2K") -> list[str]:
    """Return the lines that a terminal of so many columns shows."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, highlight=False)
    view = _View({one.job_id: label for one in jobs}, screen, "type and tier", lambda wait: str(wait.kind))
    view.update(Look(jobs, {}, {IDS[0]: outlook(), IDS[2]: outlook()}))
    with screen.capture() as captured:
        screen.print(view.render())
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [72, 80, 100, 120, 200])
def test_ids_stages_and_estimates_are_whole_at_every_width(width: int) -> None:
    lines = shown(width, JOBS)

    assert max(map(len, lines)) <= width
    assert all(any(job_id in line for line in lines) for job_id in IDS)
    text = "\n".join(lines)
    for value in ("PENDING", "COMPLETED", "12 min 34 s", "GENERATING (attempt 2 waits)"):
        assert value in text
    assert text.count(ESTIMATE) == 1
    assert "33% of 3 jobs: 1 done, 2 waiting" in text


@pytest.mark.parametrize(("width", "count"), [(80, 7), (200, 5)])
def test_what_has_no_room_beside_a_row_stands_below_it(width: int, count: int) -> None:
    lines = shown(width, JOBS)

    assert len(lines) == count
    (place,) = [number for number, line in enumerate(lines) if ESTIMATE in line]
    assert (IDS[0] in lines[place]) == (width == 200)
    assert IDS[0] in lines[place] or IDS[0] in lines[place - 1]


def test_long_name_is_cut_and_leaves_room_for_the_rest() -> None:
    lines = shown(80, JOBS, label="a photograph with a very long name indeed.jpg")

    assert max(map(len, lines)) <= 80
    assert all(any(job_id in line for line in lines) for job_id in IDS)


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ((*JOBS, SCHEDULED), "33% of 3 jobs: 1 done, 2 waiting; and 1 scheduled job"),
        ((SCHEDULED,), "1 scheduled job"),
    ],
)
def test_scheduled_jobs_are_not_in_the_total(jobs: tuple[Any, ...], words: str) -> None:
    lines = shown(200, jobs)

    assert lines[-1] == words
    assert any("later" in line and "scheduled" in line for line in lines)


def test_nothing_is_shown_before_the_first_look() -> None:
    assert shown(80, ()) == []
