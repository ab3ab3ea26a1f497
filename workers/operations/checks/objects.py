"""Checks of the storage, and of what happens to orphans."""

import hashlib
import uuid
from contextlib import suppress

from models.database import Database
from models.history.objects import PROBE
from models.periodic.orphans import reported_orphans
from pipelines.errors import MissingObjectError, StageError
from pipelines.settings import Settings
from pipelines.storage.backends import storage_place
from pipelines.storage.storage import Storage
from workers.objects import orphans_mode, recorded_storage, take_back
from workers.operations.checks.check import Check
from workers.process.runtime import make_storage
from workers.services.services import Services


async def check_storage(settings: Settings, services: Services, database: Database | None) -> Check:
    """Write, read and delete one object.

    Before the object is stored, it is recorded in the database, so that it is found as an orphan if this process dies
    before it deletes the object. If there is no database, only check that the storage answers.
    """
    data = uuid.uuid4().bytes
    key = f"doctor/{data.hex()}.bin"
    scheme = services.storage_url.split(":", 1)[0]
    try:
        storage = make_storage(settings, services)
        try:
            if database is None:
                with suppress(MissingObjectError):
                    await storage.head(key)
                return Check("storage", "ok", f"{scheme}: answers; nothing was stored, since no row can be written")
            is_same = await _probe(storage, database, key, data)
        finally:
            await storage.aclose()
    except (ValueError, StageError, OSError) as error:
        place = storage_place(services.storage_url)
        return Check("storage", "fail", f"{place}: {error}", "check STORAGE_URL, its rights and its free space")
    if not is_same:
        return Check("storage", "fail", "an object came back changed", "check STORAGE_URL")
    return Check("storage", "ok", f"{scheme}: takes, gives and deletes")


async def _probe(storage: Storage, database: Database, key: str, data: bytes) -> bool:
    sha256 = hashlib.sha256(data).hexdigest()
    recorded = recorded_storage(storage, database, job_type=PROBE, job_id=data.hex())
    await recorded.put(key, data, "application/octet-stream", sha256)
    is_same = await storage.get(key) == data
    await take_back(storage, database, key)
    return is_same


async def check_orphans(database: Database, settings: Settings) -> Check:
    """Return whether orphans are removed or only reported, why, and how many are reported."""
    mode = await database.run(lambda connection: orphans_mode(connection, settings))
    reported = await database.run(reported_orphans)
    found = f"{reported.orphans:,} are reported, {reported.size_bytes / 1e6:,.1f} MB"
    if mode.removes:
        return Check("orphans", "ok", f"removed a run after their report, since {mode.reason}; {found}")
    advice = "see darkroom.orphans; DARKROOM_ORPHANS=delete removes them" if reported.orphans else ""
    return Check("orphans", "ok", f"only reported, since {mode.reason}; {found}", advice)
