"""Objects that Darkroom stores and removes.

Each is recorded before it is stored, and only recorded ones are removed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Literal

from typing_extensions import override

from models.collector import Collector
from models.connections import Connection
from models.database import Database
from models.database_retries import with_database_retries
from models.history.objects import NewObject, OwnObject, forget_objects, own_object, record_object, record_objects
from models.periodic.orphans import are_tables_ours
from pipelines.errors import BadImageError, MissingObjectError
from pipelines.settings import Settings
from pipelines.storage.storage import MAX_OBJECT_BYTES, ListedObject, ObjectHead, Storage

MOST_TOGETHER: Final = 128
"""The most objects that one statement records."""

Fate = Literal["removed", "missing", "overwritten"]
"""What happened to an object that was to be removed. An object that another program has overwritten isn't removed."""


@dataclass(frozen=True, slots=True)
class OrphansMode:
    """What happens to orphans.

    Attributes:
        removes: whether orphans that an earlier run has reported are removed.
        covers_other_applications: whether that is so of objects of other applications than `pictures`, too: another
            tool always made their tables.
        removes_answers: whether those are removed that were answers of providers. No row names one, and only Darkroom
            reads them, so they stay only where somebody has forbidden every removal.
        covers_producers_inputs: whether inputs of finished jobs that a producer uploaded are removed too.
        reason: why, for people.
    """

    removes: bool
    covers_other_applications: bool
    removes_answers: bool
    covers_producers_inputs: bool
    reason: str


async def orphans_mode(connection: Connection, settings: Settings) -> OrphansMode:
    """Return what happens to orphans in this database: what DARKROOM_ORPHANS says or, if it isn't set, the default.

    Without that setting, orphans are removed only if Darkroom made the application's tables.
    """
    if settings.orphans is not None:
        is_set = settings.orphans == "delete"
        return OrphansMode(is_set, is_set, is_set, is_set, f"DARKROOM_ORPHANS={settings.orphans}")
    is_ours = await are_tables_ours(connection)
    reason = "Darkroom made the tables" if is_ours else "another tool made the tables"
    return OrphansMode(
        removes=is_ours,
        covers_other_applications=False,
        removes_answers=True,
        covers_producers_inputs=False,
        reason=reason,
    )


Record = Callable[[str, str, int], Awaitable[None]]
"""Function that records key, sha256 and size in bytes of an object that is about to be stored, and commits."""


class RecordedStorage(Storage):
    """A storage that records each object, in a transaction of its own, before it stores the object."""

    def __init__(self, storage: Storage, record: Record) -> None:
        """Wrap a storage, which the caller still owns and closes."""
        self._storage = storage
        self._record = record

    @override
    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        await self._record(key, sha256, len(data))
        await self._storage.put(key, data, content_type, sha256)

    @override
    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        return await self._storage.get(key, max_bytes=max_bytes)

    @override
    async def head(self, key: str) -> ObjectHead:
        return await self._storage.head(key)

    @override
    async def delete(self, key: str) -> None:
        await self._storage.delete(key)

    @override
    async def list_objects(self, prefix: str, *, after: str = "", most: int = 1_000) -> list[ListedObject]:
        return await self._storage.list_objects(prefix, after=after, most=most)

    @override
    def url(self, key: str) -> str:
        return self._storage.url(key)

    @override
    async def presign(self, key: str, expires: timedelta) -> str:
        return await self._storage.presign(key, expires)

    @override
    async def aclose(self) -> None:
        return


class ObjectRecords:
    """Records, and commits, the objects that the jobs of one process are about to store; those of a moment together.

    An object whose row is locked, or that the database refuses, is recorded alone: no job waits for another one's.
    """

    def __init__(self, database: Database) -> None:
        """Store where the records are."""
        self._database = database
        self._recording: Collector[NewObject, None] = Collector(
            self._record_all, self._record, most=MOST_TOGETHER, turns=database.turns_to_wait
        )

    async def add(self, new: NewObject) -> None:
        """Record an object. While PostgreSQL is unreachable, wait and repeat it.

        Raises:
            ContentionError, asyncpg.PostgresError: it isn't recorded, and must not be stored.
        """
        await with_database_retries(partial(self._recording.ask, new))

    async def _record_all(self, objects: Sequence[NewObject]) -> Sequence[None]:
        await self._database.commit("record_object", partial(record_objects, objects=objects), retry_for_s=0)
        return [None] * len(objects)

    async def _record(self, one: NewObject) -> None:
        await self._database.commit("record_object", partial(record_objects, objects=[one]))


def recorded_storage(storage: Storage, database: Database, *, job_type: str, job_id: str) -> RecordedStorage:
    """Return a storage that records objects for one job, or for what `models.history.objects` names instead.

    Args:
        storage: where objects are stored.
        database: where they are recorded.
        job_type: type of the job.
        job_id: id of the job.
    """

    async def record(key: str, sha256: str, size_bytes: int) -> None:
        def work(connection: Connection) -> Awaitable[None]:
            return record_object(
                connection, key, job_type=job_type, job_id=job_id, sha256=sha256, size_bytes=size_bytes
            )

        await database.commit("record_object", work)

    return RecordedStorage(storage, record)


async def remove_own(storage: Storage, one: OwnObject) -> Fate:
    """Remove an object if its content is still what Darkroom stored; the caller deletes its record.

    Raises:
        StorageUnavailableError: the storage failed; the object may still be there.
    """
    try:
        if one.sha256 is not None and (await storage.head(one.key)).sha256 != one.sha256:
            return "overwritten"
    except MissingObjectError:
        return "missing"
    except BadImageError:  # larger than any object that Darkroom stores
        return "overwritten"
    await storage.delete(one.key)
    return "removed"


async def take_back(storage: Storage, database: Database, key: str) -> None:
    """Remove an object that was just stored for a row, because the database refused the row; nobody has seen its key.

    Raises:
        StorageUnavailableError: it may still be there; it will be found as an orphan.
    """
    one = await database.run(lambda connection: own_object(connection, key))
    if one is not None:
        await remove_own(storage, one)
        await database.commit("forget_object", lambda connection: forget_objects(connection, [one]))
