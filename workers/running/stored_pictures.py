"""Pictures that a job, or its user's earlier job, has already bought and stored, so that they aren't bought again."""

from functools import partial

from models.database import Database
from models.database_retries import read_with_retries
from models.history.artifacts import Artifact, find_same
from models.queue.claims import Claim
from pipelines.job import Generated
from pipelines.storage.storage import Storage


class StoredPictures:
    """Finds stored pictures."""

    def __init__(self, database: Database, storage: Storage) -> None:
        """Store where rows and objects are; the caller owns both."""
        self._database = database
        self._storage = storage

    async def same(self, claim: Claim, input_hash: str) -> Generated | None:
        """Return the picture that the same user already has from the same input; None if there is none."""
        artifact = await read_with_retries(self._database, partial(find_same, claim=claim, input_hash=input_hash))
        return None if artifact is None else generated_of(artifact, self._storage.url(artifact.key))


def artifact_of(picture: Generated) -> Artifact:
    """Return the record of a stored picture."""
    return Artifact(
        input_hash=picture.input_hash,
        key=picture.key,
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
        width_px=picture.width_px,
        height_px=picture.height_px,
        model=picture.model,
        temperature=picture.temperature,
        treatments=picture.treatments,
    )


def generated_of(artifact: Artifact, url: str) -> Generated:
    """Build the stage's picture from the record of a stored one, with the URL that its key has now."""
    return Generated(
        key=artifact.key,
        url=url,
        width_px=artifact.width_px,
        height_px=artifact.height_px,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        model=artifact.model,
        temperature=artifact.temperature,
        treatments=tuple(artifact.treatments),
        input_hash=artifact.input_hash,
    )
