"""What a periodic task is: a name, a schedule, and a chunk of its effect."""

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
    """What a chunk may use.

    Attributes:
        connection: in the transaction that will commit the chunk together with the tick's cursor.
        at: the tick's time, which is the task's only clock.
        cursor: what the chunk before returned; None for the first one.
        size: rows to take: it follows from how long the chunks before took.
        settings: as the environment says.
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
        """The tick's time as the application's columns hold it: UTC without a zone."""
        return self.at.astimezone(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk did: counts are added up over the tick; no cursor means that nothing is left to do."""

    cursor: Cursor | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Task:
    """A periodic task.

    Attributes:
        name: as operators know it.
        schedule: the default one.
        chunk: does the next part of the effect. The same chunk may run twice, in a transaction each, if the first one
            was lost before its commit.
        count: says what a tick at `work.at` would do, and writes nothing.
        rest_factor: how long to rest after a chunk, as a multiple of its time: load that yields to jobs.
        moves_money: runs in mode managed only.
        is_on: whether the settings ask for it.
        needs: columns of the application's that the task reads and that the tables of another tool may lack, as
            `schema.table.column`; without one of them the task is passed over.
    """

    name: str
    schedule: Schedule
    chunk: Callable[[Work], Awaitable[Chunk]]
    count: Callable[[Work], Awaitable[Mapping[str, int]]]
    rest_factor: float = 0
    moves_money: bool = False
    is_on: Callable[[Settings], bool] = lambda _settings: True
    needs: tuple[str, ...] = ()
