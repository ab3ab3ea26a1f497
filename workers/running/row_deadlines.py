"""Deadlines in the rows of claims, which follow those of the stages that this process runs.

A stage's deadline stands still while its job waits for what others hold (`pipelines.deadline`). The one in its claim's
row, after which any process rescues the claim, has to move on meanwhile.
"""

import asyncio
import math
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from config.logger import EventLogger
from config.outcome import outcome_of
from models.database import Database
from models.queue.claims import Claim, prolong
from pipelines.deadline import Deadline

log = EventLogger(__name__)

LOOK_S: Final = 5.0
"""Seconds between two looks at the deadlines; a claim is rescued 30 s after the one in its row."""

BEHIND_S: Final = 1.0
"""A row's deadline may be so many seconds before that of its stage."""


@dataclass(slots=True)
class _Followed:
    """The deadline of a claim's stages.

    `written_s` is the time of the event loop that the claim's row has for it, if the deadline of the stage that runs
    was planned for `planned_s`.
    """

    claim: Claim
    deadline: Deadline
    planned_s: float = math.nan
    written_s: float = math.nan

    def late_s(self, now_s: float) -> float:
        """Return how many seconds after the one in the claim's row the deadline is; 0 if it has passed.

        A run that doesn't end at its deadline hangs, and its claim is to be rescued.
        """
        if self.planned_s != self.deadline.planned_s:  # another stage has begun, and the row has its deadline
            self.planned_s = self.written_s = self.deadline.planned_s
        if self.deadline.has_passed:
            return 0.0
        return now_s + self.deadline.left_s - self.written_s


class RowDeadlines:
    """Moves the deadlines in the rows of one process's claims, in one statement for all that are due at a look."""

    def __init__(self, database: Database) -> None:
        """Store where the rows are; the caller owns the database."""
        self._database = database
        self._followed: dict[UUID, _Followed] = {}
        self._following: asyncio.Task[None] | None = None

    def follow(self, claim: Claim, deadline: Deadline) -> None:
        """Let the deadline in a claim's row follow that of its stages, until `forget`."""
        self._followed[claim.lease_token] = _Followed(claim, deadline)
        if self._following is None or self._following.done():
            # not in the context of the job: its log fields and deadlines are its own
            loop = asyncio.get_running_loop()
            self._following = loop.create_task(self._follow(), name="deadlines of rows", context=Context())

    def forget(self, claim: Claim) -> None:
        """Follow no deadline of a claim any more, because its run is over."""
        self._followed.pop(claim.lease_token, None)

    async def _follow(self) -> None:
        """Look at the deadlines as long as jobs run."""
        while self._followed:
            await asyncio.sleep(LOOK_S)
            now_s = asyncio.get_running_loop().time()
            due = [(one, one.deadline.left_s) for one in self._followed.values() if one.late_s(now_s) >= BEHIND_S]
            if due:
                work = partial(prolong, held=[(one.claim, left_s) for one, left_s in due])
                outcome = await outcome_of(self._database.commit("prolong_waiting", work))
                if isinstance(outcome, Exception):
                    log.warning("deadline_move_failed", error=str(outcome), error_type=type(outcome).__name__)
                    continue
                for one, left_s in due:
                    if one.claim.id in outcome:  # a row that another session holds is moved at a later look
                        one.written_s = now_s + left_s
