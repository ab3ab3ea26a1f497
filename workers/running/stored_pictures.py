"""Pictures that a job, or its owner, has already bought and stored: they aren't bought again."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from models.database import Database
from models.history.artifacts import Artifact, find_artifact, find_same, record_artifact
from models.queue.claims import Claim
from pipelines.job import Generated
from pipelines.storage.storage import Storage
from workers.running.translation import artifact_of, generated_of

T = TypeVar("T")


class Trip(Protocol):
    """Makes one trip to the database, and waits while PostgreSQL is gone."""

    async def __call__(self, trip: Callable[[], Awaitable[T]]) -> T:
        """Return what the trip returns."""


class StoredPictures:
    """Finds and writes down what is stored, each in a trip of its own."""

    def __init__(self, database: Database, storage: Storage, trip: Trip) -> None:
        """Keep where rows and objects are; the caller owns both."""
        self._database = database
        self._storage = storage
        self._trip = trip

    async def of_earlier_attempt(self, claim: Claim) -> Generated | None:
        """Return what an earlier attempt of this job has stored."""
        return self._generated(
            await self._trip(lambda: self._database.run(lambda connection: find_artifact(connection, claim)))
        )

    async def same(self, claim: Claim, input_hash: str) -> Generated | None:
        """Return what the same user has already of the same input."""
        return self._generated(
            await self._trip(lambda: self._database.run(lambda connection: find_same(connection, claim, input_hash)))
        )

    async def record(self, claim: Claim, picture: Generated) -> None:
        """Write down what is stored, before anything else can go wrong: from here on it isn't bought again."""
        artifact = artifact_of(picture)
        await self._trip(
            lambda: self._database.commit(
                "record_artifact", lambda connection: record_artifact(connection, claim, artifact)
            )
        )

    def _generated(self, artifact: Artifact | None) -> Generated | None:
        return None if artifact is None else generated_of(artifact, self._storage.url(artifact.key))
