"""Group commit: what the claims of one process write at the same moment is committed by one statement.

While one statement is under way, further writes wait, and the next statement takes them all; nothing waits for a time
in order to make a group larger. Each claim is fenced by itself, and no row is waited for. A write whose rows were
locked goes with the next statement, and after MOST_GROUPS of them alone. If a statement is refused, each of its writes
goes alone, so that one job's refusal concerns no other job.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Final
from uuid import UUID

import asyncpg

from config.failpoints import failpoints
from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import Connection, DatabaseLostError
from models.database import Database
from models.database_retries import DATABASE_GONE_S, Waiting
from models.history.artifacts import Artifact
from models.job_tables.registry import table_of
from models.job_tables.table import JobTable
from models.queue.claims import Claim
from models.queue.transition_kinds import Checkpoint, Completed
from models.queue.transition_statements import ClaimWrite, as_json, transition_statement
from models.queue.writing import Event, commit_name, write_alone

log = EventLogger(__name__)

MOST_AT_ONCE: Final = 256
"""The most claims whose writes one statement commits."""

MOST_GROUPS: Final = 3
"""In how many groups a write may go whose rows were locked. Often only a claim had locked them in passing."""

TURNS: Final = 5
"""Turns of the event loop before a statement is sent.

In so many turns the jobs that the former statement has set free write again, if they only compute.
"""

GROUP_S: Final = 5.0
"""How long, in seconds, the statement of a group may take. If a trigger is slow, its writes then go alone."""


class _Entry:
    """What one claim has to write, in order, and the future that is done when it is committed."""

    __slots__ = ("claim", "contention_s", "context", "events", "future", "groups", "waiting")

    def __init__(self, claim: Claim, waiting: Waiting, future: "asyncio.Future[None]") -> None:
        self.claim = claim
        self.waiting = waiting
        self.contention_s: float | None = None
        self.events: list[Event] = []
        self.future = future
        self.groups = 0
        self.context = copy_context()
        """What its log lines say of the job, if it is written alone."""

    @property
    def write(self) -> ClaimWrite:
        transitions = [one for one in self.events if not isinstance(one, Artifact)]
        artifact = next((one for one in reversed(self.events) if isinstance(one, Artifact)), None)
        return ClaimWrite(self.claim.job_id, self.claim.id, self.claim.lease_token, transitions, artifact)

    @property
    def parts(self) -> list[list[Event]]:
        """The events as they are written without a group: a picture's record first, so that nothing can refuse it.

        Checkpoints stay together. If they are committed already and only the answer got lost, the first of them alone
        would set the job back, and the next one would finish its stage for the second time.
        """
        pictures: list[list[Event]] = [[one] for one in self.events if isinstance(one, Artifact)]
        checkpoints: list[Event] = [one for one in self.events if isinstance(one, Checkpoint)]
        ends: list[list[Event]] = [[one] for one in self.events if not isinstance(one, Artifact | Checkpoint)]
        return [*pictures, *([checkpoints] if checkpoints else []), *ends]

    @property
    def ends_completed(self) -> bool:
        return isinstance(self.events[-1], Completed)


class GroupWriter:
    """Collects what the claims of one process write. All of it happens on one event loop."""

    def __init__(self, database: Database) -> None:
        """Store where rows are; the caller owns the database."""
        self._database = database
        self._groups: dict[JobTable, _Group] = {}

    def add(
        self, claim: Claim, event: Event, *, waiting: Waiting, contention_s: float | None = None
    ) -> "asyncio.Future[None]":
        """Write an event of a claim after its earlier ones; return a future that is done when it is committed.

        The future fails as `write_alone` does, and so do the futures of the claim's later events that were added by
        then. A failure stays unnoticed unless the future is awaited.

        Args:
            claim: the claim, which fences the write.
            event: what to write. It isn't Failed, which moves money and is written alone.
            waiting: the job, which leaves its lane if its rows stay locked for long.
            contention_s: how long the rows may be locked; None for CONTENTION_RETRY_S.
        """
        table = table_of(claim.job_type)
        group = self._groups.get(table)
        if group is None:
            group = self._groups[table] = _Group(self._database, table)
        return group.add(claim, event, waiting, contention_s)


class _Group:
    """The writes to one job table."""

    def __init__(self, database: Database, table: JobTable) -> None:
        self._database = database
        self._table = table
        self._waiting: dict[UUID, _Entry] = {}
        self._under_way: set[UUID] = set()
        self._again: list[_Entry] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False

    def add(self, claim: Claim, event: Event, waiting: Waiting, contention_s: float | None) -> "asyncio.Future[None]":
        entry = self._waiting.get(claim.lease_token)
        if entry is None:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(_look_at)
            entry = self._waiting[claim.lease_token] = _Entry(claim, waiting, future)
        entry.events.append(event)
        entry.contention_s = contention_s
        self._run_soon()
        return entry.future

    def _run_soon(self) -> None:
        if not self._is_running:
            self._is_running = True
            self._start(self._run(), Context())  # its log lines are about many jobs

    def _start(self, work: Coroutine[None, None, None], context: Context) -> None:
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Send statement after statement until nothing is left that may be sent."""
        try:
            while True:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                batch = self._take()
                if not batch:
                    return
                await self._send(batch)
        finally:
            self._is_running = False

    def _take(self) -> list[_Entry]:
        """Return the entries of the next statement: at most one of each claim, so that its events keep their order."""
        batch, self._again = self._again, []
        free = [token for token in self._waiting if token not in self._under_way]
        for token in free[: MOST_AT_ONCE - len(batch)]:
            self._under_way.add(token)
            batch.append(self._waiting.pop(token))
        return batch

    async def _send(self, batch: Sequence[_Entry]) -> None:
        """Commit a group, and see to what wasn't written."""
        labels = await outcome_of(self._commit(batch))
        if isinstance(labels, DatabaseLostError):  # whether it was committed shows when it is sent again
            log.warning("database_awaited", error=str(labels), error_type=type(labels).__name__)
            self._again += batch
            await asyncio.sleep(DATABASE_GONE_S)
            return
        if isinstance(labels, Exception):  # for whichever job it was refused, the others are to be written
            log.warning("group_refused", count=len(batch), error=str(labels), error_type=type(labels).__name__)
            for entry in batch:
                self._start(self._write_alone(entry), entry.context)
            return
        for number, entry in enumerate(batch):
            if self._is_written(entry, number, labels):
                self._end(entry)
                continue
            entry.groups += 1
            if entry.groups < MOST_GROUPS and number not in labels:
                self._again.append(entry)
            else:
                self._start(self._write_alone(entry), entry.context)

    def _is_written(self, entry: _Entry, number: int, labels: dict[int, str | None]) -> bool:
        """Return whether an entry was written; a trigger may have kept the row of a job that was to end."""
        if number not in labels:
            return False
        state = self._table.states.get(labels[number] or "")
        return not entry.ends_completed or (state is not None and state.is_terminal)

    async def _commit(self, batch: Sequence[_Entry]) -> dict[int, str | None]:
        """Run the statement of a group; return the labels of the jobs that were written, by place in the group."""
        writes = [entry.write for entry in batch]
        statement = transition_statement(self._table, set().union(*(one.parts for one in writes)), is_group=True)
        values = [as_json(self._table, number, one) for number, one in enumerate(writes)]
        values.sort(key=_job_id)  # the order of locks
        names = {commit_name(event) for entry in batch for event in entry.events}

        async def work(connection: Connection) -> list[asyncpg.Record]:
            with failpoints(sorted(names)):
                return await connection.fetch(statement, values, timeout=GROUP_S)

        rows = await self._database.commit("record_group", work, retry_for_s=0)
        return {row["n"]: row["label"] for row in rows}

    async def _write_alone(self, entry: _Entry) -> None:
        """Write an entry without a group, each part of it in a transaction of its own that waits for locks."""
        for part in entry.parts:
            written = await outcome_of(
                write_alone(self._database, entry.claim, *part, waiting=entry.waiting, contention_s=entry.contention_s)
            )
            if isinstance(written, Exception):
                self._fail(entry, written)
                return
        self._end(entry)

    def _end(self, entry: _Entry) -> None:
        self._under_way.discard(entry.claim.lease_token)
        if not entry.future.done():
            entry.future.set_result(None)
        if entry.claim.lease_token in self._waiting:
            self._run_soon()

    def _fail(self, entry: _Entry, error: Exception) -> None:
        """Fail an entry, and what the claim was to write after it."""
        self._under_way.discard(entry.claim.lease_token)
        later = self._waiting.pop(entry.claim.lease_token, None)
        for one in (entry, later):
            if one is not None and not one.future.done():
                one.future.set_exception(error)


def _job_id(value: dict[str, object]) -> str:
    return str(value["job_id"])


def _look_at(future: "asyncio.Future[None]") -> None:
    """Mark the error of a future as noticed: the next barrier of its claim raises it, if there is one."""
    if not future.cancelled():
        future.exception()
