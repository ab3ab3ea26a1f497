"""A running job: its claim, how far its run has come, and how the run is told to end."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from enum import StrEnum

from models.job_state import JobStatus
from models.queue.claims import Claim
from models.queue.ended import Ended
from models.queue.groups import GroupWriter
from models.queue.transitions import Transition
from models.queue.writing import Event
from pipelines.deadline import deadlines_paused
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage


class Ending(StrEnum):
    """Why a running job is told to end."""

    CLAIM_LOST = "claim lost"
    SHUTDOWN = "shutdown"


class Tally:
    """Counts of the jobs that a process runs, kept by the jobs, so that a look needn't go through thousands of them.

    Attributes:
        awaiting_call: jobs that will need a place at a provider soon. They have made no call yet, or wait for another.
        outside_lanes: jobs that wait without a lane.
    """

    __slots__ = ("awaiting_call", "outside_lanes")

    def __init__(self) -> None:
        self.awaiting_call = 0
        self.outside_lanes = 0


class RunningJob:
    """A claim, the task that runs it, and the state that decides how it may be ended.

    The run sets the stage and its beginning, the gate sets calls and answers, and code that writes to the database sets
    recording and lanes; the claim loop reads them, and tells the job to end. All of it happens on one event loop.

    Attributes:
        ended: what became of the job, once its end is committed.
        tried: the ends of this run that were tried to be written.
        is_fenced: whether the job's history says that the fence refused a write of this run.
        written: that one of `tried` which was committed although its answer never came; None if none was.
    """

    __slots__ = (
        "_acts",
        "_awaits_call",
        "_began_s",
        "_calls",
        "_claimed_s",
        "_ending",
        "_ends_after_stage",
        "_has_left_lane",
        "_holds_picture",
        "_is_recording",
        "_needs_place",
        "_tally",
        "_unsaved",
        "answer",
        "answer_call",
        "claim",
        "ended",
        "is_fenced",
        "stage",
        "stages_ms",
        "task",
        "tried",
        "written",
    )

    def __init__(self, claim: Claim, tally: Tally | None = None) -> None:
        """Store the claim and begin at the stage that it names; the code that starts the run sets `task`.

        Args:
            claim: the claim.
            tally: counts this job until `count_out`.
        """
        self.claim = claim
        self.task: asyncio.Task[None] | None = None
        self._tally = tally or Tally()
        self._calls = 0
        self._awaits_call = False
        self._needs_place = False
        self._is_recording = False
        self._has_left_lane = False
        self._ends_after_stage = False
        self._ending: Ending | None = None
        self._unsaved: asyncio.Future[JobStatus | None] | None = None
        self.ended: Ended | None = None
        self.tried: list[Transition] = []
        self.is_fenced = False
        self.written: Transition | None = None
        self._claimed_s = time.monotonic()
        self.stages_ms: dict[str, int] = {}
        self.await_call()
        self.begin(claim.stage)

    def begin(self, stage: str) -> None:
        """Begin a stage: count its time from now, and forget the picture of the stage before."""
        self.stage = stage
        self._acts = False
        self._began_s = time.monotonic()
        self.answer: Answer[EncodedImage] | None = None
        self.answer_call: int | None = None
        self._holds_picture = False

    def finish_stage(self) -> int:
        """Return how long the current stage took, in milliseconds, and keep it for the job's log line."""
        self.stages_ms[self.stage] = duration_ms = self.stage_ms
        return duration_ms

    @property
    def run_ms(self) -> int:
        """How long the job has been held by this process, in milliseconds."""
        return round((time.monotonic() - self._claimed_s) * 1000)

    @property
    def stage_ms(self) -> int:
        """How long the stage has run, in milliseconds."""
        return round((time.monotonic() - self._began_s) * 1000)

    def send(self, writer: GroupWriter, event: Event, *, contention_s: float | None = None) -> None:
        """Write an event of the claim with the next group; `saved` waits until it is committed.

        Args:
            writer: what writes it.
            event: the event. It isn't Failed, which is written alone.
            contention_s: how long its rows may be locked; None for CONTENTION_RETRY_S.

        Raises:
            FencedError, ContentionError, asyncpg.PostgresError: an earlier event wasn't written, so this isn't either.
        """
        if self._unsaved is not None and self._unsaved.done():
            self._unsaved.result()
        self._unsaved = writer.add(self.claim, event, waiting=self, contention_s=contention_s)

    async def saved(self) -> JobStatus | None:
        """Wait until everything is committed that was sent; return the status of the job if it has been completed.

        It is awaited before anything outside this process is done for the job: a provider's call or its record, an
        object's record, the reuse of a picture, and an end of the run other than COMPLETED. So a stage that did any of
        these never begins before the database says that the stages before it have finished. Once an event wasn't
        written, this raises whenever it is called, until `forget_unwritten`. A stage's deadline stands still meanwhile.

        Raises:
            FencedError: another worker holds the job, or it is over.
            ContentionError, asyncpg.PostgresError: its row was locked for long, or the database refused the write.
        """
        self._acts = True
        if self._unsaved is not None:
            with deadlines_paused():
                return await asyncio.shield(self._unsaved)  # whoever cancels this job doesn't cancel what it has sent
        return None

    @property
    def has_unwritten(self) -> bool:
        """Whether an event of the claim wasn't written. Then no later one of this run is."""
        return self._unsaved is not None and self._unsaved.done() and self._unsaved.exception() is not None

    def forget_unwritten(self) -> None:
        """Let an end be written that follows from the error of an event which wasn't."""
        if self.has_unwritten:
            self._unsaved = None

    @property
    def acts(self) -> bool:
        """Whether the current stage does something outside this process, so that its checkpoint is waited for."""
        return self._acts

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Count a provider call as in flight until the block ends."""
        self._calls += 1
        self._set_awaits_call(awaits=False)
        try:
            yield
        finally:
            self._calls -= 1

    def await_call(self) -> None:
        """Record that the job needs a place at a provider for its next call."""
        self._set_awaits_call(awaits=True)

    def _set_awaits_call(self, *, awaits: bool) -> None:
        self._awaits_call = awaits
        self._count()

    def _count(self) -> None:
        """Count the job in its tally if it will need a place at a provider soon.

        One that waits for a row, or whose result is being recorded, needs none soon.
        """
        needs_place = self._awaits_call and not self._has_left_lane and not self._is_recording
        self._tally.awaiting_call += needs_place - self._needs_place
        self._needs_place = needs_place

    def hold_answer(self, answer: Answer[EncodedImage], call: int | None = None) -> None:
        """Take a picture that has to be finished and stored, and the call of the job that has brought it, if known."""
        self.answer = answer
        self.answer_call = call

    def drop_answer(self) -> None:
        """Forget the picture that a call has brought, because it is recorded, or isn't what was asked for."""
        self.answer = None
        self.answer_call = None

    def hold_picture(self, *, holds: bool = True) -> None:
        """Record whether the picture of this stage only has to be stored, finished or as it came."""
        self._holds_picture = holds

    @property
    def holds_picture(self) -> bool:
        """Whether the picture of this stage only has to be stored."""
        return self._holds_picture

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Mark the job, until the block ends, as one whose end is written; after that its claim is gone as expected.

        A check for lost claims must not interrupt the write.
        """
        self._is_recording = True
        self._count()
        try:
            yield
        finally:
            self._is_recording = False
            self._count()

    @property
    def can_be_lost(self) -> bool:
        """Whether a missing claim is a lost one; it isn't if the job's end is being written."""
        return not self._is_recording

    def leave_lane(self) -> None:
        """Free the lane for another job, because this job's result waits for a row that another program holds."""
        self._set_has_left_lane(has_left=True)

    def take_lane(self) -> None:
        """Use a lane again."""
        self._set_has_left_lane(has_left=False)

    def _set_has_left_lane(self, *, has_left: bool) -> None:
        self._tally.outside_lanes += has_left - self._has_left_lane
        self._has_left_lane = has_left
        self._count()

    def count_out(self) -> None:
        """Take the job out of its tally, because its run is over."""
        self._awaits_call = False
        self._set_has_left_lane(has_left=False)

    @property
    def has_left_lane(self) -> bool:
        """Whether the job waits without a lane."""
        return self._has_left_lane

    @property
    def ends_after_stage(self) -> bool:
        """Whether the run will end once the checkpoint of the current stage is stored."""
        return self._ends_after_stage

    def lose_claim(self) -> None:
        """End the run, unless its end is being written: then the fence decides whether the write takes effect."""
        if self.can_be_lost:
            self.end(Ending.CLAIM_LOST)

    def shut_down(self, *, has_grace: bool) -> None:
        """End the run because the process stops.

        A run that has an answer or a picture, writes its end or waits for a call with grace ends after its stage;
        others at once.

        Args:
            has_grace: whether provider calls in flight get time to answer.
        """
        has_picture = self.answer is not None or self._holds_picture
        if self._is_recording or has_picture or (has_grace and self._calls > 0):
            self._ends_after_stage = True
        else:
            self.end(Ending.SHUTDOWN)

    def end(self, ending: Ending) -> None:
        """Cancel the job's task, once, and store the reason."""
        if self._ending is None and self.task is not None:
            self._ending = ending
            self.task.cancel()

    @property
    def has_lost_claim(self) -> bool:
        """Whether the run was ended because its claim is lost."""
        return self._ending is Ending.CLAIM_LOST

    def told_to_end(self) -> Ending | None:
        """Return why `end` has cancelled the task, so that the task may await again; None if it wasn't `end`.

        Whoever catches a CancelledError of the task calls this, and raises the error again if the result is None.
        """
        task = asyncio.current_task()
        if self._ending is not None and task is not None:
            task.uncancel()
        return self._ending
