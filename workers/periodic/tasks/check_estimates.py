"""Task check-estimates: estimates some jobs' ends, and learns from what they took how wide ranges must be."""

from collections.abc import Mapping
from typing import Final

from models.periodic.estimates import count_open, make_estimates, score_estimates
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

ESTIMATES: Final = 5
"""How many jobs are estimated each minute, so that a few hours give as many scores as estimates are compared with."""


async def check(work: Work) -> Chunk:
    """Score the estimates whose jobs are over, and make new ones."""
    scored = await score_estimates(work.connection)
    return Chunk(None, {"scored": scored, "estimated": await make_estimates(work.connection, ESTIMATES)})


async def count(work: Work) -> Mapping[str, int]:
    """Count the estimates that wait for the ends of their jobs."""
    return {"open": await count_open(work.connection)}


TASK: Final = Task("check-estimates", Schedule("* * * * *"), check, count)
