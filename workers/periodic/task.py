"""Periodic tasks: their interface, with a name, a schedule, and a function for a chunk of the work."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from models.connections import Connection
from models.periodic.ticks import Cursor
from pipelines.settings import Settings
from pipelines.storage.storage import Storage
from workers.periodic.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Work:
    """What a chunk of a task works with.

    Attributes:
        connection: in the transaction that will commit the chunk together with the tick's cursor.
        at: the tick's time, which the task uses as the current time.
        cursor: what the previous chunk returned; None for the first one.
        size: how many rows to work on; it is computed from how long earlier chunks took.
        settings: the settings.
        storage: where the objects are.
    """

    connection: Connection
    at: datetime
    cursor: Cursor | None
    size: int
    settings: Settings
    storage: Storage

    @property
    def at_utc(self) -> datetime:
        """The tick's time in the form of the application's columns: UTC without a zone."""
        return self.at.astimezone(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk did: counts are added up over the tick; a cursor of None means that nothing is left to do."""

    cursor: Cursor | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Task:
    """A periodic task.

    Attributes:
        name: its name for operators.
        schedule: its default schedule.
        chunk: function that does the next part of the work. A chunk that was lost before its commit runs again, in
            another transaction.
        count: function that returns what a tick at `work.at` would count, and writes nothing.
        rest_factor: how long to wait after a chunk, as a multiple of its duration, so that jobs aren't slowed down.
        moves_money: whether it runs in mode managed only.
        is_on: whether the settings switch it on.
        needs: columns of the application's that the task reads and that another tool's tables may lack, as
            `schema.table.column`; without one of them the task is skipped.
    """

    name: str
    schedule: Schedule
    chunk: Callable[[Work], Awaitable[Chunk]]
    count: Callable[[Work], Awaitable[Mapping[str, int]]]
    rest_factor: float = 0
    moves_money: bool = False
    is_on: Callable[[Settings], bool] = lambda _settings: True
    needs: tuple[str, ...] = ()
