"""Group commit: what the claims of one process write at the same moment is committed by one statement.

Each claim is fenced by itself, and no row is waited for. A write whose rows were locked goes with the next statement,
and after MOST_GROUPS of them alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Final, TypeAlias

import asyncpg

from config.failpoints import failpoints
from config.json_text import ready_json
from models.applications.registry import table_of
from models.collector import Collector, Unanswered
from models.connections import Connection
from models.database import Database
from models.database_retries import Waiting
from models.history.artifacts import Artifact
from models.job_state import JobStatus
from models.job_tables.table import JobTable
from models.queue.claims import Claim
from models.queue.transition_kinds import Checkpoint, Completed
from models.queue.transition_statements import ClaimWrite, as_json, parts_of, transition_statement
from models.queue.writing import Event, commit_name, write_alone

MOST_AT_ONCE: Final = 256
"""The most claims whose writes one statement commits."""

MOST_GROUPS: Final = 3
"""In how many groups a write may go whose rows were locked. Often only a claim had locked them in passing."""

GROUP_S: Final = 5.0
"""How long, in seconds, the statement of a group may take. If a trigger is slow, its group is then split."""


class _Entry(ClaimWrite):
    """What one claim has to write."""

    __slots__ = ("claim", "contention_s", "groups", "waiting")

    def __init__(self, claim: Claim, waiting: Waiting) -> None:
        super().__init__(claim.job_id, claim.id, claim.lease_token, [])
        self.claim = claim
        self.waiting = waiting
        self.contention_s: float | None = None
        self.groups = 0

    @property
    def parts(self) -> list[list[Event]]:
        """The events as they are written without a group: a picture's record first, so that nothing can refuse it.

        Checkpoints stay together. If they are committed already and only the answer got lost, the first of them alone
        would set the job back, and the next one would finish its stage for the second time.
        """
        pictures: list[list[Event]] = [] if self.artifact is None else [[self.artifact]]
        checkpoints: list[Event] = [one for one in self.transitions if isinstance(one, Checkpoint)]
        ends: list[list[Event]] = [[one] for one in self.transitions if not isinstance(one, Checkpoint)]
        return [*pictures, *([checkpoints] if checkpoints else []), *ends]

    @property
    def kinds(self) -> set[type[Event]]:
        """The kinds of its events."""
        kinds: set[type[Event]] = set(map(type, self.transitions))
        return kinds if self.artifact is None else kinds | {Artifact}


_Writes: TypeAlias = Collector[_Entry, JobStatus | None]


class GroupWriter:
    """Collects what the claims of one process write. All of it happens on one event loop."""

    def __init__(self, database: Database) -> None:
        """Store where rows are; the caller owns the database."""
        self._database = database
        self._writes: dict[str, _Writes] = {}

    def add(
        self, claim: Claim, event: Event, *, waiting: Waiting, contention_s: float | None = None
    ) -> "asyncio.Future[JobStatus | None]":
        """Write an event of a claim after its earlier ones; return a future that is done when it is committed.

        Its result is the status that a completed job has then; None after any other write. The future fails as
        `write_alone` does, and so do the futures of the claim's later events that were added by then. A failure stays
        unnoticed unless the future is awaited.

        Args:
            claim: the claim, which fences the write.
            event: what to write. It isn't Failed, which moves money and is written alone.
            waiting: the job, which leaves its lane if its rows stay locked for long.
            contention_s: how long the rows may be locked; None for CONTENTION_RETRY_S.
        """
        writes = self._writes.get(claim.job_type) or self._begin(table_of(claim.job_type), claim.job_type)
        item = writes.waiting(claim.lease_token)
        if item is None:
            item = writes.add(_Entry(claim, waiting), claim.lease_token)
            item.done.add_done_callback(_look_at)
        entry = item.work
        if isinstance(event, Artifact):
            entry.artifact = event
        else:
            entry.transitions.append(event)
        entry.contention_s = contention_s
        return item.done

    def _begin(self, table: JobTable, job_type: str) -> _Writes:
        """Make the collector of a table, for all of its job types."""
        writes: _Writes = Collector(
            partial(self._commit, table),
            self._write_alone,
            most=MOST_AT_ONCE,
            turns=self._database.turns_to_wait,
            concerning_all=(),
            repeats_lost=True,
        )
        self._writes |= dict.fromkeys(table.job_types, writes)
        return self._writes[job_type]

    async def _commit(self, table: JobTable, entries: Sequence[_Entry]) -> list[JobStatus | Unanswered | None]:
        """Run the statement of a group, and return what becomes of each entry."""
        writes = [as_json(table, number, entry) for number, entry in enumerate(entries)]
        writes.sort(key=itemgetter("job_id"))  # the order of locks
        statement, values = transition_statement(table, parts_of(writes), is_group=True), ready_json(writes)

        async def work(connection: Connection) -> list[asyncpg.Record]:
            with failpoints(commit_name(kind) for entry in entries for kind in entry.kinds):
                return await connection.fetch(statement, values, timeout=GROUP_S)

        rows = await self._database.commit("record_group", work, retry_for_s=0)
        labels = {row["n"]: row["label"] for row in rows}
        states = table.states
        return [_after_group(entry, number, labels, states) for number, entry in enumerate(entries)]

    async def _write_alone(self, entry: _Entry) -> JobStatus | None:
        """Write an entry without a group, each part of it in a transaction of its own that waits for locks."""
        ended = None
        for part in entry.parts:
            ended = await write_alone(
                self._database, entry.claim, *part, waiting=entry.waiting, contention_s=entry.contention_s
            )
        return None if ended is None else ended.status


def _after_group(
    entry: _Entry, number: int, labels: Mapping[int, str | None], states: Mapping[str, JobStatus]
) -> JobStatus | Unanswered | None:
    """Return what becomes of an entry whose group was written, or the status of the job that it has completed.

    Args:
        entry: the entry.
        number: its number in the group.
        labels: the labels of the jobs that were written, by number.
        states: the states of labels.
    """
    if number not in labels:
        entry.groups += 1
        return Unanswered.AGAIN if entry.groups < MOST_GROUPS else Unanswered.ALONE
    if not entry.transitions or type(entry.transitions[-1]) is not Completed:
        return None
    state = states.get(labels[number] or "")  # a trigger may have kept the row of a job that was to end
    return state if state is not None and state.is_terminal else Unanswered.ALONE


def _look_at(future: "asyncio.Future[JobStatus | None]") -> None:
    """Mark the error of a future as noticed: the next barrier of its claim raises it, if there is one."""
    if not future.cancelled():
        future.exception()
